"""A submission file: `row_id`, one column of values in (0, 1) for each class.

Values are the logistic of the stack's score: the same ranking on a scale that every reader of
submissions takes. They are no probabilities. All digits of a double are written, so that the
ranking read back is the ranking that was computed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import polars as pl

from birdstack.stacking.row_ids import row_ids


def logistic(scores: np.ndarray) -> np.ndarray:
    """Scores to (0, 1), float64, in the same order."""
    values = scores.astype(np.float64)
    # beyond 36, one less something so small is one
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -700, 36))))


def submission_names(recording_ids: Iterable[str]) -> dict[str, str]:
    """What the rows of each recording are called by: the file's stem, where it is its own.

    Recorders give files the same names in the folders of different sites. The rows of such
    recordings are called by their whole path, with `_` between its parts; where that is not
    enough either, with the extension.
    """
    ids = list(recording_ids)
    stems = {name: row_ids([name], [0.0])[0].removesuffix("_0") for name in ids}
    paths = {
        name: "_".join((*PurePosixPath(name).parts[:-1], PurePosixPath(name).stem)) for name in ids
    }
    often, long = Counter(stems.values()), Counter(paths.values())
    return {
        name: stems[name]
        if often[stems[name]] == 1
        else paths[name]
        if long[paths[name]] == 1 and often[paths[name]] == 0
        else name.replace("/", "_")
        for name in ids
    }


class SubmissionFile:
    """Writes a submission recording by recording; it appears whole, or not at all.

    Args:
        path: of the file.
        classes: its columns, in order.
        names: what each recording's rows are called by.
    """

    def __init__(self, path: Path, classes: Sequence[str], names: dict[str, str]) -> None:
        self.path, self.rows = path, 0
        self._classes, self._names = tuple(classes), names
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.new")
        self._file: BinaryIO = self._aside.open("wb")

    def add(self, recording_id: str, end_s: np.ndarray, values: np.ndarray) -> None:
        """Rows of one recording.

        Args:
            recording_id: of it.
            end_s: second at which each window ends, `[window]`.
            values: in (0, 1), `[window, class]`.
        """
        name = self._names[recording_id]
        ids = row_ids([name] * len(end_s), end_s.tolist())
        frame = pl.DataFrame({"row_id": pl.Series(ids, dtype=pl.String)}).hstack(
            pl.DataFrame(values, schema=dict.fromkeys(self._classes, pl.Float64))
        )
        frame.write_csv(self._file, include_header=self.rows == 0)
        self.rows += len(ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.rows == 0 and error is None:
            empty = pl.DataFrame(
                schema={"row_id": pl.String, **dict.fromkeys(self._classes, pl.Float64)}
            )
            empty.write_csv(self._file)
        self._file.close()
        if error is None:
            self._aside.replace(self.path)
        else:
            self._aside.unlink(missing_ok=True)
