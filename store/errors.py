"""The errors of birdstack: each names the place, the rule, the value and the remedy.

A command turns a `UsageError` into exit code 2 and any other `BirdstackError` into 1.
"""

from __future__ import annotations

from functools import partial
from typing import Any


class BirdstackError(Exception):
    """Root of every error that birdstack raises on purpose.

    Args:
        message: what is wrong, with the place and the value.
        remedy: what the user can do about it, as one imperative sentence.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes hand errors to their parent; the remedy is a keyword.
        return (partial(type(self), remedy=self.remedy), (self.message,))

    def __str__(self) -> str:
        return f"{self.message}\n  remedy: {self.remedy}" if self.remedy else self.message


class UsageError(BirdstackError):
    """What was asked for cannot be asked for: a wrong path, flag or setting."""


class NoStoreError(UsageError):
    """There is no store at the place that was named."""


class ConfigError(UsageError):
    """A configuration file, variable or flag does not fit; names the key and its source."""


class DatasetError(BirdstackError):
    """A dataset cannot be read at all (single bad rows are listed, not raised)."""


class StoreError(BirdstackError):
    """A store cannot do what was asked."""


class FormatVersionError(StoreError):
    """The store was written by a newer birdstack."""


class CorruptError(StoreError):
    """Bytes on disk are not the bytes that were written."""


class ConflictError(StoreError):
    """Another writer got there first and the two changes exclude each other."""


class SchemaError(StoreError):
    """Rows do not fit the view they are written to."""


class LeakError(StoreError):
    """A score of a recording by a model that has, or may have, been trained on it."""


class SkipRecording(Exception):  # noqa: N818 - a signal for the engine, not a failure of the run
    """One recording cannot be heard; the run goes on without it.

    Args:
        code: a short stable word such as `decode_error`, for counting.
        reason: one sentence for people.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"
