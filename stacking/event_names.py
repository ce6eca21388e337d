"""Names as they stand in files and in the names of files: whatever they hold, made harmless."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from birdstack.store.audio_files import AUDIO_SUFFIXES
from birdstack.store.classes import Names

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST = 150  # bytes of a name: suffixes and a digest come behind it


def one_line(text: str) -> str:
    """The text without tabs, ends of lines, control characters and double quotes.

    Tables of Raven and Audacity know no quoting: a tab in a name would be a column more.
    """
    plain = "".join(mark if mark.isprintable() else " " for mark in text.replace('"', "'"))
    return " ".join(plain.split())


@dataclass(frozen=True)
class ShownNames:
    """Names of classes, as people read them.

    Attributes:
        names: scientific and common name by class.
        doubled: names that several classes share: they say too little.
    """

    names: Names
    doubled: frozenset[str]

    @classmethod
    def of(cls, classes: Sequence[str], names: Names) -> ShownNames:
        """The names of these classes."""
        known = {name: names.get(name, (None, None)) for name in classes}
        often = Counter(one_line(name) for pair in known.values() for name in set(pair) if name)
        doubled = {name for name, count in often.items() if count > 1}
        return cls(known, frozenset(doubled | set(classes)))

    def scientific(self, label: str) -> str:
        """The scientific name; the class's own where it is not known."""
        return self.names[label][0] or label

    def common(self, label: str) -> str:
        """The common name, or else the scientific one, or else the class's own."""
        return self.names[label][1] or self.scientific(label)

    def shown(self, label: str) -> str:
        """The common name, or the scientific one, where it is this class's alone."""
        scientific, common = self.names[label]
        for name in (common, scientific):
            if name and (name == label or one_line(name) not in self.doubled):
                return name
        return label


def file_stems(recording_ids: Iterable[str]) -> dict[str, str]:
    """For each recording a path below a folder, without suffix, that is its alone.

    It never leaves the folder, is fit for every file system, and differs from all others by
    more than the case of letters; where it would not, a digest of the recording's id is added.
    """
    plain = {name: _harmless(name) for name in recording_ids}
    often = Counter(stem.casefold() for stem in plain.values())
    return {
        name: f"{stem}-{_digest(name)}" if often[stem.casefold()] > 1 else stem
        for name, stem in plain.items()
    }


def _harmless(recording_id: str) -> str:
    parts = [part for part in re.split(r"[/\\]", recording_id) if part.strip() not in ("", ".")]
    if parts:
        last = PurePosixPath(parts[-1])
        parts[-1] = last.stem if last.suffix.lower() in AUDIO_SUFFIXES else last.name
    return "/".join(_part(part) for part in parts) or "_"


def _part(name: str) -> str:
    name = _UNSAFE.sub("_", name).strip(" ")
    name = re.sub(r"^\.+|\.+$", lambda dots: "_" * len(dots[0]), name) or "_"
    if _DEVICES.fullmatch(name):
        name = f"_{name}"
    data = name.encode("utf-8", "replace")
    if len(data) > _LONGEST:
        name = f"{data[:_LONGEST].decode('utf-8', 'ignore')}-{_digest(name)}"
    return name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
