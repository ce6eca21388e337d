"""Columns beside the scores, read again from where the stack had them: the store, or the table.

A report works without them; why they are not there is then said in one line.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from birdstack.stacking.component_pin import ComponentsPin
from birdstack.stacking.design_columns import component_columns
from birdstack.stacking.design_table import NO_FOLD
from birdstack.stacking.report_run import KEYS, Domain, Run
from birdstack.stacking.stack_folder import load_stack
from birdstack.store.errors import BirdstackError, CorruptError
from birdstack.store.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class Columns:
    """Extra columns of some windows.

    Attributes:
        names: in the order of the stack's extra columns.
        values: float32 `[window, column]`; NaN where not known.
        why: why there are none; empty where there are.
    """

    names: tuple[str, ...]
    values: np.ndarray
    why: str = ""


def extra_columns(run: Run, domain: Domain, rows: np.ndarray) -> Columns:
    """The extra columns of some windows of a domain.

    Args:
        run: whose stack.
        domain: whose windows.
        rows: which, `[window]` of bool: whole recordings.
    """
    keys = domain.rows.filter(pl.Series(rows)).select(KEYS)
    try:
        frame = _from_store(run, keys) if run.facts.get("store") else _from_table(run, keys)
    except (BirdstackError, OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return _none(len(keys), f"the columns beside the scores cannot be read: {text}")
    if isinstance(frame, str):
        return _none(len(keys), frame)
    joined = keys.join(frame, on=KEYS, how="left", maintain_order="left")
    names = tuple(name for name in frame.columns if name not in KEYS)
    values = joined.select(names).cast(pl.Float32, strict=False).fill_null(float("nan"))
    return Columns(names, np.array(values.to_numpy(), dtype=np.float32))


def _from_store(run: Run, keys: pl.DataFrame) -> pl.DataFrame | str:
    from birdstack.store.store import Store  # noqa: PLC0415 - only where a store is named

    path = run.folder / "stack" / "design.json"
    if not path.is_file():
        return f"{path.name} is not in the run, so the stack's columns are not known"
    design = json.loads(path.read_text("utf-8"))
    wanted = [(pin["view"], list(pin["columns"])) for pin in design.get("extras", [])]
    components = design.get("components")
    if not wanted and not components:
        return "the stack sees scores alone, no other columns"
    snapshot = Store.open(str(run.facts["store"])).snapshot(run.facts.get("snapshot"))
    ids = keys["recording_id"].unique().sort().to_list()
    views = [view for view, _ in wanted] + ([components["view"]] if components else [])
    held = _held(ids, [snapshot.covered(view) for view in views])
    if not held:
        return "the store holds the other columns of none of these recordings"
    frame: pl.DataFrame | None = None
    for view, names in wanted:
        matrix = snapshot.matrix({view: names}, recordings=held)
        found = matrix.keys.select(pl.col("recording_id"), pl.col("window").cast(pl.Int64))
        found = found.with_columns(
            pl.Series(f"{view}:{name}", matrix.values[:, at]) for at, name in enumerate(names)
        )
        frame = found if frame is None else frame.join(found, on=KEYS, how="full", coalesce=True)
    if components:
        found = _components(run, snapshot, ComponentsPin.model_validate(components), held)
        frame = found if frame is None else frame.join(found, on=KEYS, how="full", coalesce=True)
    assert frame is not None
    return frame.with_columns(pl.col("window").cast(keys.schema["window"]))


def _components(run: Run, snapshot: Snapshot, pin: ComponentsPin, held: list[str]) -> pl.DataFrame:
    """Components of an embedding, as the stack saw them: each row without its fold."""
    fitted = load_stack(run.folder / "stack").components
    if fitted is None:
        message = f"{run.folder / 'stack'}: its components are missing"
        raise CorruptError(message, remedy="run birdstack stack again")
    fold_of = dict(snapshot.table("folds").select("recording_id", "fold").iter_rows())
    fold = np.array([fold_of.get(name, NO_FOLD) for name in held], dtype=np.int64)
    values, windows = component_columns(snapshot, pin, fitted, held, fold)
    owner = np.repeat(np.arange(len(held)), windows)
    window = np.arange(len(owner)) - (np.cumsum(windows) - windows)[owner]
    columns = [pl.Series(name, values[:, at]) for at, name in enumerate(pin.names)]
    names = pl.Series("recording_id", held, dtype=pl.String).gather(owner)
    return pl.DataFrame([names, pl.Series("window", window, dtype=pl.Int64), *columns])


def _from_table(run: Run, keys: pl.DataFrame) -> pl.DataFrame | str:
    told = run.printed.get("table")
    path = Path(str(told["path"])) if isinstance(told, dict) and told.get("path") else None
    if path is None:
        return "the run names neither a store nor a table that holds other columns"
    if not path.is_file():
        return f"the table {path} is no longer there"
    scan = pl.scan_parquet(path)
    names = [name for name in scan.collect_schema().names() if name.startswith("x:")]
    if not names:
        return "the table holds scores alone, no other columns"
    ids = keys["recording_id"].unique().to_list()
    frame = (
        scan.filter(pl.col("recording_id").cast(pl.String).is_in(ids))
        .select(pl.col("recording_id").cast(pl.String), "window", *names)
        .collect()
    )
    return frame.with_columns(pl.col("window").cast(keys.schema["window"])).rename(
        {name: name.removeprefix("x:") for name in names}
    )


def _held(ids: list[str], covers: Collection[object]) -> list[str]:
    return [name for name in ids if all(name in held for held in covers)]  # type: ignore[operator]


def _none(rows: int, why: str) -> Columns:
    return Columns((), np.empty((rows, 0), dtype=np.float32), why)
