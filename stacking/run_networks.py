"""After the hearing: heads for frozen networks, their logits, and what these are worth."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.fold_heads import HeadData, fit_heads, head_key
from birdstack.embeddings.fold_logits import HeadLogits
from birdstack.embeddings.model_folder import FoldModel
from birdstack.embeddings.network_views import embedding_view, logits_view
from birdstack.embeddings.out_of_fold_score import Score, score_frame, score_view
from birdstack.features.audio import AudioSource
from birdstack.stacking.console import counted
from birdstack.stacking.networks import Networks, folds
from birdstack.stacking.session import Session
from birdstack.store.errors import CorruptError, FormatVersionError, StoreError
from birdstack.store.extractor import Extractor
from birdstack.store.labels import LabelsConfig
from birdstack.store.materialise import RunReport, materialise
from birdstack.store.recordings import Recording
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.trained import trained_frame
from birdstack.store.views import canonical_json

_SHOWN = 5


def complete(
    session: Session,
    networks: Networks,
    recordings: Sequence[Recording],
    source: AudioSource,
    stop: threading.Event,
) -> None:
    """Fit heads where they are stale, write their logits, score every view of logits."""
    store = networks.store
    extractors: list[Extractor[Any]] = []
    for config in networks.frozen:
        if not stop.is_set():
            extractors += _head_logits(session, networks, config)
    if extractors and not stop.is_set():
        report = _write(session, store, recordings, source, extractors, stop=stop)
        _say_skipped(session, report)
    if not stop.is_set():
        views = [logits_view(config.name) for config in networks.configs]
        show_scores(session, store, views)


def _head_logits(
    session: Session, networks: Networks, config: BackboneConfig
) -> list[Extractor[Any]]:
    """Extractors of a frozen backbone's logits, its heads fitted first if need be."""
    store, settings, reporter = networks.store, session.settings, session.reporter
    snapshot = store.snapshot()
    view = embedding_view(config.name)
    if view not in snapshot.views:
        return []
    started_s = time.monotonic()
    key = head_key(snapshot, config, settings.head, settings.labels)
    folder = networks.folder(config.name) / key
    try:
        model, data = fit_heads(snapshot, config, folder, settings.head, settings.labels)
    except (CorruptError, FormatVersionError):
        raise  # heads that are there and cannot be trusted are no reason to go on without
    except StoreError as error:
        reporter.warn(f"{config.name}: no logits: {error.message}")
        return []
    record_training(session, store, model)
    if data is not None:
        _say_fitted(session, config, model, data, time.monotonic() - started_s)
    fold_of = folds(snapshot)
    snapshot = store.snapshot()
    return [
        HeadLogits(model, snapshot, view, fold_of, held_out=held_out) for held_out in (True, False)
    ]


def record_training(session: Session, store: Store, model: FoldModel) -> None:
    """Write into the store what each fold model has met: the guard judges logits by it."""
    trained_on = model.trained_on()
    heard = {
        fold: trained_on.filter(pl.col("fold") != fold)["recording_id"].to_list()
        for fold in model.folds
    }
    frame = trained_frame(store.snapshot(), model.fingerprint, heard)
    write_tables(
        store,
        {("trained", model.fingerprint): frame},
        operation="train",
        info=session.provenance(),
    )


def _say_fitted(
    session: Session, config: BackboneConfig, model: FoldModel, data: HeadData, seconds: float
) -> None:
    reporter = session.reporter
    reporter.say(
        f"{config.name}: {counted(len(model.folds), 'head')} fitted on "
        f"{counted(len(data.recordings), 'recording')}, {counted(len(data.classes), 'class')}, "
        f"in {seconds:.1f} s"
    )
    reporter.event(
        "fitted",
        backbone=config.name,
        folds=len(model.folds),
        recordings=len(data.recordings),
        classes=len(data.classes),
        seconds=round(seconds, 3),
        model=model.fingerprint,
    )
    lonely = data.lonely_classes()
    if lonely:
        shown = ", ".join(lonely[:_SHOWN]) + (", ..." if len(lonely) > _SHOWN else "")
        reporter.warn(
            f"{config.name}: {counted(len(lonely), 'class')} with positives in one fold only "
            f"({shown}): the model that scores them never heard them"
        )


def _write(
    session: Session,
    store: Store,
    recordings: Sequence[Recording],
    source: AudioSource,
    extractors: Sequence[Extractor[Any]],
    *,
    stop: threading.Event,
) -> RunReport:
    with session.reporter.progress("logits") as advance:
        return materialise(
            store,
            recordings,
            source,
            extractors,
            session.settings.run,
            info=session.provenance(),
            operation="logits",
            progress=lambda p: advance(p.tried, p.total, f"{p.windows:,} windows"),
            stop=stop,
        )


def _say_skipped(session: Session, report: RunReport) -> None:
    """Recordings that some fold model has no logits for: copies of what it was trained on."""
    skips = [*report.skips, *report.still_skipped]
    for skip in skips:
        session.reporter.event("skipped", **asdict(skip))
    if skips:
        names = counted(len(report.skipped_recordings), "recording")
        first = f"{skips[0].recording_id} in {skips[0].view} ({skips[0].code}: {skips[0].reason})"
        session.reporter.warn(f"{names} without logits of some fold models, e.g. {first}")


def show_scores(session: Session, store: Store, views: Sequence[str]) -> None:
    """Score views of logits that have changed since they were scored, and show all."""
    snapshot = store.snapshot()
    lines = []
    for view in views:
        if view in snapshot.views:
            split = split_digest(snapshot, view, session.settings.labels)
            lines += _scored(session, store, snapshot, view, split)
    if not lines:
        return
    session.reporter.table(
        "macro AUC of logits, out-of-fold but for networks trained elsewhere",
        ["view", "level", "macro AUC", "within folds", "classes", "recordings", "windows"],
        lines,
    )


def _scored(
    session: Session, store: Store, snapshot: Snapshot, view: str, split: str
) -> list[tuple[Any, ...]]:
    known = snapshot.table("scores").filter(
        (pl.col("view") == view)
        & (pl.col("recipe") == snapshot.recipe_of(view))
        & (pl.col("split") == split)
    )
    covered = set(snapshot.covered(view)) & set(folds(snapshot))
    if not covered:
        return []
    if known.is_empty():
        scores: list[Score] = score_view(snapshot, view, session.settings.labels)
        known = score_frame(scores, split)
        write_tables(
            store,
            {("scores", f"{view}/{snapshot.recipe_of(view)}"): known},
            operation="score",
            info=session.provenance(),
        )
    lines = []
    for row in known.iter_rows(named=True):
        within = json.loads(row["details"])["within_folds"]
        value = None if np.isnan(row["value"]) else row["value"]
        told = {**{k: row[k] for k in row if k != "details"}, "value": value}
        session.reporter.event("scored", **told, within_folds=within)
        lines.append(
            (
                view,
                row["level"],
                _decimals(value),
                _decimals(within),
                row["classes"],
                row["recordings"],
                row["windows"],
            )
        )
    return lines


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def split_digest(snapshot: Snapshot, view: str, labels: LabelsConfig) -> str:
    """Short hash of what a score of a view is of, besides its recipe.

    Folds, labels and what a secondary one is worth; the recordings that the view holds, and
    their bytes.
    """
    digest = hashlib.sha256(canonical_json(labels.model_dump(mode="json")).encode())
    for name, keys in (
        ("folds", ["recording_id", "fold"]),
        ("labels", ["recording_id", "label", "role", "start_s", "end_s"]),
    ):
        table = snapshot.table(name).select(keys).sort(keys)
        digest.update(table.write_csv().encode())
    for recording_id, covered in sorted(snapshot.covered(view).items()):
        digest.update(f"{recording_id} {covered.content_hash}\n".encode())
    return digest.hexdigest()[:12]
