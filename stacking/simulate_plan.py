"""Plans simulated soundscapes: who sings when, how loud, and from which recordings.

A plan follows from the store's tables and the seed alone. Soundscape number n of a fold does
not depend on how many are asked for, so that more can be made later.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from birdstack.store.catalog import load_recordings
from birdstack.store.errors import StoreError
from birdstack.store.labelled_soundscapes import labelled_soundscapes
from birdstack.store.recordings import Recording
from birdstack.store.simulated import spanning
from birdstack.store.snapshot import Snapshot
from birdstack.store.views import canonical_json

SIMULATE_VERSION = 1
"""Raised when the same store, settings and seed give other soundscapes than before."""

SNR_DB = (-6.0, 18.0)
"""Uniform range of a clip's signal-to-noise ratio."""

CLIP_S = (5.0, 10.0)
"""Uniform range of a clip's length; a shorter recording is taken whole."""

BIRDS_AT_ONCE = (0.2, 1.6)
"""Uniform range of a soundscape's mean number of birds at a time."""

MOST_AT_ONCE = 3
CAST = 5
"""Species in a soundscape: dealt out in turn, so that rare ones come as often as common ones."""

OFFSETS = 3
"""Places in a recording that a clip may be taken from; the loudest of them is."""

_MIN_FOLDS = 2
_PLAN, _DEAL = 1, 2


class SimulateConfig(BaseModel):
    """What is simulated.

    Attributes:
        per_fold: soundscapes of each fold.
        duration_s: length of each.
        seed: of every draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_fold: int = Field(default=10, ge=1, le=9999)
    duration_s: float = Field(default=240.0, ge=10, le=3600)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)


@dataclass(frozen=True)
class Source:
    """A labelled recording that clips are taken from.

    Attributes:
        recording: where it lies.
        fold: that it is held out in.
        primary: its primary labels.
        secondary: its secondary labels.
    """

    recording: Recording
    fold: int
    primary: tuple[str, ...]
    secondary: tuple[str, ...]


@dataclass(frozen=True)
class PlannedClip:
    """A stretch of one recording at its place in a soundscape.

    Attributes:
        source: whose.
        start_s: in the soundscape.
        length_s: of the stretch, if the recording holds so much.
        offsets: places in the recording, 0 its beginning and 1 the last that fits.
        snr_db: mean power of the clip over that of the background around it, both in the
            song band.
    """

    source: Source
    start_s: float
    length_s: float
    offsets: tuple[float, ...]
    snr_db: float


@dataclass(frozen=True)
class PlannedSoundscape:
    """One simulated soundscape.

    Attributes:
        name: recording id: path below the folder.
        fold: of all its clips.
        duration_s: its length.
        clips: in order of their start.
        backdrop: recording that is heard behind them; None for coloured noise.
        seed: of what is drawn while it is mixed.
    """

    name: str
    fold: int
    duration_s: float
    clips: tuple[PlannedClip, ...]
    backdrop: Recording | None
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Material:
    """What a store has to mix from.

    Attributes:
        sources: fold -> label -> recordings, by id.
        backdrops: unlabelled soundscapes, by id.
        left_out: labelled recordings whose group spans folds, or whose labels have times.
    """

    sources: dict[int, dict[str, list[Source]]]
    backdrops: list[Recording]
    left_out: int

    def digest(self) -> str:
        """Changes with the recordings, their bytes, folds and labels."""
        clips = [
            [label, s.recording.recording_id, s.recording.content_hash, fold, *s.secondary]
            for fold, of_fold in sorted(self.sources.items())
            for label, sources in sorted(of_fold.items())
            for s in sources
        ]
        behind = [[b.recording_id, b.content_hash] for b in self.backdrops]
        text = canonical_json({"clips": clips, "behind": behind})
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def gather(snapshot: Snapshot) -> Material:
    """Labelled recordings with sound by fold and label, and what may lie behind them.

    A copy of a labelled recording is no backdrop, whatever split it is in. A recording whose
    group spans folds is left out: the model of its fold may have met a copy.

    Raises:
        StoreError: there is no labelled recording with sound, or all lie in one fold.
    """
    labels = snapshot.table("labels")
    folds = snapshot.table("folds")
    timed = labels.filter(pl.col("start_s").is_not_null()).select("recording_id")
    fold_of = dict(folds.select("recording_id", "fold").iter_rows())
    unfit = set(timed["recording_id"]) | set(spanning(folds)["recording_id"])
    named: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, label, role in labels.select("recording_id", "label", "role").sort(pl.all()).rows():
        named[name, role].append(label)
    sources: dict[int, dict[str, list[Source]]] = {}
    left_out = 0
    strong = set(labelled_soundscapes(snapshot, folds)["recording_id"])
    for recording in load_recordings(snapshot, ["train"]):
        name = recording.recording_id
        if name in strong or name not in fold_of or (name, "primary") not in named:
            continue
        if name in unfit:
            left_out += 1
            continue
        primary, secondary = named[name, "primary"], named.get((name, "secondary"), [])
        source = Source(recording, fold_of[name], tuple(primary), tuple(secondary))
        for label in primary:
            sources.setdefault(source.fold, {}).setdefault(label, []).append(source)
    _refuse_nothing(snapshot, sources, left_out)
    rows = snapshot.table("recordings")
    copies = set(rows.filter(pl.col("duplicate_group").is_not_null())["recording_id"])
    backdrops = [
        r for r in load_recordings(snapshot, ["unlabeled"]) if r.recording_id not in copies
    ]
    return Material(dict(sorted(sources.items())), backdrops, left_out)


def _refuse_nothing(
    snapshot: Snapshot, sources: dict[int, dict[str, list[Source]]], left_out: int
) -> None:
    if len(sources) >= _MIN_FOLDS:
        return
    fit = "no labelled recording" if not sources else f"labelled recordings of {len(sources)} fold"
    out = f" ({left_out} left out: labels with times, or a group in several folds)"
    message = (
        f"{snapshot.files.url}: {fit} with sound and a fold to mix soundscapes from"
        f"{out if left_out else ''}; two folds are needed"
    )
    raise StoreError(message, remedy="ingest labelled recordings of several authors, with audio")


def plan(material: Material, config: SimulateConfig) -> list[PlannedSoundscape]:
    """Every soundscape, by name."""
    return [
        _soundscape(material, config, fold, number)
        for fold in material.sources
        for number in range(config.per_fold)
    ]


def _soundscape(
    material: Material, config: SimulateConfig, fold: int, number: int
) -> PlannedSoundscape:
    key = (config.seed, SIMULATE_VERSION, _PLAN, fold, number)
    rng = np.random.default_rng(key)
    of_fold = material.sources[fold]
    cast = _cast(sorted(of_fold), config.seed, fold, number)
    behind = material.backdrops
    backdrop = behind[int(rng.integers(len(behind)))] if behind else None
    clips = [
        _clip(of_fold, cast, start_s, length_s, rng)
        for start_s, length_s in _timeline(config.duration_s, rng)
    ]
    return PlannedSoundscape(
        name=f"simulated_soundscapes/fold{fold}_{number:04d}.ogg",
        fold=fold,
        duration_s=config.duration_s,
        clips=tuple(clips),
        backdrop=backdrop,
        seed=(*key, 1),
    )


def _cast(labels: Sequence[str], seed: int, fold: int, number: int) -> list[str]:
    """The species of one soundscape: all of the fold are dealt before one comes again."""
    cast = []
    for turn in range(number * CAST, (number + 1) * CAST):
        deal = np.random.default_rng((seed, SIMULATE_VERSION, _DEAL, fold, turn // len(labels)))
        cast.append(labels[int(deal.permutation(len(labels))[turn % len(labels)])])
    return list(dict.fromkeys(cast))


def _timeline(duration_s: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Start and length of each clip: they come at random, never more than three at a time."""
    mean_s = sum(CLIP_S) / 2
    gap_s = mean_s / float(rng.uniform(*BIRDS_AT_ONCE))
    found: list[tuple[float, float]] = []
    last_s = duration_s - CLIP_S[0]
    now_s = float(rng.exponential(gap_s)) % last_s  # the first is always heard
    while now_s < last_s:
        length_s = min(float(rng.uniform(*CLIP_S)), duration_s - now_s)
        if sum(start_s + taken_s > now_s for start_s, taken_s in found) < MOST_AT_ONCE:
            found.append((round(now_s, 3), round(length_s, 3)))
        now_s += float(rng.exponential(gap_s))
    return found


def _clip(
    of_fold: dict[str, list[Source]],
    cast: Sequence[str],
    start_s: float,
    length_s: float,
    rng: np.random.Generator,
) -> PlannedClip:
    sources = of_fold[cast[int(rng.integers(len(cast)))]]
    return PlannedClip(
        source=sources[int(rng.integers(len(sources)))],
        start_s=start_s,
        length_s=length_s,
        offsets=tuple(float(place) for place in rng.uniform(size=OFFSETS)),
        snr_db=round(float(rng.uniform(*SNR_DB)), 2),
    )
