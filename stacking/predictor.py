"""From the sound of a recording to scores, without a store: what `birdstack predict` repeats.

One pass over the sound gives the acoustic columns, the pictures, and what every network and
every fold model says; the stack scores the columns of each fold model, and the scores are
averaged. The numbers are those that the store's path gives (`export_check` holds them to it).
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from birdstack.embeddings.engine import EngineKind
from birdstack.embeddings.shelf import InputShelf
from birdstack.features.audio import AudioSource, Sound
from birdstack.features.place import VIEW_NAME, PlaceExtractor
from birdstack.features.probe import AudioProbe
from birdstack.stacking.bundle import Bundle
from birdstack.stacking.bundle_networks import Fold, bundled_voice
from birdstack.stacking.design_columns import DesignColumns
from birdstack.stacking.design_table import assemble
from birdstack.stacking.extractors import acoustic_extractor
from birdstack.stacking.shipped import Shipped
from birdstack.stacking.stack_table import SOUNDSCAPES
from birdstack.store.errors import CorruptError, SkipRecording, UsageError
from birdstack.store.recordings import Recording
from birdstack.store.soundscape_names import parse_soundscape_name


@dataclass(frozen=True)
class HeardRecording:
    """What was heard of one recording.

    Attributes:
        recording_id: of it.
        folds: the fold models that spoke.
        logits: float32 `[fold, backbone, window, class]`.
        extra: float32 `[window, column]`, NaN in columns that nothing asks for.
        domain: what the stack takes it for.
        notes: deviations found while decoding, such as truncation.
        seconds: spent, by stage.
    """

    recording_id: str
    folds: tuple[Fold, ...]
    logits: np.ndarray
    extra: np.ndarray
    domain: str = SOUNDSCAPES
    notes: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def n_windows(self) -> int:
        """Number of windows."""
        return int(self.logits.shape[2])


class Predictor:
    """Hears recordings and scores them. Threads may share one; close it at the end.

    Args:
        bundle: what predicts.
        engine: of the networks, among those that the bundle's files serve; None for its own.
        fold_models: numbers of the fold models that are averaged; None for all.
        workers: how many threads will call at once.

    Raises:
        UsageError: an unknown fold model.
        ConfigError: an engine that the bundle does not serve, or a missing package.
        CorruptError: this birdstack does not make the columns that the stack learnt from.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        engine: EngineKind | None = None,
        fold_models: Sequence[int] | None = None,
        workers: int = 1,
    ) -> None:
        self.bundle, self.design = bundle, bundle.design
        self.engine: EngineKind = engine or bundle.facts.engine
        known = bundle.fold_models
        chosen = known if fold_models is None else tuple(fold_models)
        wrong = [number for number in chosen if number not in known]
        if wrong or (known and not chosen):
            message = f"{bundle.folder}: no fold model {wrong or 'at all'}; it has {list(known)}"
            raise UsageError(message, remedy="name some of these, or leave the choice away")
        self.folds: tuple[Fold, ...] = chosen or (None,)
        self.shipped = _one_thread(bundle.shipped)
        self.source = AudioSource(bundle.facts.audio, bundle.design.grid)
        self._probe = AudioProbe(bundle.facts.audio)  # starts its processes when first asked
        self._shelf = InputShelf()
        self.networks = [
            bundled_voice(bundle, facts, kind=self.engine, threads=workers)
            for facts in bundle.facts.networks
        ]
        self._columns = _needed(bundle, self.shipped)
        self._made = DesignColumns(bundle.design, bundle.shipped.components)
        pictures = [n.shared_picture for n in self.networks]
        self._acoustic = [
            (
                acoustic_extractor(
                    part.config,
                    part.implementation,
                    self.source,
                    self.design.grid,
                    pictures=[picture for picture in pictures if picture is not None],
                    shelf=self._shelf,
                ),
                [view for view in part.views if self._columns.get(view)],
            )
            for part in bundle.facts.acoustic
        ]
        place = bundle.facts.place
        self._place = None if place is None else PlaceExtractor(self.design.grid, place)
        self._refuse_other_recipes()

    def ready(self) -> None:
        """Make every engine now: what is missing is said before any sound is heard.

        Raises:
            ConfigError: a package is missing; names the extra.
            EngineError: a network's files cannot be read.
        """
        for network in self.networks:
            network.ready(self.folds)

    def recording(self, path: str | Path) -> tuple[np.ndarray, np.ndarray]:
        """Hear and score one file.

        Args:
            path: an audio file; site, date and time are read from its name.

        Returns:
            Scores, float32 `[window, class]`, higher is more likely; and the second at which
            each window starts, `[window]`.

        Raises:
            SkipRecording: the file cannot be used.
        """
        path = Path(path)
        found = soundscape_recording(path, path.parent)
        heard = self.hear(self.open(found), found)
        (scores,) = self.score([heard])
        return scores, self.starts_s(heard.n_windows)

    def open(self, recording: Recording) -> Sound:
        """Decode one recording.

        Raises:
            SkipRecording: it cannot be used.
        """
        return self.source.open(recording)

    def hear(
        self,
        sound: Sound,
        recording: Recording,
        *,
        folds: Sequence[Fold] | None = None,
        domain: str = SOUNDSCAPES,
    ) -> HeardRecording:
        """Everything that the stack asks of one recording.

        Args:
            sound: of it.
            recording: its place and time.
            folds: fold models that speak; None for those chosen.
            domain: what the stack takes it for.
        """
        folds = self.folds if folds is None else tuple(folds)
        started_s = time.perf_counter()
        found: dict[str, Mapping[str, np.ndarray]] = {}
        for extractor, views in self._acoustic:
            if views:
                found |= extractor.extract(sound, recording, views)
        if self._place is not None and self._columns.get(VIEW_NAME):
            found |= self._place.extract(sound, recording, [VIEW_NAME])
        acoustic_s = time.perf_counter()
        logits = [network.logits(sound, self._shelf, folds) for network in self.networks]
        networks_s = time.perf_counter()
        return HeardRecording(
            recording.recording_id,
            folds,
            np.stack(logits, axis=1),
            self._made.columns(found, n_windows=sound.n_windows),
            domain,
            sound.notes,
            {"acoustic": acoustic_s - started_s, "networks": networks_s - acoustic_s},
        )

    def score(self, heard: Sequence[HeardRecording]) -> list[np.ndarray]:
        """Scores `[window, class]`, float32, of each recording: the mean over fold models.

        Args:
            heard: recordings that the same fold models spoke of; scored side by side, which
                costs less than one by one and changes none of them.
        """
        order = sorted(range(len(heard)), key=lambda at: heard[at].recording_id)
        taken = [heard[at] for at in order]
        counts = np.array([each.n_windows for each in taken])
        extra = np.concatenate([each.extra for each in taken])
        total = np.zeros((int(counts.sum()), len(self.design.classes)))
        for at, fold in enumerate(taken[0].folds):
            table = assemble(
                self.design,
                [each.recording_id for each in taken],
                counts,
                logits=np.concatenate([each.logits[at] for each in taken], axis=1),
                extra=extra,
                domain=[each.domain for each in taken],
            )
            total += self.shipped.predict(table, held=fold)
        scores = np.split((total / len(taken[0].folds)).astype(np.float32), np.cumsum(counts)[:-1])
        found: list[np.ndarray] = [scores[0]] * len(heard)
        for place, values in zip(order, scores, strict=True):
            found[place] = values
        return found

    def starts_s(self, n_windows: int) -> np.ndarray:
        """Second at which each window starts, `[window]`."""
        return np.arange(n_windows) * self.design.grid.hop_s

    def declared_windows(self, path: Path) -> int | None:
        """Windows of a file by what its header declares; None where that cannot be read."""
        try:
            seconds = self._probe(path).duration_s
        except SkipRecording:
            return None
        rate_hz = self.bundle.facts.audio.sample_rate_hz
        return self.design.grid.n_windows(round(seconds * rate_hz), rate_hz)

    def close(self) -> None:
        """End the decoder processes."""
        self.source.close()
        self._probe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _refuse_other_recipes(self) -> None:
        """Columns are made as those that the stack learnt from, or not at all."""
        specs = [spec for extractor, _ in self._acoustic for spec in extractor.specs]
        specs += [] if self._place is None else list(self._place.specs)
        made = {spec.name: spec.recipe_hash for spec in specs}
        for pin in self.design.extras:
            if self._columns.get(pin.view) and made.get(pin.view) != pin.recipe:
                message = (
                    f"{self.bundle.folder}: the stack learnt from {pin.view!r} by recipe "
                    f"{pin.recipe}, this birdstack makes {made.get(pin.view, 'no such view')}"
                )
                wrote = self.bundle.facts.versions.get("birdstack", "that wrote the bundle")
                raise CorruptError(message, remedy=f"install birdstack {wrote}, or export again")


def soundscape_recording(path: Path, root: Path) -> Recording:
    """A file as ingestion would list it: site, date and time from its name.

    Raises:
        SkipRecording: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            n_bytes = file.tell()
    except OSError as error:
        code, reason = "unreadable_file", f"the file cannot be read: {error.strerror or error}"
        raise SkipRecording(code, reason) from error
    facts = parse_soundscape_name(path.stem)
    return Recording(
        recording_id=path.relative_to(root).as_posix(),
        path=path,
        content_hash=digest,
        n_bytes=n_bytes,
        site=facts.site,
        date=facts.date,
        time=facts.time,
    )


def _needed(bundle: Bundle, shipped: Shipped) -> Mapping[str, int]:
    """Views with columns that some class looks at, and how many: the others are not made."""
    if shipped.stack is None:
        return {}
    views = [pin.view for pin in bundle.design.extras for _ in pin.columns]
    used = {index for row in shipped.stack.plan.extras for index in row}
    return Counter(views[index] for index in used)


def _one_thread(shipped: Shipped) -> Shipped:
    """The same in one thread: recordings are scored side by side, not classes."""
    if shipped.stack is None:
        return shipped
    settings = shipped.stack.settings.model_copy(update={"workers": 1})
    return replace(shipped, stack=replace(shipped.stack, settings=settings))
