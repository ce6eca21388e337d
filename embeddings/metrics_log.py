"""What a training said of itself: lines of JSON, and TensorBoard's log where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdstack.embeddings.extras import has


class MetricsLog:
    """Appends rows, each about one step; a step has one row at most.

    The file of lines is what counts: TensorBoard's log is made from it, anew whenever a
    training goes on, so that neither says anything twice.

    Args:
        path: of the lines.
        tensorboard: folder of TensorBoard's log; None: no such log.
        keep_bytes: length of the file at the checkpoint that the training goes on from; what
            was written after it is dropped. 0 begins anew.
    """

    def __init__(self, path: Path, tensorboard: Path | None, *, keep_bytes: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(keep_bytes)
        self._writer: Any = _writer(tensorboard) if tensorboard is not None else None
        if self._writer is not None:
            for row in read_metrics(path):
                self._show(row)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row with `step`; numbers that are not finite are left out."""
        line = json.dumps({key: value for key, value in row.items() if value is not None})
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        if self._writer is not None:
            self._show(row)

    def settle(self) -> int:
        """See that the rows are on disk; the length of the file in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Close both logs."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()

    def _show(self, row: Mapping[str, Any]) -> None:
        for key, value in row.items():
            if key != "step" and isinstance(value, int | float):
                self._writer.add_scalar(key, value, row["step"])


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics log, in order; a torn last line is left out."""
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def _writer(folder: Path) -> Any:
    """A writer into an empty folder, or None where TensorBoard is not installed."""
    if not has("tensorboard"):
        return None
    shutil.rmtree(folder, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about packages that TensorBoard looks for
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow, and optional

        return SummaryWriter(str(folder))
