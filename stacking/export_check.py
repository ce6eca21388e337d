"""Whether a bundle predicts what the stack predicts: held to the store's own figures.

Recordings with truth and audio are predicted from the bundle, written to a submission file, and
the file is read back and scored. The figures must be those that the same stack has on the
store's views. A store that was heard by another engine, or on another processor, holds sums that
were rounded otherwise, and a tree turns a last digit into a step: then the scores must be those
of the same engine on the networks themselves, and near the store's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.embeddings.auc import macro_auc
from birdstack.embeddings.backbones import fold_networks, make_backbone
from birdstack.embeddings.engine import EngineKind, processors
from birdstack.embeddings.shelf import InputShelf
from birdstack.features.audio import AudioSource, Sound
from birdstack.stacking.bundle import STACK, Bundle
from birdstack.stacking.bundle_networks import Fold, Voice
from birdstack.stacking.design_table import fresh_table, training_table
from birdstack.stacking.export_bundle import ExportJob
from birdstack.stacking.export_networks import Source, require_one_audio
from birdstack.stacking.networks import class_names
from birdstack.stacking.predictor import HeardRecording, Predictor
from birdstack.stacking.report_run import Domain, read_run
from birdstack.stacking.row_ids import read_row_table
from birdstack.stacking.shipped import Shipped
from birdstack.stacking.stack_folder import load_stack
from birdstack.stacking.stack_table import TEST, StackTable
from birdstack.stacking.submission import SubmissionFile, logistic, submission_names
from birdstack.store.catalog import load_recordings
from birdstack.store.errors import SkipRecording, StoreError, UsageError
from birdstack.store.labels import ABSENT, PRESENT, UNKNOWN
from birdstack.store.recordings import Recording

Advance = Callable[[int, int, str], None]
"""Told how many are done, how many there are, and a few words."""

EXACT, ROUGH = 1e-6, 1e-3
"""Largest difference of macro AUC: of float32, and of rougher sums or another engine's."""
_ROUGH_KINDS = ("openvino-bf16", "openvino-int8")


@dataclass(frozen=True)
class ExportFigures:
    """What the check found.

    Attributes:
        engine: that the networks ran on.
        domain: whose recordings were predicted.
        recordings: how many.
        windows: of these.
        classes: with an AUC.
        auc_exported: macro AUC of the submission file.
        auc_store: of the same stack on the store's views.
        auc_in_memory: of the same engine on the networks themselves; None where not needed.
        against: what the limit is held against: `store` or `in_memory`.
        difference: of the exported AUC from it, absolute.
        limit: that it must lie below.
        largest_value_difference: of a value in the file, from the store's.
    """

    engine: str
    domain: str
    recordings: int
    windows: int
    classes: int
    auc_exported: float
    auc_store: float
    auc_in_memory: float | None
    against: str
    difference: float
    limit: float
    largest_value_difference: float

    @property
    def passed(self) -> bool:
        """Whether the bundle may be used."""
        near = abs(self.auc_exported - self.auc_store) < ROUGH
        return bool(self.difference < self.limit and near)

    def as_json(self) -> dict[str, Any]:
        """For `bundle.json`."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class _Part:
    """Recordings that the same fold models speak of, with the store's columns of them.

    Attributes:
        recordings: by id.
        folds: the fold models.
        tables: of each fold model; rows in the order of `recordings`.
    """

    recordings: tuple[Recording, ...]
    folds: tuple[Fold, ...]
    tables: tuple[StackTable, ...]

    @property
    def domains(self) -> list[str]:
        """What the stack takes each recording for."""
        return list(self.tables[0].domain or [])


def check_export(
    job: ExportJob,
    bundle: Bundle,
    *,
    engine: EngineKind | None = None,
    most: int = 40,
    workers: int | None = None,
    advance: Advance = lambda _done, _total, _words: None,
) -> ExportFigures:
    """Predict from a bundle what the store knows, and compare.

    Args:
        job: what was exported.
        bundle: what came of it.
        engine: that the networks run on; None for the one they were saved for.
        most: recordings that are predicted at most, evenly spread.
        workers: recordings heard at a time; None for one on each processor.
        advance: told of every recording.

    Raises:
        UsageError: no recording of the run has truth and audio.
        StoreError: a recording cannot be heard again.
    """
    workers, engine = workers or processors(), engine or bundle.facts.engine
    domain, taken = _judged(job, most)
    parts = _parts(job, domain, taken)
    shipped = load_stack(job.run / STACK)
    stored = np.concatenate([_scored(shipped, part.folds, part.tables) for part in parts])
    exported = _through_file(bundle, engine, parts, workers, advance)
    truth = _truth(domain, parts)
    found, reference = macro_auc(exported, truth), macro_auc(stored, truth)
    difference, against, memory = abs(found.value - reference.value), "store", None
    rough = engine in _ROUGH_KINDS
    if not rough and difference >= EXACT:
        voices = {n: _voice(job, source, engine) for n, source in job.sources.items()}
        remade = [_remade(job, shipped, part, list(voices.values()), workers) for part in parts]
        memory = macro_auc(np.concatenate(remade), truth).value
        difference, against = abs(found.value - memory), "in_memory"
    return ExportFigures(
        engine=engine,
        domain=domain.name,
        recordings=len(taken),
        windows=len(truth),
        classes=found.counted,
        auc_exported=found.value,
        auc_store=reference.value,
        auc_in_memory=memory,
        against=against,
        difference=difference,
        limit=ROUGH if rough else EXACT,
        largest_value_difference=float(np.abs(exported - logistic(stored)).max()),
    )


def _judged(job: ExportJob, most: int) -> tuple[Domain, list[Recording]]:
    """The most test-like domain whose recordings have truth and audio, and some of these."""
    there = {r.recording_id: r for r in load_recordings(job.snapshot) if r.path.is_file()}
    for domain in read_run(job.run).judged:
        ids = [i for i in domain.rows["recording_id"].unique().sort().to_list() if i in there]
        spread = np.unique(np.linspace(0, len(ids) - 1, min(most, len(ids))).round().astype(int))
        chosen = [ids[at] for at in spread] if ids else []
        rows = domain.rows["recording_id"].is_in(chosen).to_numpy()
        truth = domain.truth
        assert truth is not None, "a judged domain has truth"
        both = (truth[rows] == PRESENT).any(axis=0) & (truth[rows] == ABSENT).any(axis=0)
        if both.any():
            return domain, [there[name] for name in chosen]
    message = f"{job.run}: no recording with truth has its audio in place: nothing can be checked"
    remedy = "bring the audio back to where it was ingested, or export with --no-check"
    raise UsageError(message, remedy=remedy)


def _parts(job: ExportJob, domain: Domain, taken: Sequence[Recording]) -> list[_Part]:
    by_id = {recording.recording_id: recording for recording in taken}
    models = job.design.fold_models
    if domain.name == TEST:
        folds: tuple[Fold, ...] = models or (None,)
        tables = tuple(fresh_table(job.snapshot, job.design, list(by_id), k) for k in folds)
        return [_Part(tuple(taken), folds, tables)]
    table, _ = training_table(job.snapshot, job.design, job.settings.labels)
    chosen = np.array([name in by_id for name in table.recording_ids])
    parts = []
    for fold in np.unique(np.asarray(table.fold)[chosen]):
        own = table.taken(np.flatnonzero(chosen & (np.asarray(table.fold) == fold)))
        recordings = tuple(by_id[name] for name in own.recording_ids)
        parts.append(_Part(recordings, (int(fold) if models else None,), (own,)))
    return parts


def _scored(shipped: Shipped, folds: Sequence[Fold], tables: Sequence[StackTable]) -> np.ndarray:
    total = np.zeros(tables[0].truth.shape)
    for fold, table in zip(folds, tables, strict=True):
        total += shipped.predict(table, held=fold)
    return (total / len(folds)).astype(np.float32)


def _through_file(
    bundle: Bundle, engine: EngineKind, parts: Sequence[_Part], workers: int, advance: Advance
) -> np.ndarray:
    """Values `[window, class]` as they are read back from a submission file."""
    names = submission_names([r.recording_id for part in parts for r in part.recordings])
    done = 0
    with (
        tempfile.TemporaryDirectory(prefix="birdstack-check-") as folder,
        Predictor(bundle, engine=engine, workers=workers) as predictor,
        ThreadPoolExecutor(workers, thread_name_prefix="check") as pool,
    ):
        path = Path(folder) / "submission.csv"
        with SubmissionFile(path, bundle.classes, names) as file:
            for part in parts:

                def hear(pair: tuple[Recording, str], part: _Part = part) -> HeardRecording:
                    recording, domain = pair
                    sound = _opened(predictor.source, recording)
                    return predictor.hear(sound, recording, folds=part.folds, domain=domain)

                pairs = list(zip(part.recordings, part.domains, strict=True))
                for heard in pool.map(hear, pairs):
                    (scores,) = predictor.score([heard])
                    ends_s = predictor.starts_s(len(scores)) + bundle.design.grid.window_s
                    file.add(heard.recording_id, ends_s, logistic(scores))
                    done += 1
                    advance(done, len(names), heard.recording_id)
        return np.asarray(read_row_table(path, bundle.classes).values)


def _truth(domain: Domain, parts: Sequence[_Part]) -> np.ndarray:
    """Labels of the rows of all parts, int8 `[window, class]`; -1 where the run knows none."""
    tables = [part.tables[0] for part in parts]
    keys = pl.DataFrame(
        {
            "recording_id": np.concatenate(
                [np.asarray(t.recording_ids, dtype=object)[t.recording] for t in tables]
            ).tolist(),
            "window": np.concatenate([t.index for t in tables]),
        }
    )
    at = domain.rows.select("recording_id", pl.col("window").cast(keys["window"].dtype))
    found = keys.join(
        at.with_row_index("row"), on=["recording_id", "window"], how="left", maintain_order="left"
    )["row"]
    assert domain.truth is not None, "a judged domain has truth"
    rows = domain.truth[found.fill_null(0).to_numpy()].copy()
    rows[found.is_null().to_numpy()] = UNKNOWN
    return np.asarray(rows)


def _voice(job: ExportJob, source: Source, kind: EngineKind) -> Voice:
    """A backbone from where the bundle's files were made from, on the same engine."""
    window_s, config, model = job.design.grid.window_s, source.config, source.model
    if config.mode == "full" and model is not None:
        networks = fold_networks(config, model.checkpoints, model.classes, window_s, kind=kind)
        return Voice(config, dict(zip(model.folds, networks, strict=True)))
    names = class_names(job.snapshot) if config.mode == "given" else None
    backbone = make_backbone(config, window_s, kind=kind, store_classes=names)
    return Voice(config, {None: backbone}, {} if model is None else model.heads())


def _remade(
    job: ExportJob, shipped: Shipped, part: _Part, voices: Sequence[Voice], workers: int
) -> np.ndarray:
    """Scores of the stack on the store's columns, but with the logits of these networks."""
    config = job.settings.audio.model_copy(update={"sample_rate_hz": _rate_hz(job)})
    shelf = InputShelf()
    with (
        AudioSource(config, job.design.grid) as source,
        ThreadPoolExecutor(workers, thread_name_prefix="check") as pool,
    ):

        def hear(recording: Recording) -> np.ndarray:
            sound = _opened(source, recording)
            return np.stack([v.logits(sound, shelf, part.folds) for v in voices], axis=1)

        logits = np.concatenate(list(pool.map(hear, part.recordings)), axis=2)
    tables = [table.scored(logits[at]) for at, table in enumerate(part.tables)]
    return _scored(shipped, part.folds, tables)


def _rate_hz(job: ExportJob) -> int:
    return int(require_one_audio(job.sources)["sample_rate_hz"])


def _opened(source: AudioSource, recording: Recording) -> Sound:
    try:
        return source.open(recording)
    except SkipRecording as skip:
        message = f"{recording.path}: was heard once, and cannot be heard again: {skip}"
        raise StoreError(
            message, remedy="run birdstack features and birdstack stack again"
        ) from skip
