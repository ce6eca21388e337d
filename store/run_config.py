"""Settings of a run of the engine."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ExecutorName = Literal["threads", "serial", "processes"]


class RunConfig(BaseModel):
    """How a run is carried out; none of it changes the numbers.

    Attributes:
        executor: threads in one process, serial for debugging, or processes.
        workers: units at a time; 0 means one for each processor.
        unit_recordings: most recordings in a unit, which is written as one part a view.
        unit_audio_s: most seconds of audio in a unit.
        prefetch: each worker opens its next recording while it hears the present one; not
            with the executor `serial`, which uses no thread but its own.
        commit_interval_s: finished units are committed at least this often.
        commit_megabytes: or as soon as they hold so many megabytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    executor: ExecutorName = "threads"
    workers: int = Field(default=0, ge=0, le=1024)
    unit_recordings: int = Field(default=64, ge=1)
    unit_audio_s: float = Field(default=1200.0, gt=0)
    prefetch: bool = True
    commit_interval_s: float = Field(default=10.0, ge=0)
    commit_megabytes: float = Field(default=64.0, gt=0)
