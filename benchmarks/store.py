"""The store against memory maps, naive Parquet, Delta Lake and Lance, on the same data.

Reads of 200,000 windows (a group of columns, one class's logits, one recording, the matrix
of embeddings), 1,000 small commits, and a run that has nothing to do over 25,000 recordings.
One run writes every arm from the same arrays, checks that all of them return the same
numbers, and lets them take turns; each arm is judged by its quickest way to read.

    python benchmarks/store.py                      # needs about 6 GB of disk for a while
    python benchmarks/store.py --scale 0.05         # a small machine
    python benchmarks/store.py --write              # also into docs/reference/benchmarks.md
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timing
from timing import Timing, markdown_table, milliseconds, ratio

if TYPE_CHECKING:
    from _store_arms import Arm
    from _store_data import Data

REPO = Path(__file__).resolve().parent.parent
DOCUMENT = REPO / "docs" / "reference" / "benchmarks.md"
LIBRARIES = ("numpy", "pyarrow", "polars", "deltalake", "pylance")
TITLES = {
    "group": "{group} of {columns} acoustic columns, all windows",
    "class": "logits of 1 class of {classes}",
    "recording": "one recording, all acoustic columns",
    "embedding": "embeddings `[window, {dim}]`",
}
ENDS = 100
"""So many commits at the beginning and at the end are compared."""

Results = dict[str, dict[str, dict[str, Timing]]]
"""read -> arm -> way -> its rounds."""


def read_all(data: Data, arms: list[Arm], rounds: int) -> tuple[Results, dict[str, Any]]:
    """Write every view to every arm, check that they agree, time the reads.

    Views come and go one after another, for the disk's sake.

    Returns:
        Timings, and sizes on disk: view -> arm -> bytes.
    """
    from _store_arms import READS, VIEW_OF  # noqa: PLC0415 - after the threads are settled

    results: Results = {}
    sizes: dict[str, Any] = {}
    for view in data.views:
        for arm in arms:
            say(f"writing {view}: {arm.name}")
            arm.write(view)
        sizes[view] = {arm.name: arm.n_bytes(view) for arm in arms}
        if view == "embedding":
            sizes[view]["birdstack, rounded"] = next(
                arm.rounded_bytes() for arm in arms if hasattr(arm, "rounded_bytes")
            )
        for read in [read for read in READS if VIEW_OF[read] == view]:
            ways = {(arm.name, way): do for arm in arms for way, do in arm.ways(read).items()}
            check(data, read, ways)
            say(f"timing {read}: {len(ways)} ways, {rounds} rounds")
            flat = timing.interleaved(ways, rounds)
            results[read] = {}
            for (arm, way), rounds_of in flat.items():
                results[read].setdefault(arm, {})[way] = rounds_of
        for arm in arms:
            arm.drop(view)
    return results, sizes


def check(data: Data, read: str, ways: dict[tuple[str, str], Any]) -> None:
    """Every way returns the numbers that were written; rounded ones within their bound."""
    import numpy as np  # noqa: PLC0415 - after the threads are settled
    from _store_arms import MANTISSA_BITS  # noqa: PLC0415

    first, count = int(data.firsts[data.middle]), int(data.counts[data.middle])
    expected = {
        "group": lambda: data.views["acoustic"][:, : data.sizes.group],
        "class": lambda: data.views["logits"][:, data.sizes.classes // 2],
        "recording": lambda: data.views["acoustic"][first : first + count],
        "embedding": lambda: data.views["embedding"],
    }[read]()
    for (arm, way), do in ways.items():
        found = do()
        same = found.shape == expected.shape and found.dtype == np.float32
        if same and "mantissa" in way:
            error = np.abs(found - expected)
            same = bool((error <= np.abs(expected) * 2.0 ** -(MANTISSA_BITS + 1)).all())
        elif same:
            same = bool(np.array_equal(found, expected))
        if not same:
            raise SystemExit(f"{read}: {arm} by {way} does not return what was written")  # noqa: EM102, TRY003


def best(ways: dict[str, Timing], *, rounded: bool = False) -> tuple[str, Timing]:
    """The quickest way by median CPU; rounded numbers compete among themselves."""
    exact = {name: t for name, t in ways.items() if ("mantissa" in name) == rounded}
    name = min(exact, key=lambda way: exact[way].cpu)
    return name, exact[name]


def headline(results: Results, sizes: dict[str, Any], titles: dict[str, str]) -> str:
    """One row for each read, one column for each arm: its best way, and its ratio to ours."""
    arms = list(next(iter(results.values())))
    rows = []
    for read, by_arm in results.items():
        ours = best(by_arm["birdstack"])[1].cpu
        cells = [titles[read]]
        for arm in arms:
            _, found = best(by_arm[arm])
            suffix = "" if arm == "birdstack" else f" ({ratio(found.cpu, ours)})"
            cells.append(f"{milliseconds(found.cpu)}{suffix}")
        rows.append(cells)
    rounded = best(results["embedding"]["birdstack"], rounded=True)[1].cpu
    by_arm = results["embedding"]
    cells = [f"{titles['embedding']}, ours rounded to 10 mantissa bits"]
    for arm in arms:
        if arm == "birdstack":
            cells.append(milliseconds(rounded))
        else:
            found = best(by_arm[arm])[1].cpu
            cells.append(f"{milliseconds(found)} ({ratio(found, rounded)})")
    rows.append(cells)
    for view, by_name in sizes.items():
        cells = [f"{view} on disk, MB"]
        for arm in arms:
            cells.append(f"{by_name[arm] / 1e6:,.0f}")
            if arm == "birdstack" and view == "embedding":
                cells[-1] += f" (rounded {by_name['birdstack, rounded'] / 1e6:,.0f})"
        rows.append(cells)
    return markdown_table(["median CPU ms (ratio to ours)", *arms], rows)


def every_way(results: Results, titles: dict[str, str]) -> str:
    """All that was timed."""
    rows = [
        [
            titles[read],
            arm,
            way,
            milliseconds(t.cpu),
            milliseconds(min(t.cpu_s)),
            milliseconds(t.wall),
        ]
        for read, by_arm in results.items()
        for arm, ways in by_arm.items()
        for way, t in ways.items()
    ]
    head = ["read", "arm", "way", "CPU ms, median", "CPU ms, least", "wall ms, median"]
    return markdown_table(head, rows)


def commits_table(commits: dict[str, Timing]) -> str:
    """First and last commits, and all together."""
    rows = []
    for arm, found in commits.items():
        ends = min(ENDS, max(1, len(found.cpu_s) // 2))
        first, last = found.part(slice(ends)), found.part(slice(-ends, None))
        rows.append(
            [
                arm,
                f"{milliseconds(first.cpu)} / {milliseconds(first.wall)}",
                f"{milliseconds(last.cpu)} / {milliseconds(last.wall)}",
                f"{sum(found.cpu_s):.1f} / {sum(found.wall_s):.1f}",
            ]
        )
    count = len(next(iter(commits.values())).cpu_s)
    head = [
        "CPU / wall per commit",
        f"first {ends}, ms",
        f"last {ends}, ms",
        f"all {count:,}, s",
    ]
    return markdown_table(head, rows)


def nothing_table(nothing: dict[str, Timing]) -> str:
    """The run that has nothing to do."""
    names = {
        "engine": "`Store.open` and `materialise()`, nothing left",
        "command": "the command `birdstack features --store STORE`, start of Python included",
    }
    rows = [[names[k], f"{t.cpu:.2f}", f"{t.wall:.2f}"] for k, t in nothing.items()]
    return markdown_table(["run", "CPU s", "wall s"], rows)


def absent_libraries() -> list[str]:
    """Rivals that are not installed."""
    return [n for n in ("deltalake", "lance") if importlib.util.find_spec(n) is None]


def say(text: str) -> None:
    """To the terminal, not into the tables."""
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--windows", type=int, default=200_000)
    add("--recordings", type=int, default=4_000)
    add("--columns", type=int, default=200, help="acoustic columns")
    add("--group", type=int, default=80, help="acoustic columns that are read together")
    add("--classes", type=int, default=182)
    add("--dim", type=int, default=1280, help="length of an embedding")
    add("--commits", type=int, default=1_000)
    add("--planned", type=int, default=25_000, help="recordings of the run with nothing to do")
    add("--rounds", type=int, default=5)
    add("--scale", type=float, default=1.0, help="multiplies windows, recordings, commits, planned")
    add("--workdir", type=Path, help="where the stores lie meanwhile (a temporary folder)")
    add("--write", action="store_true", help=f"write {DOCUMENT.relative_to(REPO)}")
    add("--json", type=Path, help="write every figure here")
    arguments = parser.parse_args()
    for name in ("windows", "recordings", "commits", "planned"):
        setattr(arguments, name, max(2, round(getattr(arguments, name) * arguments.scale)))
    return arguments


def measure(arguments: argparse.Namespace, folder: Path) -> tuple[str, dict[str, Any]]:
    """Everything. Returns the section for the document, and the figures."""
    import pyarrow as pa  # noqa: PLC0415 - after the threads are settled
    from _store_arms import ARMS, NEEDS  # noqa: PLC0415
    from _store_data import Sizes, generate  # noqa: PLC0415
    from _store_runs import nothing_to_do, small_commits  # noqa: PLC0415

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    absent = absent_libraries()
    for name in absent:
        say(f"{name} is not installed: that arm is left out (`make bench` installs it)")
    sizes = Sizes(*(getattr(arguments, n) for n in Sizes.__dataclass_fields__))
    line = timing.machine(*LIBRARIES)
    say("making the data")
    data = generate(sizes, folder)
    arms = [
        kind(folder / kind.__name__.lower(), data) for kind in ARMS if NEEDS.get(kind) not in absent
    ]
    say(f"{arguments.commits} small commits")
    commits = small_commits(folder / "commits", arguments.commits, sizes.dim, absent)
    shutil.rmtree(folder / "commits")
    say(f"nothing to do for {arguments.planned} recordings")
    nothing = nothing_to_do(folder / "nothing", arguments.planned, arguments.rounds)
    shutil.rmtree(folder / "nothing")
    results, on_disk = read_all(data, arms, arguments.rounds)
    titles = {read: text.format(**vars(sizes)) for read, text in TITLES.items()}
    parts = [
        f"{line}. {arguments.rounds} rounds, one thread, one processor.",
        f"### {sizes.windows:,} windows of {sizes.recordings:,} recordings",
        headline(results, on_disk, titles),
        f"### {arguments.commits:,} small commits (one recording, 45 windows of {sizes.dim}-d)",
        commits_table(commits),
        f"### Nothing to do: {arguments.planned:,} recordings",
        nothing_table(nothing),
        "### Every way that was timed",
        every_way(results, titles),
    ]
    figures = {
        "absent": absent,
        "windows": sizes.windows,
        "reads": {
            read: {
                arm: {way: {"cpu_s": t.cpu, "wall_s": t.wall} for way, t in ways.items()}
                for arm, ways in by_arm.items()
            }
            for read, by_arm in results.items()
        },
        "bytes": on_disk,
        "commits": {arm: {"cpu_s": t.cpu_s, "wall_s": t.wall_s} for arm, t in commits.items()},
        "nothing": {k: {"cpu_s": t.cpu, "wall_s": t.wall} for k, t in nothing.items()},
    }
    return "\n\n".join(parts), figures


def main() -> None:
    """Measure, print, write."""
    arguments = parse()
    timing.one_thread()
    with tempfile.TemporaryDirectory(prefix="birdstack-bench-", dir=arguments.workdir) as folder:
        section, figures = measure(arguments, Path(folder))
    print(section)
    if arguments.write:
        timing.write_section(DOCUMENT, "store", section)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1), "utf-8")


if __name__ == "__main__":
    main()
