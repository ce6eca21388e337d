"""Draw the pictures of the documentation from recordings, as a user would.

    python docs/draw_pictures.py [DATA]

DATA is the folder of real recordings (or BIRDSTACK_TEST_DATA, or `shared/data` beside the
clone). `day.png` needs its `soundscapes` and is left as it is without them; `look.png` shows
a recording that `birdstack demo` synthesises, so anybody can draw it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from birdstack.features.pictures import Curve, facts_line, find_column, save_png
from birdstack.features.pictures_day import dark_stretches, draw_day
from birdstack.features.place import PlaceConfig, place_columns
from birdstack.store.catalog import load_recordings
from birdstack.store.recordings import Recording
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store

PICTURES = Path(__file__).resolve().parent / "pictures"
REPO = PICTURES.parent.parent
DAY_COLUMNS = ("activity_frame_share", "ndsi", "level_db")
LOOK_SOUNDSCAPE = "test_soundscapes"
MAX_BYTES = 300_000


def main(arguments: list[str]) -> None:
    """Draw what can be drawn."""
    beside = os.environ.get("BIRDSTACK_TEST_DATA", REPO.parent / "shared" / "data")
    soundscapes = Path(arguments[0] if arguments else beside) / "soundscapes"
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        draw_demo(Path(folder))
        if soundscapes.is_dir():
            draw_a_day(soundscapes, Path(folder) / "day-store")
        else:
            print(f"{soundscapes} is not there: day.png stays as it is")  # noqa: T201 - a script
    for picture in sorted(PICTURES.glob("*.png")):
        shrink(picture)


def birdstack(*words: object) -> None:
    """Run one command as a user would."""
    command = [sys.executable, "-m", "birdstack.stacking.cli", *(str(word) for word in words)]
    subprocess.run(command, check=True)  # noqa: S603 - our own command


def draw_demo(folder: Path) -> None:
    """One minute of a synthetic soundscape, by `birdstack look`."""
    demo = folder / "demo"
    birdstack("demo", demo)
    soundscape = min((demo / LOOK_SOUNDSCAPE).glob("*.ogg"))
    birdstack("look", soundscape, "--end", 60, "--out", PICTURES / "look.png")


def draw_a_day(soundscapes: Path, url: Path) -> None:
    """Columns of every window of the first day of the first recorder, against the hour."""
    birdstack("features", soundscapes, "--store", url)
    snapshot = Store.open(url).snapshot()
    first = next(r for r in load_recordings(snapshot) if r.date is not None and r.time is not None)
    day = [
        r
        for r in load_recordings(snapshot)
        if (r.site, r.date) == (first.site, first.date) and r.time is not None
    ]
    hour, curves = measured(snapshot, day)
    figure = draw_day(
        hour,
        curves,
        title=f"A day of sound: {len(day)} recordings, {len(hour)} windows",
        subtitle=facts_line({"site": first.site, "date": first.date}),
        nights=nights(first),
    )
    save_png(figure, PICTURES / "day.png")


def measured(snapshot: Snapshot, day: list[Recording]) -> tuple[np.ndarray, list[Curve]]:
    """Hour of each window, and the columns drawn."""
    columns = {
        column.name: (view, column)
        for view in snapshot.views
        if view.split("/")[0] == "acoustic"
        for column in snapshot.spec(view).columns
    }
    ids = [recording.recording_id for recording in day]
    names = [name for wanted in DAY_COLUMNS if (name := find_column(wanted, list(columns)))]
    curves = []
    for name in names:
        view, column = columns[name]
        values = snapshot.view(view, recordings=ids).select(name).collect()[name]
        curves.append(Curve(name, values.to_numpy(), column.unit, column.low, column.high))
    view = columns[names[0]][0]
    keys = snapshot.view(view, recordings=ids).select("recording_id", "start_s").collect()
    began_s = pl.DataFrame(
        {
            "recording_id": ids,
            "began_s": [
                3600 * r.time.hour + 60 * r.time.minute + r.time.second for r in day if r.time
            ],
        }
    )
    joined = keys.join(began_s, on="recording_id", how="left", maintain_order="left")
    return ((joined["began_s"] + joined["start_s"]) / 3600).to_numpy() % 24, curves


def nights(recording: Recording) -> list[tuple[float, float]]:
    """Stretches of the day with the sun below -6 degrees; none where the place is unknown."""
    midnight = Recording(
        recording.recording_id,
        recording.path,
        recording.content_hash,
        latitude=recording.latitude,
        longitude=recording.longitude,
        date=recording.date,
        time=recording.time and recording.time.replace(hour=0, minute=0, second=0),
    )
    moments = place_columns(midnight, np.arange(0, 86_400, 300.0), PlaceConfig())
    return dark_stretches(moments["hour"], moments["night"])


def shrink(picture: Path) -> None:
    """Keep as many colours as a small file allows: documentation is cloned by everybody."""
    for colours in (256, 96, 48, 32):
        if picture.stat().st_size <= MAX_BYTES:
            return
        with Image.open(picture) as image:
            small = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        small.save(picture, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
