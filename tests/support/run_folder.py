"""A run folder as `birdstack stack` leaves it, small, from a real `Stacker`."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from support.rich_stack import QUICK
from support.small_stacks import Small, small_stack

from birdstack.stacking.controls import BY_NAME, Material
from birdstack.stacking.run_folder import finite
from birdstack.stacking.stack_folder import save_stack
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.stacker import Stacker

RATE_HZ = 32_000
WINDOW_S = 5.0
HOSTILE = "<script>alert('x')</script>"


@dataclass(frozen=True)
class Wanted:
    """How a run folder is made.

    Attributes:
        how: of the table.
        fresh_files: recordings of the domain `test`.
        fresh_truth: whether their truth is known.
        ship: as the `Stacker` has it.
        places: whether place and time are known.
        sounds: number of sound files; the recordings take turns. 0 for none.
        hostile: whether one class is named like a piece of HTML.
        seed: of everything.
    """

    how: Small = Small(files=40, classes=12, folds=4, second=0.9)  # noqa: RUF009 - frozen
    fresh_files: int = 30
    fresh_truth: bool = False
    ship: str = "stack"
    places: bool = True
    sounds: int = 3
    hostile: bool = True
    seed: int = 0


def make_run(folder: Path, wanted: Wanted | None = None) -> Path:
    """Write a run into `folder`; the sound of its recordings beside it."""
    wanted = wanted or Wanted()
    table, fresh = small_stack(replace(wanted.how, seed=wanted.seed), wanted.fresh_files)
    if wanted.hostile:
        names = (HOSTILE, *table.classes[1:])
        table, fresh = replace(table, classes=names), replace(fresh, classes=names)
    rain = _weather(table, wanted.seed)
    table = replace(table, extra=rain, extra_names=("rain", "wind"))
    fresh = replace(fresh, extra=_weather(fresh, wanted.seed + 1), extra_names=("rain", "wind"))
    stacker = Stacker(ship=wanted.ship, seed=wanted.seed, **QUICK).fit(table)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "table.parquet"
    _write_table(table, path)
    domains: dict[str, Any] = {}
    scores = {
        "shipped": stacker.nested_,
        "mean_kernel": BY_NAME["mean_kernel"].score(Material(table), {}),
        "chosen": stacker.choice_.out_of_fold,
        **_backbones(table),
    }
    if wanted.ship == "stack":
        scores["stack"] = stacker.nested_
    domains["soundscapes"] = _domain(folder, "soundscapes", table, scores, wanted, truth=True)
    material = Material(fresh, stacker.shipped_.spread)
    scores = {
        "shipped": stacker.predict(fresh),
        "mean_kernel": BY_NAME["mean_kernel"].score(material, {}),
        **_backbones(fresh),
    }
    domains["test"] = _domain(folder, "test", fresh, scores, wanted, truth=wanted.fresh_truth)
    save_stack(stacker.shipped_, folder / "stack")
    printed = {"table": {"path": str(path)}, "tuning": None, **stacker.report_}
    (folder / "scores.json").write_text(json.dumps(finite(printed), allow_nan=False), "utf-8")
    facts = {
        "format": 1,
        "kind": "table",
        "store": None,
        "snapshot": None,
        "pin": None,
        "classes": list(table.classes),
        "backbones": list(table.backbones),
        "window_s": WINDOW_S,
        "hop_s": WINDOW_S,
        "domains": domains,
        "shipped": stacker.report_["shipped"]["what"],
    }
    (folder / "run.json").write_text(json.dumps(facts), "utf-8")
    return folder


def write_scores(
    folder: Path, name: str, rows: pl.DataFrame, classes: Sequence[str], values: np.ndarray
) -> None:
    """One file of scores, as the run folder has it."""
    frame = rows.select("recording_id", "window").with_columns(
        pl.Series(label, values[:, number], dtype=pl.Float32)
        for number, label in enumerate(classes)
    )
    frame.write_parquet(folder / f"{name}.parquet")


def _domain(
    folder: Path,
    name: str,
    table: StackTable,
    scores: Mapping[str, np.ndarray],
    wanted: Wanted,
    *,
    truth: bool,
) -> dict[str, Any]:
    home = folder / "windows" / name
    home.mkdir(parents=True)
    rows = _rows(table, wanted, folder.parent / "sounds")
    rows.write_parquet(home / "rows.parquet")
    for which, values in scores.items():
        write_scores(home, which, rows, table.classes, np.asarray(values))
    if truth:
        labels = rows.select("recording_id", "window").with_columns(
            pl.Series(
                label,
                [None if value < 0 else value for value in table.truth[:, number].tolist()],
                dtype=pl.Int8,
            )
            for number, label in enumerate(table.classes)
        )
        labels.write_parquet(home / "truth.parquet")
    return {
        "title": {"test": "test recordings", "soundscapes": "labelled soundscapes"}[name],
        "windows": table.n_windows,
        "recordings": len(table.recording_ids),
        "truth": truth,
        "level": "averaged over fold models" if name == "test" else "fold-nested",
    }


def _rows(table: StackTable, wanted: Wanted, sounds: Path) -> pl.DataFrame:
    recording = table.recording
    rng = np.random.default_rng([wanted.seed, 4])
    rows = pl.DataFrame(
        {
            "recording_id": np.asarray(table.recording_ids, dtype=object)[recording],
            "window": table.index,
            "start_s": table.index * WINDOW_S,
            "end_s": (table.index + 1) * WINDOW_S,
            "fold": table.window_fold,
            "group": np.asarray(table.groups, dtype=object)[recording],
        },
        schema_overrides={"recording_id": pl.String, "group": pl.String, "window": pl.Int32},
    )
    count = len(table.recording_ids)
    if wanted.places:
        site = rng.integers(0, 8, count)
        latitude = 9.5 + 0.4 * site + rng.normal(0, 0.02, count)
        longitude = 76.2 + 0.25 * (site * 5 % 8) + rng.normal(0, 0.02, count)
        hour = rng.integers(0, 24, count)
        rows = rows.with_columns(
            pl.Series("latitude", latitude[recording]),
            pl.Series("longitude", longitude[recording]),
            pl.Series("date", [dt.date(2024, 4, 1 + int(h) % 27) for h in hour[recording]]),
            pl.Series("time", [dt.time(int(h), 30) for h in hour[recording]]),
        )
    if wanted.sounds:
        sounds.mkdir(exist_ok=True)
        paths = [_sing(sounds / f"{number}.wav", number) for number in range(wanted.sounds)]
        rows = rows.with_columns(
            pl.Series("path", [paths[at % len(paths)] for at in recording], dtype=pl.String)
        )
    return rows


def _sing(path: Path, seed: int) -> str:
    """A minute of noise with whistles."""
    import soundfile

    rng = np.random.default_rng([seed, 12])
    if not path.is_file():
        time_s = np.arange(60 * RATE_HZ) / RATE_HZ
        sound = rng.normal(0, 0.004, len(time_s))
        for start_s in np.arange(0.4, 59, rng.uniform(0.9, 2.5)):
            at = slice(int(start_s * RATE_HZ), int((start_s + 0.35) * RATE_HZ))
            sweep = rng.uniform(2500, 5000) + rng.uniform(-4000, 6000) * (time_s[at] - start_s)
            sound[at] += (
                0.05 * np.hanning(len(time_s[at])) * np.sin(2 * np.pi * np.cumsum(sweep) / RATE_HZ)
            )
        soundfile.write(path, sound.astype(np.float32), RATE_HZ, subtype="PCM_16")
    return str(path)


def _backbones(table: StackTable) -> dict[str, np.ndarray]:
    return {
        f"backbone-{name}": logits
        for name, logits in zip(table.backbones, table.logits, strict=True)
    }


def _weather(table: StackTable, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 9])
    return rng.normal(0.4 * seed, 1, (table.n_windows, 2)).astype(np.float32)


def _write_table(table: StackTable, path: Path) -> None:
    from support.small_stacks import as_frame

    as_frame(table).write_parquet(path)
