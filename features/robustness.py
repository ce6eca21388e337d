"""How far each column moves when the sound is the same: measured once, stored beside this.

`robustness.json` is written by `benchmarks/robustness.py`; it names its command and data.
It holds the columns of the default configuration.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("robustness.json")


@dataclass(frozen=True, slots=True)
class Robustness:
    """Mean change of a column, in standard deviations between windows of real recordings.

    Attributes:
        gain: at a gain of -20 dB.
        ogg: after OGG Vorbis, encoded and decoded.
        mp3: after MP3, encoded and decoded.
        shift: with windows that start 8 ms later.
    """

    gain: float
    ogg: float
    mp3: float
    shift: float

    @property
    def worst(self) -> float:
        """The largest of the four."""
        return max(self.gain, self.ogg, self.mp3, self.shift)


@functools.cache
def report() -> dict[str, Any]:
    """The whole file: command, data, libraries, and values by column."""
    content: dict[str, Any] = json.loads(PATH.read_text("utf-8"))
    return content


@functools.cache
def robustness() -> Mapping[str, Robustness]:
    """Every measured column, by name."""
    return {name: Robustness(**values) for name, values in report()["columns"].items()}
