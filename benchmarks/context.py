"""Temporal context of a class, against memcpy, polars, pandas and DuckDB.

A table of soundscapes and one of focal recordings, made up; every way computes the same
columns of one class, and the run ends if two ways give different numbers. The limit is a copy
of as many bytes as the columns hold. The copy and this project's way are so quick that a round
of them takes 16 classes, one after another into the same memory, and counts a sixteenth.

    python benchmarks/context.py
    python benchmarks/context.py --scale 0.1
    python benchmarks/context.py --write             # also into docs/reference/benchmarks.md
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timing
from timing import markdown_table, milliseconds, ratio

if TYPE_CHECKING:
    import numpy as np

REPO = Path(__file__).resolve().parent.parent
DOCUMENT = REPO / "docs" / "reference" / "benchmarks.md"
LIBRARIES = ("numpy", "polars", "pandas", "duckdb")
N_CLASSES = 182
KERNEL = (0.1, 0.2, 0.4, 0.2, 0.1)
SHARED = (
    "lag(1..3) lead(1..3) minus_local_mean(1) local_max(1) logsumexp(1) smooth(0.1,0.2,0.4,0.2,0.1)"
)
OURS, COPY = "birdstack", "memcpy"
AT_ONCE = 16
"""Classes of a round, where a class is quick."""
RIVALS = ("numpy, one recording at a time", "polars over", "pandas groupby", "DuckDB windows")


def made_up(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[window, class]` that drift, and the bounds of their recordings."""
    import numpy as np  # noqa: PLC0415 - after the threads are settled

    rng = np.random.default_rng(0)
    bounds = np.append(0, np.cumsum(lengths))
    logits = rng.normal(-4, 2, (int(bounds[-1]), N_CLASSES)).astype(np.float32)
    return logits, bounds


# --- the ways -------------------------------------------------------------------------------


def by_numpy(column: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """A loop over recordings with numpy inside, as one would write it."""
    import numpy as np  # noqa: PLC0415 - as above

    out = np.empty((len(column), 10), dtype=np.float32)
    kernel = np.asarray(KERNEL, dtype=np.float32)
    for first, last in itertools.pairwise(bounds):
        padded = np.pad(column[first:last], 3, constant_values=np.nan)
        near = np.lib.stride_tricks.sliding_window_view(padded, 7)
        here = out[first:last]
        here[:, :6] = near[:, [2, 1, 0, 4, 5, 6]]
        here[:, 6] = near[:, 3] - np.nanmean(near[:, 2:5], axis=1)
        here[:, 7] = np.nanmax(near[:, 2:5], axis=1)
        here[:, 8] = np.log(np.nansum(np.exp(near[:, 2:5]), axis=1))
        weights = kernel * ~np.isnan(near[:, 1:6])
        here[:, 9] = np.nansum(near[:, 1:6] * weights, axis=1) / weights.sum(axis=1)
    return out


def by_polars(frame: Any) -> np.ndarray:
    """Shifts `over` the recording, and expressions over them."""
    import polars as pl  # noqa: PLC0415 - as above

    x = pl.col("x")
    near = {step: x.shift(step).over("recording") for step in (-3, -2, -1, 1, 2, 3)}
    three, five = [near[1], x, near[-1]], [near[2], near[1], x, near[-1], near[-2]]
    weight = pl.sum_horizontal(
        pl.when(value.is_not_null()).then(w) for value, w in zip(five, KERNEL, strict=True)
    )
    columns = frame.select(
        *(near[step].alias(f"n{step}") for step in (1, 2, 3, -1, -2, -3)),
        minus=x - pl.mean_horizontal(three),
        largest=pl.max_horizontal(three),
        soft=pl.sum_horizontal(value.exp() for value in three).log(),
        smooth=pl.sum_horizontal(v * w for v, w in zip(five, KERNEL, strict=True)) / weight,
    )
    found: np.ndarray = columns.cast(pl.Float32).to_numpy()
    return found


def by_pandas(frame: Any) -> np.ndarray:
    """`groupby(...).shift`, and arithmetic over the columns."""
    import numpy as np  # noqa: PLC0415 - as above
    import pandas as pd  # noqa: PLC0415 - as above

    groups = frame.groupby("recording", sort=False)["x"]
    near = {step: groups.shift(step) for step in (1, 2, 3, -1, -2, -3)} | {0: frame["x"]}
    three = pd.concat([near[1], near[0], near[-1]], axis=1)
    five = pd.concat([near[2], near[1], near[0], near[-1], near[-2]], axis=1)
    weights = five.notna() * np.asarray(KERNEL)
    columns = [near[step] for step in (1, 2, 3, -1, -2, -3)]
    columns += [near[0] - three.mean(axis=1), three.max(axis=1)]
    columns += [np.log(np.exp(three).sum(axis=1))]
    columns += [(five.fillna(0) * weights).sum(axis=1) / weights.sum(axis=1)]
    found: np.ndarray = pd.concat(columns, axis=1).to_numpy(np.float32)
    return found


def by_duckdb(connection: Any) -> np.ndarray:
    """Window functions partitioned by recording."""
    import numpy as np  # noqa: PLC0415 - as above

    five = ("p2", "p1", "x", "n1", "n2")
    met = " + ".join(f"coalesce({name} * {w}, 0)" for name, w in zip(five, KERNEL, strict=True))
    weight = " + ".join(
        f"(CASE WHEN {name} IS NULL THEN 0 ELSE {w} END)"
        for name, w in zip(five, KERNEL, strict=True)
    )
    shifts = ", ".join(
        f"lag(x, {n}) OVER w AS p{n}, lead(x, {n}) OVER w AS n{n}" for n in (1, 2, 3)
    )
    near = (
        'OVER (PARTITION BY recording ORDER BY "window" ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)'
    )
    query = f"""
        SELECT p1, p2, p3, n1, n2, n3, x - mean AS minus, largest, ln(total) AS soft,
               ({met}) / ({weight}) AS smooth
        FROM (SELECT row, x, {shifts}, avg(x) {near} AS mean, max(x) {near} AS largest,
                     sum(exp(x)) {near} AS total
              FROM frame WINDOW w AS (PARTITION BY recording ORDER BY "window"))
        ORDER BY row
    """  # noqa: S608 - names and numbers of this file
    columns = connection.sql(query).fetchnumpy()
    return np.stack([np.ma.filled(c.astype(np.float32), np.nan) for c in columns.values()], axis=1)


# --- a table --------------------------------------------------------------------------------


def ways_of(logits: np.ndarray, bounds: np.ndarray) -> dict[str, Callable[[], Any]]:
    """What is timed: the columns of a class, by each way that is installed."""
    import numpy as np  # noqa: PLC0415 - as above
    import polars as pl  # noqa: PLC0415 - as above

    from birdstack.stacking.context import ClassContext  # noqa: PLC0415 - as above

    # One class's column lies together, as the store gives it, for this way as for the others.
    shared = ClassContext(np.asfortranarray(logits[:, :AT_ONCE]), bounds, SHARED)
    place = np.zeros((len(shared.terms), len(logits)), dtype=np.float32)
    source = np.ones_like(place)

    def copied() -> None:
        for _ in range(AT_ONCE):
            np.copyto(place, source)

    def ours() -> np.ndarray:
        for class_index in reversed(range(AT_ONCE)):
            shared.one(class_index, out=place.T)
        return place.T

    column = logits[:, 0].copy()
    lengths = np.diff(bounds)
    frame = pl.DataFrame(
        {
            "row": np.arange(len(column)),
            "recording": np.repeat(np.arange(len(lengths)), lengths),
            "window": np.arange(len(column)) - np.repeat(bounds[:-1], lengths),
            "x": column,
        }
    )
    ways: dict[str, Callable[[], Any]] = {
        COPY: copied,
        OURS: ours,
        RIVALS[0]: lambda: by_numpy(column, bounds),
        RIVALS[1]: lambda: by_polars(frame),
    }
    if importlib.util.find_spec("pandas"):
        import pandas as pd  # noqa: PLC0415 - as above

        table = pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns})
        ways[RIVALS[2]] = lambda: by_pandas(table)
    if importlib.util.find_spec("duckdb"):
        import duckdb  # noqa: PLC0415 - as above

        connection = duckdb.connect(config={"threads": 1})
        connection.register("frame", frame.to_arrow())
        ways[RIVALS[3]] = lambda: by_duckdb(connection)
    return ways


def checked(ways: dict[str, Callable[[], Any]]) -> None:
    """Every way gives our numbers.

    Raises:
        AssertionError: one does not.
    """
    import numpy as np  # noqa: PLC0415 - as above

    ours = ways[OURS]()  # what it wrote last: class 0
    for name in (name for name in RIVALS if name in ways):
        np.testing.assert_allclose(ways[name](), ours, rtol=1e-5, atol=1e-5, err_msg=name)


def all_classes(logits: np.ndarray, bounds: np.ndarray, rounds: int) -> dict[str, float]:
    """CPU seconds of the default terms for all classes in turn, and of copying their bytes."""
    import numpy as np  # noqa: PLC0415 - as above

    from birdstack.stacking.context import ClassContext  # noqa: PLC0415 - as above
    from birdstack.stacking.context_grammar import FOCAL_TERMS  # noqa: PLC0415 - as above

    source = np.ones((len(FOCAL_TERMS), len(logits)), dtype=np.float32)

    def in_turn() -> None:
        for _ in ClassContext(logits, bounds, FOCAL_TERMS):
            pass

    def copied() -> None:
        for _ in range(N_CLASSES):
            source.copy()  # as ours, into an array of its own

    timings = timing.interleaved({"ours": in_turn, "copy": copied}, rounds)
    return {name: found.cpu for name, found in timings.items()} | {"terms": len(FOCAL_TERMS)}


def measure(lengths: np.ndarray, rounds: int) -> dict[str, Any]:
    """All figures of one table."""
    logits, bounds = made_up(lengths)
    ways = ways_of(logits, bounds)
    checked(ways)
    timings = timing.interleaved(ways, rounds)
    return {
        "windows": len(logits),
        "recordings": len(lengths),
        "cpu_s": {
            name: found.cpu / (AT_ONCE if name in {OURS, COPY} else 1)
            for name, found in timings.items()
        },
        "all_classes": all_classes(logits, bounds, max(1, rounds // 3)),
    }


def described(figures: dict[str, Any]) -> str:
    """The section of the document."""
    tables = figures["tables"]
    names = [name for name in (COPY, OURS, *RIVALS) if name in tables[0]["cpu_s"]]
    head = ["10 columns of one class, median CPU ms (ratio to memcpy)"]
    head += [f"{t['windows']:,} windows of {t['recordings']:,} {t['kind']}" for t in tables]
    rows = [
        [name]
        + [
            f"{milliseconds(t['cpu_s'][name])} ({ratio(t['cpu_s'][name], t['cpu_s'][COPY])})"
            for t in tables
        ]
        for name in names
    ]
    last = [
        f"{t['kind']} {t['all_classes']['ours']:.2f} CPU s (a copy of as many bytes "
        f"{t['all_classes']['copy']:.2f})"
        for t in tables
    ]
    return (
        f"{figures['machine']}. {figures['rounds']} rounds, one thread, one processor.\n\n"
        + markdown_table(head, rows)
        + f"\n\nAll {N_CLASSES} classes in turn, {tables[0]['all_classes']['terms']} columns each "
        + "(the default set for focal tables, ranks among classes included): "
        + ", ".join(last)
        + "."
    )


def main() -> None:
    """Take the figures, print them, and write them down if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the recordings")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--write", action="store_true", help="write the documents' section anew")
    options = parser.parse_args()
    timing.one_thread()
    import numpy as np  # noqa: PLC0415 - as above

    rng = np.random.default_rng(1)
    soundscapes = np.full(max(2, int(1_100 * options.scale)), 48)
    focal = rng.integers(1, 11, max(2, int(18_000 * options.scale)))
    figures: dict[str, Any] = {"machine": timing.machine(*LIBRARIES), "rounds": options.rounds}
    figures["tables"] = [
        {"kind": kind, **measure(lengths, options.rounds)}
        for kind, lengths in (("soundscapes", soundscapes), ("focal recordings", focal))
    ]
    body = described(figures)
    print(body)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    if options.write:
        timing.write_section(DOCUMENT, "context", body)


if __name__ == "__main__":
    main()
