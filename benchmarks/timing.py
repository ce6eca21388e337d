"""What the benchmarks share: fair timings, ratios, and tables in the documents.

Time is CPU seconds of the process, because other work on the machine moves wall time far
more; wall time is given beside it. Ways to do the same thing take turns, round by round, so
that a slow moment of the machine meets all of them; the figure is the median of the rounds.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ONE_THREAD = {
    "POLARS_MAX_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass
class Timing:
    """Seconds of each round.

    Attributes:
        cpu_s: CPU seconds of the process, user and system, all threads.
        wall_s: seconds that passed.
    """

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        """Median CPU seconds."""
        return statistics.median(self.cpu_s)

    @property
    def wall(self) -> float:
        """Median wall seconds."""
        return statistics.median(self.wall_s)

    @staticmethod
    def now() -> tuple[float, float]:
        """Both clocks; children that have ended count as this process."""
        times = os.times()
        children_s = times.children_user + times.children_system
        return time.process_time() + children_s, time.perf_counter()

    def since(self, began: tuple[float, float]) -> None:
        """Note a round that began then and ends now."""
        cpu_s, wall_s = self.now()
        self.cpu_s.append(cpu_s - began[0])
        self.wall_s.append(wall_s - began[1])

    def add(self, work: Callable[[], Any]) -> Any:
        """Do the work once, note how long it took, return what it returned."""
        began = self.now()
        result = work()
        self.since(began)
        return result

    def part(self, rounds: slice) -> Timing:
        """Some of the rounds."""
        return Timing(self.cpu_s[rounds], self.wall_s[rounds])


def one_thread() -> None:
    """Start this script anew, pinned to one processor, with every library on one thread.

    Libraries read these settings when they are imported, so they must stand before.
    """
    if any(os.environ.get(name) != value for name, value in _ONE_THREAD.items()):
        os.environ.update(_ONE_THREAD)
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - itself
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def interleaved(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
    """Time several ways in turns, after one round that is not counted.

    Args:
        ways: name -> what to time.
        rounds: how many rounds count.
    """
    timings = {name: Timing() for name in ways}
    for work in ways.values():
        work()
    for _ in range(rounds):
        for name, work in ways.items():
            timings[name].add(work)
    return timings


def machine(*libraries: str) -> str:
    """One line on what the figures were taken with."""
    versions = [f"Python {platform.python_version()}"]
    for name in libraries:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} absent")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{_processor()}, {os.cpu_count()} processors{load}, {platform.system()}; " + ", ".join(
        versions
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds with three significant digits."""
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def ratio(seconds: float, ours_s: float) -> str:
    """How many times as long as ours something takes."""
    return f"{seconds / ours_s:.2g}x" if seconds < 10 * ours_s else f"{seconds / ours_s:.0f}x"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; every column but the first is right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def write_section(document: Path, name: str, body: str) -> None:
    """Replace what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

    Raises:
        SystemExit: the document lacks the markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = document.read_text("utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{document} must hold {begin} and {end} once each")  # noqa: EM102, TRY003
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    document.write_text(f"{before}{begin}\n\n{body.strip()}\n\n{end}{after}", "utf-8")
