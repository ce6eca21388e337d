"""What a verb says: progress and tables for people on a terminal, JSON lines for programs.

People read stderr for progress and stdout for results. With `--json` stdout carries one JSON
object a line, each with an `event`, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

_EVENT_INTERVAL_S = 1.0
_RATE_OVER_S = 900.0
"""How far back a rate looks: steps of minutes, such as trials of a study, need two of them."""

Advance = Callable[[int, int, str], None]
"""Told how many are done, how many there are, and a few words."""


class Reporter:
    """Speaks for one command.

    Attributes:
        json: whether programs are listening.
        out: where results go.
        err: where progress and errors go.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.json = as_json
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def event(self, event: str, **fields: Any) -> None:
        """One machine-readable line; nothing for people."""
        if self.json:
            sys.stdout.write(json.dumps({"event": event, **fields}, default=str) + "\n")
            sys.stdout.flush()

    def value(self, value: Any) -> None:
        """The whole answer of a verb as one JSON document; nothing for people."""
        if self.json:
            sys.stdout.write(json.dumps(value, default=str, indent=2) + "\n")

    def say(self, text: str) -> None:
        """A line for people."""
        if not self.json:
            self.out.print(text, markup=False)

    def warn(self, text: str) -> None:
        """A line that people should not overlook."""
        if self.json:
            self.event("warning", message=text)
        else:
            self.err.print(f"[yellow]warning:[/yellow] {_escaped(text)}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table for people; columns of numbers align right."""
        if self.json:
            return
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        for number, column in enumerate(columns):
            numeric = rows and all(isinstance(row[number], int | float) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        # A pipe or a file has no width to fit into: lines are kept whole there.
        Console(highlight=False, width=None if sys.stdout.isatty() else 240).print(table)

    @contextlib.contextmanager
    def progress(self, what: str) -> Iterator[Advance]:
        """A progress bar with rate and time left on a terminal; events with `--json`."""
        if self.json or not self.err.is_terminal:
            yield self._quiet(what)
            return
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[words]}"),
            console=self.err,
            transient=True,
            speed_estimate_period=_RATE_OVER_S,
        )
        with bar:
            task = bar.add_task(what, total=None, words="", rate="")

            def advance(done: int, total: int, words: str) -> None:
                speed = bar.tasks[0].speed
                rate = f"{speed:.1f}/s" if speed else ""
                bar.update(task, completed=done, total=total, words=words, rate=rate)

            yield advance

    def _quiet(self, what: str) -> Advance:
        """Events instead of a bar: once a second, and only when something was done."""
        told, told_s = -1, -_EVENT_INTERVAL_S

        def advance(done: int, total: int, words: str) -> None:
            nonlocal told, told_s
            now_s = time.monotonic()
            if done != told and (now_s - told_s >= _EVENT_INTERVAL_S or done == total):
                told, told_s = done, now_s
                self.event("progress", what=what, done=done, total=total, words=words)

        return advance


def human_bytes(n_bytes: float) -> str:
    """`12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:  # noqa: PLR2004 - SI units step by a thousand
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def counted(number: int, noun: str) -> str:
    """`1 recording`, `2 recordings`, `3 classes`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{plural}"


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return _escaped(str(value))


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
