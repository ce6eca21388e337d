"""The tables of the demo data as CSV text: metadata, truth, events, classes, sites."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from birdstack.features.demo_config import WINDOW_S
from birdstack.features.demo_focal import Focal
from birdstack.features.demo_scene import Event, Scene
from birdstack.features.demo_soundscapes import Soundscape
from birdstack.features.demo_species import Species
from birdstack.features.demo_world import Site

MIN_OVERLAP_S = 0.2
"""A class is present in a window if one of its events lies in it for this long, or wholly."""

_METADATA = (
    *("primary_label", "secondary_labels", "type", "latitude", "longitude", "scientific_name"),
    *("common_name", "author", "license", "rating", "url", "filename", "date", "time"),
)
_EVENTS = ("filename", "start_s", "end_s", "species", "kind", "snr_db", "distance_m")


def metadata_csv(recordings: Iterable[Focal]) -> str:
    """`train_metadata.csv`: the columns of BirdCLEF 2024, and date and time."""
    return _csv(_METADATA, (_metadata_row(focal) for focal in recordings))


def taxonomy_csv(species: Sequence[Species]) -> str:
    """`taxonomy.csv`: invented names of the classes."""
    header = ("primary_label", "scientific_name", "common_name", "class_name")
    return _csv(header, ((s.code, s.scientific_name, s.common_name, "Aves") for s in species))


def submission_csv(soundscapes: Sequence[Soundscape], classes: Sequence[str]) -> str:
    """`sample_submission.csv`: every test window, each class at the same probability."""
    even = f"{1 / len(classes):.6f}"
    rows = ((row, *(even for _ in classes)) for s in soundscapes for row, *_ in _windows(s.scene))
    return _csv(("row_id", *classes), rows)


def truth_csv(soundscapes: Sequence[Soundscape], classes: Sequence[str]) -> str:
    """`test_soundscapes_truth.csv`: 1 where a class sings in a window, else 0."""

    def rows() -> Iterable[tuple[object, ...]]:
        for soundscape in soundscapes:
            for row, start_s, end_s in _windows(soundscape.scene):
                heard = present(soundscape.scene.events, start_s, end_s)
                yield (row, *(int(label in heard) for label in classes))

    return _csv(("row_id", *classes), rows())


def events_csv(soundscapes: Iterable[Soundscape]) -> str:
    """`test_soundscapes_events.csv`: who sings from when to when, and how loud."""
    return _csv(
        _EVENTS,
        (
            (
                PurePosixPath(soundscape.scene.path).name,
                f"{event.start_s:.3f}",
                f"{event.end_s:.3f}",
                event.species,
                event.kind,
                f"{event.snr_db:.2f}",
                f"{event.distance_m:.1f}",
            )
            for soundscape in soundscapes
            for event in soundscape.scene.events
        ),
    )


def sites_csv(sites: Iterable[Site]) -> str:
    """`sites.csv`: where the recorders of the unlabelled soundscapes stand."""
    rows = ((site.name, site.latitude, site.longitude) for site in sites)
    return _csv(("site", "latitude", "longitude"), rows)


def present(events: Iterable[Event], start_s: float, end_s: float) -> set[str]:
    """Classes with an event in [`start_s`, `end_s`) for `MIN_OVERLAP_S`, or wholly in it."""
    heard = set()
    for event in events:
        overlap_s = min(event.end_s, end_s) - max(event.start_s, start_s)
        # Times are whole milliseconds; half of one keeps rounding out of the comparison.
        if overlap_s > min(MIN_OVERLAP_S, event.end_s - event.start_s) - 0.0005:
            heard.add(event.species)
    return heard


def _windows(scene: Scene) -> Iterable[tuple[str, float, float]]:
    stem = PurePosixPath(scene.path).stem
    for end in range(WINDOW_S, int(scene.duration_s) + 1, WINDOW_S):
        yield f"{stem}_{end}", float(end - WINDOW_S), float(end)


def _metadata_row(focal: Focal) -> tuple[object, ...]:
    path = PurePosixPath(focal.scene.path)
    return (
        focal.species.code,
        repr(list(focal.secondary)),
        repr(list(focal.kinds)),
        f"{focal.latitude:.4f}",
        f"{focal.longitude:.4f}",
        focal.species.scientific_name,
        focal.species.common_name,
        focal.author.handle,
        "CC0",
        f"{focal.rating:.1f}",
        f"https://demo.invalid/{path.stem}",  # .invalid never resolves (RFC 2606)
        f"{path.parent.name}/{path.name}",
        focal.date.isoformat(),
        f"{focal.time:%H:%M}",
    )


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
