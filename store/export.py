"""Views and tables as one flat file that any tool reads without birdstack."""

from __future__ import annotations

import uuid
from pathlib import Path

import polars as pl

from birdstack.store.errors import StoreError, UsageError
from birdstack.store.labels import LabelsConfig, label_frame
from birdstack.store.snapshot import Snapshot
from birdstack.store.tables import TABLES

FORMATS = (".parquet", ".csv")


def export(
    snapshot: Snapshot,
    name: str,
    out: Path,
    *,
    recipe: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write a view, a table, `skips` or `notes` to one file, whole or not at all.

    Args:
        snapshot: the store at one moment.
        name: of a view or table.
        out: `.parquet` or `.csv`.
        recipe: first digits of a recipe other than the active one.
        overwrite: replace an existing file.

    Returns:
        Number of rows.

    Raises:
        UsageError: an unknown name or ending, no such folder, or the file is there already.
        StoreError: the file cannot be written.
    """
    _check_target(out, overwrite=overwrite)
    return _write(_frame(snapshot, name, recipe), out)


def export_label_windows(
    snapshot: Snapshot, view: str, out: Path, config: LabelsConfig, *, overwrite: bool = False
) -> int:
    """Write labels as window x class: 1 present, 0 absent, null unknown.

    Args:
        snapshot: the store at one moment.
        view: its windows are the rows.
        out: `.parquet` or `.csv`.
        config: what a secondary label counts for.
        overwrite: replace an existing file.
    """
    _check_target(out, overwrite=overwrite)
    keys = snapshot.view(view).select("recording_id", "window", "start_s", "end_s").collect()
    classes = snapshot.table("classes")["label"].to_list()
    return _write(label_frame(keys, snapshot.table("labels"), classes, config).lazy(), out)


def _frame(snapshot: Snapshot, name: str, recipe: str | None) -> pl.LazyFrame:
    if name == "skips":
        return snapshot.skips().lazy()
    if name == "notes":
        return snapshot.notes().lazy()
    if name in TABLES:
        return snapshot.table(name).lazy()
    return snapshot.view(name, recipe=recipe)


def _check_target(out: Path, *, overwrite: bool) -> None:
    if out.suffix.lower() not in FORMATS:
        message = f"--out {out}: the ending must be one of {', '.join(FORMATS)}"
        raise UsageError(message, remedy="write for example --out acoustic.parquet")
    if not out.parent.is_dir():
        message = f"--out {out}: there is no folder {out.parent}"
        raise UsageError(message, remedy="make the folder first")
    if out.exists() and not overwrite:
        message = f"--out {out}: the file is there already"
        raise UsageError(message, remedy="choose another name, or add --overwrite")


def _write(rows: pl.LazyFrame, out: Path) -> int:
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        if out.suffix.lower() == ".parquet":
            rows.sink_parquet(aside, compression="zstd", compression_level=1)
            count = pl.scan_parquet(aside).select(pl.len()).collect().item()
        else:
            frame = _flat(rows.collect())
            frame.write_csv(aside)
            count = frame.height
        aside.replace(out)
    except (OSError, pl.exceptions.ComputeError) as error:  # polars' word for a full disk
        message = f"cannot write {out}: {error}"
        remedy = "free space, or give --out a folder you may write to, and export again"
        raise StoreError(message, remedy=remedy) from error
    finally:
        aside.unlink(missing_ok=True)
    return int(count)


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """CSV has no lists: their elements are joined by `;`."""
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    joined = [
        pl.col(name).arr.to_list() if isinstance(frame.schema[name], pl.Array) else pl.col(name)
        for name in nested
    ]
    return frame.with_columns(
        column.cast(pl.List(pl.String)).list.join(";").alias(name)
        for name, column in zip(nested, joined, strict=True)
    )
