"""Finds out which layout a folder has: BirdCLEF, folders of classes, or bare soundscapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from birdstack.store.audio_files import Listing, list_audio
from birdstack.store.errors import DatasetError, UsageError
from birdstack.store.fault_rules import RejectLog
from birdstack.store.ingest_config import LayoutName
from birdstack.store.metadata_table import listed
from birdstack.store.soundscape_names import parse_soundscape_name

TABLES = ("train_metadata.csv", "train.csv", "train_metadata.csv.gz", "train.csv.gz")
AUDIO_FOLDERS = ("train_audio", "train_short_audio")
SOUNDSCAPES = "_soundscapes"

_LOOKED_FOR = (
    "looked for (1) train_metadata.csv or train.csv, (2) one folder of audio for each class, "
    "(3) soundscapes with a date in their names or without any class folders"
)


@dataclass(frozen=True)
class Layout:
    """What a folder holds, and where.

    Attributes:
        name: birdclef, class-folders or soundscapes.
        root: the dataset's root.
        table: metadata table below the root, None if there is none.
        audio_folder: folder below the root that holds the focal recordings; named even if
            it is absent.
        has_audio: whether the audio folder is there.
        soundscape_folders: folders below the root whose files are soundscapes.
        bare: whether the root was a table and nothing beside it may be read.
        listing: the audio files.
    """

    name: LayoutName
    root: Path
    table: str | None = None
    audio_folder: str = ""
    has_audio: bool = True
    soundscape_folders: tuple[str, ...] = ()
    bare: bool = False
    listing: Listing = field(default_factory=Listing)

    def beside(self, pattern: str) -> list[str]:
        """Files below the root that match a pattern; none beside a bare table."""
        if self.bare:
            return []
        return sorted(path.name for path in self.root.glob(pattern) if path.is_file())


def dataset_name(root: Path) -> str:
    """Name of a folder or table without its extensions."""
    name = root.resolve().name
    if not root.is_dir():
        for suffix in (".gz", ".csv", ".tsv"):
            name = name.removesuffix(suffix)
    return name or "dataset"


def find_layout(root: Path, wanted: str, log: RejectLog) -> Layout:
    """Look at a folder, or take a bare table.

    Args:
        root: a folder, or a CSV file, plain or packed with gzip.
        wanted: `auto` or the layout it must have.
        log: takes a row for every file that cannot be used.

    Raises:
        UsageError: there is nothing at `root`, or neither a folder nor a plain file.
        DatasetError: the folder fits no layout, or not the wanted one.
    """
    if root.is_file():
        return Layout(
            "birdclef",
            root.parent,
            table=root.name,
            audio_folder=AUDIO_FOLDERS[0],
            has_audio=False,
            bare=True,
        )
    if not root.is_dir():
        message = f"no folder or table at {str(root)!r}"
        raise UsageError(message, remedy="give the folder of a dataset, or its metadata table")
    table = next((name for name in TABLES if (root / name).is_file()), None)
    if wanted == "birdclef" or (wanted == "auto" and table is not None):
        return _birdclef(root, table, log)
    listing = list_audio(root, [""], log)
    if not listing.files:
        raise _misfit(root, "no audio file", log)
    if wanted == "class-folders":
        return Layout("class-folders", root, listing=listing)
    if wanted == "soundscapes" or _look_like_soundscapes(listing.files):
        return Layout("soundscapes", root, listing=listing)
    depths = Counter(name.count("/") for name in listing.files)
    if set(depths) != {1}:
        told = ", ".join(f"{count} at depth {depth}" for depth, count in sorted(depths.items()))
        raise _misfit(root, f"audio files at several depths or too deep ({told})", log)
    return Layout("class-folders", root, listing=listing)


def _birdclef(root: Path, table: str | None, log: RejectLog) -> Layout:
    if table is None:
        raise _misfit(root, f"none of {listed(TABLES)}", log)
    audio = next((name for name in AUDIO_FOLDERS if (root / name).is_dir()), None)
    soundscapes = sorted(path.name for path in root.glob(f"*{SOUNDSCAPES}") if path.is_dir())
    folders = [name for name in (audio, *soundscapes) if name]
    return Layout(
        "birdclef",
        root,
        table=table,
        audio_folder=audio or AUDIO_FOLDERS[0],
        has_audio=audio is not None,
        soundscape_folders=tuple(soundscapes),
        listing=list_audio(root, folders, log),
    )


def _look_like_soundscapes(names: Iterable[str]) -> bool:
    """All files in the root or in `*_soundscapes`, or at least half of them carry a date."""
    paths = [PurePosixPath(name) for name in names]
    if all(len(path.parts) == 1 or path.parts[0].endswith(SOUNDSCAPES) for path in paths):
        return True
    dated = sum(parse_soundscape_name(path.stem).date is not None for path in paths)
    return 2 * dated >= len(paths)


def _misfit(root: Path, found: str, log: RejectLog) -> DatasetError:
    entries = sorted(path.name for path in root.iterdir())
    there = listed([name.encode(errors="backslashreplace").decode() for name in entries], 10)
    faults = ", ".join(f"{rule} {count}" for rule, count in sorted(log.counts().items()))
    message = (
        f"{str(root)!r} fits no known layout: {_LOOKED_FOR}; found {found}"
        f"{f' ({faults})' if faults else ''}; the folder holds {there or 'nothing'}"
    )
    return DatasetError(message, remedy="give the folder that holds the table or the class folders")
