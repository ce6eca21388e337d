"""The `birdstack` command as a user types it, in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from birdstack.stacking.cli import app


def _no_constant(name: str) -> Any:
    message = f"{name} is no JSON"
    raise AssertionError(message)


@dataclass(frozen=True)
class Ran:
    """What a command has said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every line of stdout as strict JSON: NaN is none."""
        return [json.loads(line, parse_constant=_no_constant) for line in self.out.splitlines()]

    def named(self, event: str) -> list[dict[str, Any]]:
        """Events of one name."""
        return [each for each in self.events if each["event"] == event]


def birdstack(*words: object) -> Ran:
    """Run one command."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)
