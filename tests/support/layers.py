"""Fit a stack without the estimator around it, and look at what was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from birdstack.stacking.class_shelf import ClassShelf
from birdstack.stacking.controls import BY_NAME, Material, out_of_fold
from birdstack.stacking.fit_stack import FittedStack, fit_stack
from birdstack.stacking.shipped import Shipped
from birdstack.stacking.stack_folder import save_stack
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable


def fitted(
    table: StackTable,
    settings: StackSettings,
    shelf: ClassShelf | None = None,
    advance: Any = lambda *_: None,
    *,
    control: np.ndarray | None = None,
    **more: Any,
) -> FittedStack:
    """The layers of a stack; no class may rank below the shared ranker, or another control."""
    material = Material(table)
    ranked = out_of_fold(BY_NAME["ranker"], material)
    control = ranked if control is None else control
    return fit_stack(material, control, ranked, settings, advance, shelf=shelf, **more)


def shipped(table: StackTable, stack: FittedStack) -> Shipped:
    """Likewise, ready to be saved."""
    spread = Material(table).spread
    model = stack.model
    return Shipped(table.backbones, table.classes, table.extra_names, spread, "stack", {}, model)


def saved_bytes(folder: Path, table: StackTable, stack: FittedStack) -> dict[str, bytes]:
    """Every file of the saved stack, by its path."""
    save_stack(shipped(table, stack), folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
