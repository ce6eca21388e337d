"""Reads what needs no table: folders of classes, and soundscapes known by their names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from birdstack.store.classes import ClassList, Names, read_class_list, read_names
from birdstack.store.dataset_layouts import Layout
from birdstack.store.dataset_tables import Described
from birdstack.store.errors import DatasetError, UsageError
from birdstack.store.fault_rules import RejectLog
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.soundscape_names import parse_soundscape_name
from birdstack.store.tables import LABELS, RECORDINGS

_LABEL_COLUMNS = {name: LABELS[name] for name in ("recording_id", "label", "role")}


def read_class_folders(layout: Layout, config: IngestConfig, log: RejectLog) -> Described:
    """Every file is a focal recording of the class its first folder is named after."""
    _refuse_fold_column(layout, config)
    wanted = None if config.class_list is None else read_class_list(config.class_list)
    labelled: dict[str, str] = {}
    for name in layout.listing.files:
        folder, slash, _ = name.partition("/")
        if not slash:
            log.add("file_without_class", file=name, recording_id=name)
        elif wanted is not None and folder not in wanted:
            log.add("unknown_label", file=name, column=None, value=folder, recording_id=name)
        else:
            labelled[name] = folder
    if not labelled:
        everything = f"{len(layout.listing.files)} files"
        raise log.nothing_left(everything)
    rows = [_facts(name, "train", "focal") for name in labelled]
    labels = [(name, label, "primary") for name, label in labelled.items()]
    return Described(
        rows=_frame(rows),
        labels=pl.DataFrame(labels, schema=_LABEL_COLUMNS, orient="row"),
        classes=wanted or ClassList.from_labels(labelled.values()),
        n_rows=len(layout.listing.files),
    )


def read_soundscape_folder(layout: Layout, config: IngestConfig, log: RejectLog) -> Described:
    """Every file is a soundscape, unlabelled as yet; site, date and time come from its name."""
    _refuse_fold_column(layout, config)
    wanted = None if config.class_list is None else read_class_list(config.class_list)
    return Described(
        rows=soundscape_rows(layout.listing.files, log),
        labels=pl.DataFrame(schema=_LABEL_COLUMNS),
        classes=wanted or ClassList(()),
        names=_side_names(layout, config, log),
        n_rows=len(layout.listing.files),
    )


def _side_names(layout: Layout, config: IngestConfig, log: RejectLog) -> Names:
    """Names by label from the class list and the taxonomies beside the recordings."""
    names: dict[str, tuple[str | None, str | None]] = {}
    if config.class_list is not None:
        # Most class lists are labels alone, and those have been read already.
        with contextlib.suppress(DatasetError):
            names |= read_names(config.class_list)
    for file in (*layout.beside("taxonomy.csv"), *layout.beside("eBird_Taxonomy*.csv")):
        try:
            found = read_names(layout.root / file)
        except DatasetError as error:
            log.add("side_table", file=file, reason=error.message)
            continue
        names = {**found, **names}
    return names


def soundscape_rows(names: Iterable[str], log: RejectLog) -> pl.DataFrame:
    """Rows for soundscapes: below `test_soundscapes` of split test, else unlabeled."""
    rows = []
    for name in names:
        path = PurePosixPath(name)
        facts = parse_soundscape_name(path.stem)
        if facts.malformed:
            log.add("soundscape_name", file=name, value=path.name, recording_id=name)
        split = "test" if path.parts[0] == "test_soundscapes" else "unlabeled"
        row = _facts(name, split, "soundscape")
        row |= {"site": facts.site, "date": facts.date, "time": facts.time}
        rows.append(row)
    return _frame(rows)


def _facts(name: str, split: str, kind: str) -> dict[str, Any]:
    return {"recording_id": name, "split": split, "kind": kind}


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    names = ("recording_id", "split", "kind", "site", "date", "time")
    return pl.DataFrame(rows, schema={name: RECORDINGS[name] for name in names}, orient="row")


def _refuse_fold_column(layout: Layout, config: IngestConfig) -> None:
    if config.fold_column is not None:
        message = (
            f"fold_column={config.fold_column!r} names a column, but {layout.root} has no table"
        )
        raise UsageError(message, remedy="leave fold_column out")
