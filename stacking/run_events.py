"""`birdstack events`: scores of windows to events, in the formats of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl
from pydantic import ValidationError

from birdstack.features.probe import AudioProbe
from birdstack.stacking.console import Reporter, counted
from birdstack.stacking.event_input import read_thresholds, read_window_scores
from birdstack.stacking.event_tables import FORMATS, EventStyle, write_events
from birdstack.stacking.events import EventConfig, WindowScores, find_events
from birdstack.stacking.options import DONE
from birdstack.store.audio_files import list_audio
from birdstack.store.classes import read_names
from birdstack.store.errors import SkipRecording, UsageError
from birdstack.store.fault_rules import RejectLog

_SHOWN = 10


@dataclass(frozen=True)
class EventOptions:
    """What `birdstack events` was asked for.

    Attributes:
        out: folder to write into.
        formats: of `event_tables.FORMATS`.
        threshold: score from which on a window counts.
        thresholds: CSV file of thresholds by class.
        top: best windows of each class that count.
        quantile: quantile of its class from which on a window counts.
        gap: windows that are bridged.
        min_s: shortest event.
        window_s: length of a window where the predictions do not say it.
        names: table of scientific and common names.
        audio: folder of the recordings.
        max_hz: highest frequency of a selection.
        replace: whether events of an earlier run make way.
    """

    out: Path
    formats: Sequence[str] = FORMATS
    threshold: float | None = None
    thresholds: Path | None = None
    top: int | None = None
    quantile: float | None = None
    gap: int = 0
    min_s: float = 0.0
    window_s: float = 5.0
    names: Path | None = None
    audio: Path | None = None
    max_hz: float = 16_000.0
    replace: bool = False


def run_events(reporter: Reporter, predictions: Path, options: EventOptions) -> int:
    """Read scores, find events, write them.

    Args:
        reporter: who is told.
        predictions: scores of windows, see `event_input`.
        options: what was asked for.

    Returns:
        The exit code.

    Raises:
        UsageError: options exclude each other, a file is not there, or the folder cannot be
            written.
        DatasetError: a table does not fit.
    """
    ranked = options.top is not None or options.quantile is not None
    if ranked and (options.threshold is not None or options.thresholds is not None):
        message = "--top and --quantile do not go with --threshold or --thresholds"
        raise UsageError(message, remedy="say in one way which windows count")
    scores = read_window_scores(predictions, window_s=options.window_s, bounded=not ranked)
    config = _config(options, scores)
    events = find_events(scores, config)
    audio, lengths_s = _sounds(reporter, options.audio, scores)
    style = EventStyle(
        names={} if options.names is None else read_names(options.names),
        audio=audio,
        band_hz=(0.0, options.max_hz),
    )
    written = write_events(
        events, lengths_s, options.out, options.formats, style=style, replace=options.replace
    )
    _tell(reporter, events, scores, config)
    formats = ", ".join(options.formats)
    reporter.say(f"{counted(written.files, 'file')} in {written.out}: events.csv, {formats}")
    reporter.event(
        "finished",
        exit_code=DONE,
        out=str(written.out),
        files=written.files,
        events=written.events,
        recordings=len(lengths_s),
        recordings_with_events=written.recordings,
        classes=events["class"].n_unique(),
        settings=config.model_dump(mode="json"),
    )
    return DONE


def _config(options: EventOptions, scores: WindowScores) -> EventConfig:
    by_class = {}
    if options.thresholds is not None:
        by_class = read_thresholds(options.thresholds, scores.classes)
    try:
        return EventConfig(
            threshold=0.5 if options.threshold is None else options.threshold,
            by_class=by_class,
            top=options.top,
            quantile=options.quantile,
            gap=options.gap,
            min_s=options.min_s,
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = "".join(f"--{part}: " for part in first["loc"]).replace("_", "-")
        message = f"{name}{first['msg']}, got {first['input']!r}"
        raise UsageError(message, remedy="give a value within bounds") from error


def _sounds(
    reporter: Reporter, folder: Path | None, scores: WindowScores
) -> tuple[dict[str, str], dict[str, float]]:
    """Where the file of each recording lies, and how long it is, as far as that is known."""
    lengths_s = scores.ends_s()
    if folder is None:
        return {}, lengths_s
    if not folder.is_dir():
        message = f"--audio {folder}: no such folder"
        raise UsageError(message, remedy="name the folder of the recordings")
    found = _matched(folder, scores.recording_ids)
    with AudioProbe() as probe:
        for recording, path in found.items():
            try:
                lengths_s[recording] = probe(path).duration_s
            except SkipRecording as skip:
                reporter.warn(f"{path}: {skip.reason}; its length is taken from its windows")
    lost = [name for name in scores.recording_ids if name not in found]
    if lost:
        told = ", ".join(lost[:3])
        reporter.warn(f"no file in {folder} for {counted(len(lost), 'recording')}: {told}")
    return {name: str(path.absolute()) for name, path in found.items()}, lengths_s


def _matched(folder: Path, recording_ids: Sequence[str]) -> dict[str, Path]:
    """Files of recordings: of the same path, or else the only one of the same name."""
    files = list_audio(folder, [""], RejectLog("")).files
    stems: dict[str, list[str]] = {}
    for name in files:
        stems.setdefault(PurePosixPath(name).stem, []).append(name)
    matched = {}
    for recording in recording_ids:
        here = [recording] if recording in files else stems.get(recording, [])
        if not here:
            here = stems.get(PurePosixPath(recording).stem, [])
        if len(here) == 1:
            matched[recording] = folder / here[0]
    return matched


def _tell(
    reporter: Reporter, events: pl.DataFrame, scores: WindowScores, config: EventConfig
) -> None:
    recordings = counted(len(scores.recording_ids), "recording")
    if events.is_empty():
        best = float(scores.values.max()) if scores.values.size else float("nan")
        what = f"no event in {recordings}"
        if config.absolute:
            what += f": the highest score is {best:.3g}; scores are no probabilities, so lower "
            what += "--threshold, or take the best windows of each class with --top"
        reporter.warn(what)
        return
    reporter.say(
        f"{counted(events.height, 'event')} of {counted(events['class'].n_unique(), 'class')} "
        f"in {events['recording_id'].n_unique():,} of {recordings}"
    )
    length_s = (pl.col("end_s") - pl.col("start_s")).sum()
    by_class = events.group_by("class").agg(
        pl.len().alias("events"),
        pl.col("recording_id").n_unique().alias("recordings"),
        length_s.alias("seconds"),
        pl.col("max_score").max(),
    )
    shown = by_class.sort("events", "class", descending=[True, False])
    reporter.table("", shown.columns, _rows(shown.head(_SHOWN)))
    if shown.height > _SHOWN:
        reporter.say(f"and {counted(shown.height - _SHOWN, 'class')} more, see events.csv")


def _rows(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    rows: list[Mapping[str, object]] = list(frame.iter_rows(named=True))
    return [tuple(row.values()) for row in rows]
