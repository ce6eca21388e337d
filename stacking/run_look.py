"""`birdstack look`: a picture of one recording, with columns of the store below it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.features.audio import AudioSource, Sound
from birdstack.features.pictures import Curve, draw_recording, facts_line, find_column, save_png
from birdstack.features.pictures_spectrogram import Spectrogram, spectrogram
from birdstack.features.place import place_columns
from birdstack.features.probe import AudioProbe
from birdstack.stacking.extractors import make_extractors
from birdstack.stacking.options import DONE
from birdstack.stacking.session import Session
from birdstack.store.catalog import load_recordings
from birdstack.store.errors import BirdstackError, NoStoreError, SkipRecording, UsageError
from birdstack.store.extractor import Extractor
from birdstack.store.recordings import Recording
from birdstack.store.snapshot import Snapshot
from birdstack.store.soundscape_names import parse_soundscape_name
from birdstack.store.store import Store
from birdstack.store.views import Column

DEFAULT_COLUMNS = ("ndsi", "activity_frame_share", "level_db")
_DEFAULT_STORE = "birdstack-store"
_MAX_LISTED = 5
_MAX_CURVES = 12


@dataclass(frozen=True)
class Look:
    """What of a recording is shown.

    Attributes:
        out: the picture; None for the recording's name in the current folder.
        columns: names of columns; empty for `DEFAULT_COLUMNS`.
        start_s: begin of the stretch shown.
        end_s: its end; None for the end of the recording.
        fmin_hz: lowest frequency shown.
        fmax_hz: highest; None for half the lower of the file's rate and the rate heard.
    """

    out: Path | None = None
    columns: Sequence[str] = ()
    start_s: float = 0.0
    end_s: float | None = None
    fmin_hz: float = 0.0
    fmax_hz: float | None = None


@dataclass(frozen=True)
class _Known:
    """A column that can be had for the recording: from the store, or by measuring."""

    view: str
    column: Column
    extractor: Extractor[Any] | None


def run_look(session: Session, recording: str, look: Look) -> int:
    """Draw one recording. Returns the exit code.

    Args:
        session: settings, the store's place, somebody to report to.
        recording: an audio file, or the id of a recording in the store, or the end of one.
        look: what to show.

    Raises:
        UsageError: no such recording or column, or nothing lies in the stretch or band.
        BirdstackError: the recording cannot be decoded.
    """
    snapshot = _snapshot(session, recording)
    found = _find(recording, snapshot)
    out = _out(look.out, found)
    grid = session.settings.grid if snapshot is None else snapshot.grid
    with AudioSource(session.settings.audio, grid) as source:
        known = _known_columns(session, source, snapshot, found)
        chosen = _choose(look.columns, known)
        with session.reporter.progress("looking"):
            sound = _open(source, found)
            picture = _picture(session, sound, found, look)
            curves = _curves(chosen, known, snapshot, sound, found)
    now = place_columns(found, np.array([look.start_s]), session.settings.place)
    facts = {
        name: getattr(found, name)
        for name in ("site", "latitude", "longitude", "elevation_m", "date", "time")
    } | {"solar_elevation_deg": float(now["solar_elevation_deg"][0])}
    figure = draw_recording(
        picture,
        grid,
        sound.n_windows,
        curves,
        title=found.recording_id,
        subtitle=facts_line(facts),
    )
    save_png(figure, out)
    session.reporter.event(
        "drawn",
        recording_id=found.recording_id,
        out=str(out),
        windows=sound.n_windows,
        columns=chosen,
        measured=[name for name in chosen if known[name].extractor is not None],
    )
    session.reporter.say(f"{out}: {found.recording_id}, {sound.n_windows} windows")
    return DONE


def _snapshot(session: Session, wanted: str) -> Snapshot | None:
    """The store as it is; none is needed for a file, unless one was named."""
    try:
        return Store.open(session.store_url).snapshot()
    except NoStoreError:
        if session.store_url != _DEFAULT_STORE:
            raise
        if Path(wanted).is_file():
            return None
        message = (
            f"{wanted!r} is not a file, and there is no store at {_DEFAULT_STORE} that knows it"
        )
        raise UsageError(message, remedy="give an audio file, or --store and an id") from None


def _find(wanted: str, snapshot: Snapshot | None) -> Recording:
    """The recording meant: a file, known to the store or not, or an id of the store."""
    known = [] if snapshot is None else load_recordings(snapshot)
    path = Path(wanted)
    if path.is_file():
        same = [r for r in known if r.path.name == path.name and r.path.resolve() == path.resolve()]
        return same[0] if same else _from_file(path)
    exact = [r for r in known if r.recording_id == wanted]
    found = exact or [
        r
        for r in known
        if r.recording_id.endswith(wanted) or Path(r.recording_id).with_suffix("").name == wanted
    ]
    if len(found) == 1:
        return found[0]
    assert snapshot is not None  # a file that is none needs a store
    place = snapshot.files.url
    if found:
        some = ", ".join(r.recording_id for r in found[:_MAX_LISTED])
        message = f"{wanted!r}: {len(found)} recordings of {place} end so, e.g. {some}"
        raise UsageError(message, remedy="give more of the recording's id")
    near = difflib.get_close_matches(wanted, [r.recording_id for r in known], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    message = f"{wanted!r} is neither an audio file nor a recording of {place}{hint}"
    raise UsageError(
        message, remedy="give a file, or an id as `store export recordings` lists them"
    )


def _from_file(path: Path) -> Recording:
    """A recording that no store knows; its name may tell where and when."""
    facts = parse_soundscape_name(path.stem)
    return Recording(
        path.name, path, content_hash="", site=facts.site, date=facts.date, time=facts.time
    )


def _out(out: Path | None, recording: Recording) -> Path:
    """Where the picture goes; wrong places are refused before anything is decoded."""
    if out is None:
        return Path(f"{Path(recording.recording_id).stem}.png")
    if out.suffix.lower() != ".png":
        message = f"--out {out}: the picture is a PNG"
        raise UsageError(message, remedy=f"write --out {out.with_suffix('.png')}")
    if not out.parent.is_dir():
        message = f"--out {out}: there is no folder {out.parent}"
        raise UsageError(message, remedy="make the folder first, or give another --out")
    return out


def _known_columns(
    session: Session, source: AudioSource, snapshot: Snapshot | None, recording: Recording
) -> dict[str, _Known]:
    """Name -> where to get it: the store where it holds the recording, else an extractor."""
    extractors = make_extractors(session.settings, source, source.grid)
    keys = {spec.name: e.content_key(recording) for e in extractors for spec in e.specs}
    known = {
        column.name: _Known(spec.name, column, extractor)
        for extractor in extractors
        for spec in extractor.specs
        for column in spec.columns
    }
    for view in [] if snapshot is None else snapshot.views:
        assert snapshot is not None
        covered = snapshot.covered(view).get(recording.recording_id)
        if covered is None or covered.content_hash != keys.get(view, recording.content_key):
            continue
        for column in snapshot.spec(view).columns:
            taken = column.name in known and known[column.name].view != view
            name = f"{view}:{column.name}" if taken else column.name
            known[name] = _Known(view, column, None)
    return {
        name: entry
        for name, entry in known.items()
        if entry.column.dtype != "str" and entry.column.dim is None
    }


def _choose(wanted: Sequence[str], known: Mapping[str, _Known]) -> list[str]:
    """Full names of the columns to draw."""
    names = list(known)
    if not wanted:
        found = [find_column(name, names) for name in DEFAULT_COLUMNS]
        return [name for name in found if name is not None]
    if len(wanted) > _MAX_CURVES:
        message = f"--columns: at most {_MAX_CURVES} fit under a picture, got {len(wanted)}"
        raise UsageError(message, remedy="draw fewer columns at a time")
    chosen = []
    for name in dict.fromkeys(wanted):
        full = find_column(name, names)
        if full is None:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
            hint = f"; near: {', '.join(near)}" if near else ""
            message = f"--columns: no column {name!r} for this recording{hint}"
            raise UsageError(message, remedy="see the columns with `birdstack store describe`")
        chosen.append(full)
    return chosen


def _open(source: AudioSource, recording: Recording) -> Sound:
    try:
        return source.open(recording)
    except SkipRecording as skip:
        message = f"{recording.path} cannot be heard: {skip}"
        remedy = "mend or replace the file; if it was replaced, run `birdstack features` first"
        raise BirdstackError(message, remedy=remedy) from skip


def _picture(session: Session, sound: Sound, recording: Recording, look: Look) -> Spectrogram:
    with AudioProbe(session.settings.audio) as probe:
        header = probe(recording.path)
    half_hz = min(header.sample_rate_hz, sound.sample_rate_hz) / 2
    fmax_hz = half_hz if look.fmax_hz is None else look.fmax_hz
    end_s = sound.duration_s if look.end_s is None else min(look.end_s, sound.duration_s)
    if not 0 <= look.start_s < end_s:
        message = (
            f"--start {look.start_s:g} --end {end_s:g}: no stretch of a recording "
            f"of {sound.duration_s:.1f} s"
        )
        raise UsageError(message, remedy="give 0 <= start < end in seconds")
    if not 0 <= look.fmin_hz < fmax_hz <= sound.sample_rate_hz / 2:
        message = (
            f"--fmin {look.fmin_hz:g} --fmax {fmax_hz:g}: no band of sound heard up to "
            f"{sound.sample_rate_hz / 2:g} Hz"
        )
        raise UsageError(message, remedy="give 0 <= fmin < fmax in Hz")
    try:
        return spectrogram(
            sound.samples,
            sound.sample_rate_hz,
            start_s=look.start_s,
            end_s=end_s,
            fmin_hz=look.fmin_hz,
            fmax_hz=fmax_hz,
        )
    except ValueError as error:
        raise UsageError(str(error), remedy="show a longer stretch or a wider band") from error


def _curves(
    chosen: Sequence[str],
    known: Mapping[str, _Known],
    snapshot: Snapshot | None,
    sound: Sound,
    recording: Recording,
) -> list[Curve]:
    """Values of the chosen columns; views that one extractor fills are measured in one pass."""
    entries = {name: known[name] for name in chosen}
    values: dict[str, np.ndarray] = {}
    for extractor in {id(e.extractor): e.extractor for e in entries.values()}.values():
        mine = {name: e for name, e in entries.items() if e.extractor is extractor}
        if extractor is not None:
            views = {e.view for e in mine.values()}
            measured = extractor.extract(sound, recording, views)
            values |= {n: np.asarray(measured[e.view][e.column.name]) for n, e in mine.items()}
            continue
        assert snapshot is not None
        for name, entry in mine.items():
            rows = snapshot.view(entry.view, recordings=[recording.recording_id])
            values[name] = _floats(rows.select(entry.column.name).collect().to_series())
    return [
        Curve(name, values[name], e.column.unit, e.column.low, e.column.high)
        for name, e in entries.items()
    ]


def _floats(series: pl.Series) -> np.ndarray:
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
