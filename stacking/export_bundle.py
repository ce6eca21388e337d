"""Write a bundle from a run of `birdstack stack`: networks, stack, and how columns are made."""

from __future__ import annotations

import csv
import datetime as dt
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from birdstack.embeddings.engine import EngineKind
from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.audio import AudioConfig
from birdstack.features.place import VIEW_NAME, PlaceConfig
from birdstack.stacking.bundle import (
    CLASSES,
    DESIGN,
    NETWORKS,
    STACK,
    AcousticPart,
    BundledNetwork,
    BundleFacts,
    seal,
)
from birdstack.stacking.design import Design
from birdstack.stacking.export_networks import (
    Source,
    export_backbone,
    find_source,
    require_one_audio,
)
from birdstack.stacking.networks import class_names
from birdstack.stacking.settings import Settings
from birdstack.stacking.stack_folder import load_stack
from birdstack.store.errors import CorruptError, UsageError
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store

_FAMILY = "acoustic/"
_RECORDED = (
    "birdstack",
    "numpy",
    "numba",
    "soundfile",
    "soxr",
    "lightgbm",
    "xgboost-cpu",
    "openvino",
    "onnxruntime",
    "torch",
    "timm",
)


@dataclass(frozen=True)
class ExportJob:
    """What is exported.

    Attributes:
        run: folder of the run.
        design: of its stack.
        store: that it learnt from.
        snapshot: of that store.
        settings: where models lie, and limits of decoding.
        told: `run.json`.
    """

    run: Path
    design: Design
    store: Store
    snapshot: Snapshot
    settings: Settings
    told: Mapping[str, Any]

    @property
    def sources(self) -> dict[str, Source]:
        """Where each backbone comes from, by name."""
        return {
            pin.name: find_source(pin, self.store, self.snapshot, self.settings)
            for pin in self.design.backbones
        }


def read_design(run: Path) -> Design:
    """The design of a run.

    Raises:
        UsageError: the run was made from a bare table, or is none.
        CorruptError: it is not what was written.
    """
    path = run / STACK / DESIGN
    if not path.is_file():
        message = f"{run}: no design ({STACK}/{DESIGN} is missing): only a stack of a store has one"
        raise UsageError(message, remedy="name the folder of a birdstack stack --store run")
    try:
        return Design.model_validate_json(path.read_text("utf-8"))
    except ValueError as error:
        message = f"{path}: not a design ({str(error).splitlines()[0]})"
        raise CorruptError(message, remedy="run birdstack stack again") from error


def write_bundle(job: ExportJob, folder: Path, kind: EngineKind) -> BundleFacts:
    """Write everything into an empty folder, the index last; nothing is checked yet.

    Args:
        job: what is exported.
        folder: is made.
        kind: of the engine.

    Raises:
        BirdstackError: something of the run or the store is missing, or cannot be converted.
    """
    _refuse_components(job)
    _ = load_stack(job.run / STACK)  # a damaged stack is refused before networks are converted
    job.design.check(job.snapshot)
    sources = job.sources
    audio = require_one_audio(sources)
    folder.mkdir(parents=True)
    networks: list[BundledNetwork] = [
        export_backbone(source, folder / NETWORKS / name, kind, job.snapshot)
        for name, source in sources.items()
    ]
    shutil.copytree(job.run / STACK, folder / STACK)
    (folder / STACK / DESIGN).replace(folder / DESIGN)
    names = {
        label: (scientific, common)
        for label, (scientific, common) in class_names(job.snapshot).items()
    }
    with (folder / CLASSES).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["label", "scientific_name", "common_name"])
        table.writerows([label, *both] for label, both in names.items())
    rate_hz = int(audio["sample_rate_hz"])
    facts = BundleFacts(
        made_from=_made_from(job),
        versions=_versions(),
        engine=kind,
        networks=tuple(networks),
        audio=AudioConfig.model_validate(
            {**job.settings.audio.model_dump(), "sample_rate_hz": rate_hz}
        ),
        acoustic=_acoustic(job.design, job.snapshot),
        place=_place(job.design, job.snapshot),
        names=names,
    )
    return seal(folder, facts)


def _refuse_components(job: ExportJob) -> None:
    """A bundle hears logits and acoustic columns; embeddings it does not keep."""
    pin = job.design.components
    if pin is not None:
        message = f"{job.run}: the stack learnt from {pin.count} components of {pin.view!r}, "
        message += "which a bundle does not make"
        remedy = "stack without --components (design.components=0), and export that"
        raise UsageError(message, remedy=remedy)


def _acoustic(design: Design, snapshot: Snapshot) -> tuple[AcousticPart, ...]:
    """Configurations by what the recipes hold: as few as serve all views."""
    parts: list[tuple[dict[str, Any], str, list[str]]] = []
    for pin in design.extras:
        if not pin.view.startswith(_FAMILY):
            continue
        recipe = snapshot.spec(pin.view, pin.recipe).recipe
        needed, how = dict(recipe["parameters"]), str(recipe["implementation"])
        for held, same, views in parts:
            if how == same and all(held.get(k, v) == v for k, v in needed.items()):
                held.update(needed)
                views.append(pin.view)
                break
        else:
            parts.append((needed, how, [pin.view]))
    return tuple(
        AcousticPart(
            views=tuple(views),
            config=AcousticConfig.model_validate(
                {**held, "groups": [view.removeprefix(_FAMILY) for view in views]}
            ),
            implementation="fused" if how == "fused" else "reference",
        )
        for held, how, views in parts
    )


def _place(design: Design, snapshot: Snapshot) -> PlaceConfig | None:
    for pin in design.extras:
        if pin.view == VIEW_NAME:
            recipe = snapshot.spec(pin.view, pin.recipe).recipe
            return PlaceConfig.model_validate(recipe["parameters"])
        if not pin.view.startswith(_FAMILY):
            message = f"the design has columns of {pin.view!r}, which only a store can make"
            raise UsageError(message, remedy="stack with acoustic and place columns only")
    return None


def _made_from(job: ExportJob) -> dict[str, Any]:
    return {
        "run": job.run.resolve().name,
        "snapshot": job.snapshot.version,
        "shipped": job.told.get("shipped"),
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
