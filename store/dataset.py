"""From a folder of recordings to the tables of the store, as one pure function.

Nothing is written: `read_dataset` returns frames with exactly the schemas of
`birdstack.store.tables`, and whoever calls it commits them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from birdstack.store.audio_files import Progress, read_facts
from birdstack.store.classes import ClassList
from birdstack.store.dataset_folders import (
    read_class_folders,
    read_soundscape_folder,
    soundscape_rows,
)
from birdstack.store.dataset_layouts import Layout, dataset_name, find_layout
from birdstack.store.dataset_tables import Described, read_birdclef
from birdstack.store.duplicates import flag_conflicts, mark_duplicates
from birdstack.store.fault_rules import RejectLog
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.label_names import LabelNames
from birdstack.store.recordings import Probe
from birdstack.store.soundscape_labels import label_soundscapes
from birdstack.store.tables import ANNOTATED, CLASSES, DATASETS, LABELS, RECORDINGS, REJECTS

__all__ = ["IngestConfig", "Ingested", "read_dataset"]


@dataclass(frozen=True)
class Ingested:
    """A dataset as tables.

    Attributes:
        dataset: its name.
        layout: birdclef, class-folders or soundscapes.
        recordings: one row per recording, sorted by id (schema `RECORDINGS`).
        labels: schema `LABELS`, sorted by recording and role.
        classes: schema `CLASSES`, in class order.
        rejects: schema `REJECTS`, by file and line.
        datasets: one row (schema `DATASETS`).
        summary: counts for people: rows, recordings, labels, labelled_soundscapes, classes,
            rejected, flagged, ignored_files, read_files, reused_files, and `rule:<name>` for each broken rule.
    """

    dataset: str
    layout: str
    recordings: pl.DataFrame
    labels: pl.DataFrame
    classes: pl.DataFrame
    rejects: pl.DataFrame
    datasets: pl.DataFrame
    summary: dict[str, int] = field(default_factory=dict)


def read_dataset(
    root: Path,
    config: IngestConfig,
    *,
    probe: Probe | None,
    known: pl.DataFrame | None = None,
    store_classes: pl.DataFrame | None = None,
    progress: Progress | None = None,
) -> Ingested:
    """Read a dataset: BirdCLEF layout, folders of classes, or a folder of soundscapes.

    Args:
        root: folder of the dataset, or a bare metadata table (CSV, plain or gzip), which is
            read without audio.
        config: settings.
        probe: reads the header of an audio file; None reads no audio, so that hashes and
            durations are null.
        known: the recordings of an earlier ingestion; a file with the same id, size and time
            of change is not read again.
        store_classes: those of the store (schema `CLASSES`), which labels of soundscapes may
            name too; where neither dataset nor store has any, such labels are the classes.
        progress: told the stage (`list`, `audio`), how many files are done and how many
            there are.

    Raises:
        UsageError: there is nothing to read at `root`, or no table of labels where the
            settings name one.
        DatasetError: the folder fits no layout, its table cannot be read, or nothing of it
            can be used. Single bad rows and files are listed in `rejects` instead.
    """
    root = Path(root)
    name = config.name or dataset_name(root)
    log = RejectLog(name)
    layout = find_layout(root, config.layout, log)
    if progress is not None:
        progress("list", len(layout.listing.files), len(layout.listing.files))
    plan = _plan(layout, config, log)
    soundscapes = _soundscapes(layout, log)
    rows = pl.concat([plan.rows, soundscapes], how="diagonal").sort("recording_id")
    files = layout.listing.files
    wanted = [files[key] for key in rows["recording_id"] if key in files]
    earlier = None if known is None else known.filter(pl.col("dataset") == name)
    facts, reused = read_facts(
        layout.root,
        wanted,
        probe=probe,
        known=earlier,
        threads=config.threads,
        log=log,
        progress=progress,
    )
    failed = {file.recording_id for file in wanted} - set(facts["recording_id"])
    heard = plan.rows.filter(~pl.col("recording_id").is_in(failed))
    if heard.is_empty() and not plan.rows.is_empty():
        everything = f"{plan.rows.height} recordings"
        raise log.nothing_left(everything)
    rows = rows.filter(~pl.col("recording_id").is_in(failed))
    recordings = _recordings(rows, facts, name)
    labels = _labels(plan, recordings)
    label_names = LabelNames.of(plan.classes, plan.names, store_classes)
    recordings, strong = label_soundscapes(layout, recordings, label_names, config, log)
    labels = pl.concat([labels, strong]).sort("recording_id", "role", "label", "start_s")
    recordings = mark_duplicates(recordings, labels)
    flag_conflicts(recordings, labels, log)
    class_list = plan.classes
    if label_names.open:
        class_list = ClassList.from_labels(labels["label"].drop_nulls())
    classes = class_list.frame(plan.names)
    datasets = _dataset_row(layout, config, log, plan, recordings.height)
    rejects = log.frame()
    _assert_schemas(recordings, labels, classes, rejects, datasets)
    return Ingested(
        dataset=name,
        layout=layout.name,
        recordings=recordings,
        labels=labels,
        classes=classes,
        rejects=rejects,
        datasets=datasets,
        summary={
            "rows": plan.n_rows,
            "recordings": recordings.height,
            "labels": labels.height - strong.filter(role=ANNOTATED).height,
            "labelled_soundscapes": strong["recording_id"].n_unique(),
            "classes": classes.height,
            "rejected": log.n_rejected(),
            "flagged": rejects.filter(severity="flagged").height,
            "ignored_files": layout.listing.ignored,
            "read_files": 0 if probe is None else len(wanted) - reused,
            "reused_files": reused,
            **{f"rule:{rule}": count for rule, count in sorted(log.counts().items())},
        },
    )


def _plan(layout: Layout, config: IngestConfig, log: RejectLog) -> Described:
    if layout.name == "birdclef":
        return read_birdclef(layout, config, log)
    if layout.name == "class-folders":
        return read_class_folders(layout, config, log)
    return read_soundscape_folder(layout, config, log)


def _soundscapes(layout: Layout, log: RejectLog) -> pl.DataFrame:
    """Rows for the soundscape folders beside a BirdCLEF table."""
    names = [name for folder in layout.soundscape_folders for name in layout.listing.below(folder)]
    return soundscape_rows(names, log)


def _recordings(rows: pl.DataFrame, facts: pl.DataFrame, dataset: str) -> pl.DataFrame:
    """Join what the table and the files say; columns that nobody knows are null."""
    joined = rows.join(facts, on="recording_id", how="left", maintain_order="left").with_columns(
        pl.lit(dataset).alias("dataset"), pl.col("recording_id").alias("path")
    )
    return joined.select(
        pl.col(name).cast(dtype) if name in joined.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in RECORDINGS.items()
    )


def _labels(plan: Described, recordings: pl.DataFrame) -> pl.DataFrame:
    """Weak labels of the recordings that are left: without start and end."""
    kept = plan.labels.filter(pl.col("recording_id").is_in(recordings["recording_id"].to_list()))
    weak = [pl.lit(None, pl.Float64).alias(name) for name in ("start_s", "end_s")]
    return kept.with_columns(weak).select(LABELS.names()).sort("recording_id", "role", "label")


def _dataset_row(
    layout: Layout, config: IngestConfig, log: RejectLog, plan: Described, n_recordings: int
) -> pl.DataFrame:
    root = layout.root / layout.table if layout.bare and layout.table else layout.root
    row = {
        "dataset": log.dataset,
        "root": str(root.resolve()),
        "layout": layout.name,
        "table": layout.table,
        "fold_column": config.fold_column,
        "rows": plan.n_rows,
        "recordings": n_recordings,
        "rejected": log.n_rejected(),
    }
    return pl.DataFrame([row], schema=DATASETS, orient="row")


def _assert_schemas(*frames: pl.DataFrame) -> None:
    schemas = (RECORDINGS, LABELS, CLASSES, REJECTS, DATASETS)
    for frame, schema in zip(frames, schemas, strict=True):
        assert frame.schema == schema, f"{frame.schema} is not {schema}"
