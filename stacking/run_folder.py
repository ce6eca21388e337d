"""What a run of `birdstack stack` leaves behind, for reports, evaluation and export to read.

```
RUN/
  run.json                           what it is: store and snapshot, classes, domains, what ships
  scores.json                        every control and the stack in each domain, with intervals
  oof.parquet                        what is shipped, honest out-of-fold scores of all rows
  stack/                             the saved stack, and design.json: how its columns are made
  windows/<domain>/rows.parquet      keys, seconds, fold, group, place and time of each window
  windows/<domain>/truth.parquet     1, 0, null
  windows/<domain>/<score>.parquet   shipped, stack, chosen, mean_kernel, backbone-<name>
```
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.stacking.domains import Domain
from birdstack.store.errors import CorruptError, FormatVersionError, UsageError
from birdstack.store.labels import UNKNOWN

FORMAT = 1
RUN, SCORES, OOF, STACK, WINDOWS, DESIGN = (
    "run.json",
    "scores.json",
    "oof.parquet",
    "stack",
    "windows",
    "design.json",
)
_KEPT_SCORES = ("shipped", "stack", "chosen", "mean_kernel")
_KEYS = ("recording_id", "window")


def claim(folder: Path) -> None:
    """Hold that a folder can take a run: it is not there, empty, or holds an earlier run.

    Raises:
        UsageError: it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        message = f"--out {folder}: a file lies there"
        raise UsageError(message, remedy="name a folder")
    if not folder.exists():
        return
    there = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    ours = {
        RUN,
        SCORES,
        OOF,
        STACK,
        WINDOWS,
        "work",
        "bundle",
        "study.log",
        "report.html",
        "report.json",
        "report.csv",
    }
    strange = [name for name in there if name not in ours]
    if there and RUN not in there and SCORES not in there and strange:
        message = f"--out {folder}: holds {strange[0]!r}, and no earlier run"
        raise UsageError(message, remedy="name an empty folder, or one that does not exist")


def read_run(folder: Path) -> dict[str, Any]:
    """`run.json` of a run folder.

    Raises:
        UsageError: there is none.
        FormatVersionError: a newer birdstack wrote it.
        CorruptError: it cannot be read.
    """
    path = folder / RUN
    if not path.is_file():
        message = f"{folder}: no run of birdstack stack ({RUN} is missing)"
        raise UsageError(message, remedy="name the folder given to birdstack stack as --out")
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version = int(found["format"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path}: cannot be read ({error})"
        raise CorruptError(message, remedy="run birdstack stack again") from error
    if version > FORMAT:
        message = f"{path}: format {version}, this birdstack reads up to {FORMAT}"
        raise FormatVersionError(message, remedy="update birdstack")
    return found


def write_domains(folder: Path, domains: Sequence[Domain], places: pl.DataFrame | None) -> None:
    """Write the rows, labels and scores of every domain.

    Args:
        folder: of the run.
        domains: to write.
        places: `recording_id` and what is known of it, to go beside the keys; None for nothing.
    """
    shutil.rmtree(folder / WINDOWS, ignore_errors=True)
    for domain in domains:
        into = folder / WINDOWS / domain.name
        into.mkdir(parents=True)
        keys = domain.keys.filter(domain.rows)
        rows = keys.with_columns(
            pl.Series("fold", domain.table.window_fold[domain.rows], dtype=pl.Int32),
            pl.Series(
                "group",
                np.asarray(domain.table.groups, dtype=object)[
                    domain.table.recording[domain.rows]
                ].tolist(),
                dtype=pl.String,
            ),
        )
        if places is not None:
            rows = rows.join(places, on="recording_id", how="left", maintain_order="left")
        write_whole(into / "rows.parquet", rows.write_parquet)
        names = domain.table.classes
        if domain.has_truth:
            truth = domain.table.truth[domain.rows]
            frame = _beside(keys, names, truth, pl.Int8)
            known = frame.with_columns(pl.col(names).replace(UNKNOWN, None))
            write_whole(into / "truth.parquet", known.write_parquet)
        for name, scores in _kept(domain).items():
            frame = _beside(keys, names, scores[domain.rows], pl.Float32)
            write_whole(into / f"{name}.parquet", frame.write_parquet)


def score_frame(keys: pl.DataFrame, classes: Sequence[str], scores: np.ndarray) -> pl.DataFrame:
    """`recording_id`, `window`, one column of scores for each class."""
    return _beside(keys, classes, scores, pl.Float32)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all; what JSON lacks becomes null."""
    text = json.dumps(finite(value), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda aside: aside.write_text(text, "utf-8"))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file aside and put it in place whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    write(aside)
    aside.replace(path)


def finite(value: Any) -> Any:
    """The same with null for numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _kept(domain: Domain) -> dict[str, np.ndarray]:
    kept = {name: domain.scores[name] for name in _KEPT_SCORES if name in domain.scores}
    backbones = zip(domain.table.backbones, domain.table.logits, strict=True)
    return kept | {f"backbone-{name}": layer for name, layer in backbones}


def _beside(
    keys: pl.DataFrame, names: Sequence[str], values: np.ndarray, dtype: type[pl.DataType]
) -> pl.DataFrame:
    columns = [pl.Series(name, values[:, i], dtype=dtype) for i, name in enumerate(names)]
    return pl.concat([keys.select(_KEYS), pl.DataFrame(columns)], how="horizontal")
