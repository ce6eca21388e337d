"""`birdstack stack` of a store: pin a snapshot, lay out its design, fit, judge on every domain."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from birdstack.stacking.components import Components
from birdstack.stacking.console import Reporter, counted
from birdstack.stacking.design import Design, plan_design
from birdstack.stacking.design_table import (
    Scored,
    fit_columns,
    fresh_recordings,
    fresh_table,
    training_table,
    window_keys,
)
from birdstack.stacking.domains import Domain
from birdstack.stacking.fresh_scores import FoldTable, fresh_scores, mean_logits
from birdstack.stacking.judged_rows import refuse_judged_training
from birdstack.stacking.run_folder import RUN, claim, read_run
from birdstack.stacking.run_stack import (
    Fitted,
    StackJob,
    finish,
    fit_part,
    fit_stacker,
    shipped_scores,
)
from birdstack.stacking.session import Session
from birdstack.stacking.stack_table import FOCAL, SIMULATED, SOUNDSCAPES, TEST, StackTable
from birdstack.store.errors import BirdstackError, UsageError
from birdstack.store.labels import PRESENT
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store

_PLACES = ("latitude", "longitude", "date", "time", "dataset", "split", "kind", "path")


def run_stack_store(
    session: Session, job: StackJob, *, at: str | None = None, truth: Path | None = None
) -> int:
    """Stack what a store holds.

    Args:
        session: settings and store.
        job: what is asked.
        at: a snapshot; None for the newest.
        truth: labels of test soundscapes, a table with `row_id`; used to judge, never to learn.

    Returns:
        The exit code.

    Raises:
        UsageError: no such store or snapshot, or views that the design needs are missing.
        LeakError: logits are not out-of-fold by the snapshot's own tables.
        DatasetError: the table of labels does not fit.
    """
    reporter, store = session.reporter, session.open_store()
    claim(job.out)
    snapshot = store.snapshot(at)
    design = plan_design(snapshot, session.settings.design)
    components = fit_columns(snapshot, design)
    table, scored = training_table(snapshot, design, session.settings.labels, components)
    _tell(reporter, snapshot, design, table, scored)
    if job.part is not None:
        return fit_part(reporter, table, job)
    unmet = _Unmet.of(snapshot, design, components, truth)
    fitted = fit_stacker(reporter, table, job)
    domains = _known_domains(table, design, fitted)
    if unmet is not None:
        domains.append(unmet.domain(reporter, table, fitted))
    pin = _pin(store, snapshot, job.out)
    about = {
        "kind": "store",
        "store": store.url,
        "snapshot": snapshot.version,
        "pin": pin,
        "window_s": design.grid.window_s,
        "hop_s": design.grid.hop_s,
    }
    return finish(
        reporter,
        job,
        fitted,
        domains,
        about=about,
        told={"provenance": design.provenance(snapshot.version), "left_out": dict(scored.lacking)},
        made_from={},
        places=snapshot.table("recordings").select("recording_id", *_PLACES),
        design=json.dumps(design.model_dump(mode="json"), indent=1) + "\n",
        components=components,
    )


def _tell(
    reporter: Reporter, snapshot: Snapshot, design: Design, table: StackTable, scored: Scored
) -> None:
    kinds = Counter(table.domain or ())
    told = ", ".join(
        counted(kinds[name], noun)
        for name, noun in (
            (FOCAL, "focal recording"),
            (SIMULATED, "simulated soundscape"),
            (SOUNDSCAPES, "labelled soundscape"),
        )
        if kinds[name]
    )
    present = int((table.truth == PRESENT).any(axis=0).sum())
    reporter.say(
        f"{snapshot.files.url}, snapshot {snapshot.version}: "
        f"{counted(table.n_windows, 'window')} of {told}; "
        f"{counted(len(table.classes), 'class')} ({present} with positives); backbones "
        f"{', '.join(design.backbone_names)}; {counted(len(design.extra_names), 'extra column')}"
    )
    if not kinds[SIMULATED] and not kinds[SOUNDSCAPES]:
        reporter.warn(
            "no soundscape has labels and a fold: choices are made on focal recordings, which "
            "are not what is to be predicted (birdstack simulate makes some)"
        )
    if scored.lacking:
        name, view = next(iter(scored.lacking.items()))
        reporter.warn(
            f"{counted(len(scored.lacking), 'labelled recording')} left out, without windows in "
            f"a view of the design: {name!r} in {view!r}, for one"
        )
    reporter.event(
        "table",
        store=snapshot.files.url,
        snapshot=snapshot.version,
        windows=table.n_windows,
        recordings=dict(kinds),
        classes=len(table.classes),
        left_out=len(scored.lacking),
    )


def _known_domains(table: StackTable, design: Design, fitted: Fitted) -> list[Domain]:
    keys = window_keys(table, design)
    scores = shipped_scores(fitted.stacker)
    of_window = np.asarray(table.domain, dtype=object)[table.recording]
    return [
        Domain(name, table, of_window == name, keys, scores)
        for name in (FOCAL, SIMULATED, SOUNDSCAPES)
        if (of_window == name).any()
    ]


@dataclass(frozen=True)
class _Unmet:
    """Recordings without a fold: of split test, else unlabelled ones.

    Attributes:
        snapshot: that they are read from.
        design: which columns.
        components: that some of them are made by; None for none.
        ids: the recordings.
        keys: of their windows.
        labels: `[window, class]`; None where nobody gave any.
    """

    snapshot: Snapshot
    design: Design
    components: Components | None
    ids: list[str]
    keys: pl.DataFrame
    labels: np.ndarray | None

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        design: Design,
        components: Components | None,
        truth: Path | None,
    ) -> _Unmet | None:
        """Those of a snapshot, None if there are none.

        Labels are read before anything is fitted: a wrong table should not cost an hour.

        Raises:
            LeakError: one that is to be judged by is a copy of one that is learnt from.
        """
        ids = fresh_recordings(snapshot, design, "test").ids
        ids = ids or fresh_recordings(snapshot, design, "unlabeled").ids
        if not ids:
            if truth is not None:
                message = f"--truth {truth}: {snapshot.files.url} has no test soundscape"
                raise UsageError(message, remedy="ingest and hear them, or leave --truth away")
            return None
        keys = window_keys(_first_table(snapshot, design, components, ids), design)
        if truth is None:
            return cls(snapshot, design, components, ids, keys, None)
        _refuse_copies(snapshot, ids)
        from birdstack.stacking.row_ids import read_truth, row_ids  # noqa: PLC0415 - as needed

        rows = row_ids(keys["recording_id"].to_list(), keys["end_s"].to_list())
        labels = read_truth(truth, design.classes, rows)
        return cls(snapshot, design, components, ids, keys, labels)

    def domain(self, reporter: Reporter, training: StackTable, fitted: Fitted) -> Domain:
        """Scores by what was fitted on each fold model's, averaged."""
        models = self.design.fold_models or (None,)
        with reporter.progress("scoring test windows") as advance:
            done = itertools.count(1)
            scores = fresh_scores(
                fitted.stacker,
                training,
                self._tables(),
                every=self.labels is not None,
                advance=lambda: advance(next(done), len(models), ""),
            )
        mean = mean_logits(self._tables())
        table = _first_table(self.snapshot, self.design, self.components, self.ids)
        table = table.scored(np.stack([mean[name] for name in table.backbones]))
        table = table if self.labels is None else table.with_truth(self.labels)
        rows = np.ones(table.n_windows, dtype=bool)
        return Domain(TEST, table, rows, self.keys, scores, fresh=True)

    def _tables(self) -> Iterator[FoldTable]:
        for model_fold in self.design.fold_models or (None,):
            yield (
                model_fold,
                fresh_table(self.snapshot, self.design, self.ids, model_fold, self.components),
            )


def _refuse_copies(snapshot: Snapshot, judged: list[str]) -> None:
    """Hold that no recording to be judged by is a copy of one that is learnt from."""
    recordings = snapshot.table("recordings").select("recording_id", "content_hash")
    trained = recordings.join(snapshot.table("folds"), on="recording_id", how="semi")
    own = recordings.filter(pl.col("recording_id").is_in(judged))
    refuse_judged_training(
        trained["recording_id"].to_list(),
        trained["content_hash"].to_list(),
        own["recording_id"].to_list(),
        own["content_hash"].to_list(),
    )


def _first_table(
    snapshot: Snapshot, design: Design, components: Components | None, ids: list[str]
) -> StackTable:
    model_fold = next(iter(design.fold_models), None)
    return fresh_table(snapshot, design, ids, model_fold, components)


def _pin(store: Store, snapshot: Snapshot, out: Path) -> str:
    """Keep the snapshot for as long as the run wants it; an earlier run's pin is let go."""
    base = "".join(c if c.isalnum() or c in "-_." else "-" for c in out.resolve().name)
    name = f"stack-{base}-{snapshot.version}"
    pins = store.pins()
    if (out / RUN).is_file():
        try:
            before = read_run(out).get("pin")
        except BirdstackError:
            before = None
        if before in pins and before != name:
            store.unpin(before)
    if name not in pins:
        store.pin(name, snapshot)
    return name
