"""`birdstack store ...`: look into a store and take care of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from birdstack.stacking.options import At, ConfigFile, Json, Set, StorePath, reporting

store_app = typer.Typer(
    help="Look into a store and take care of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_HISTORY_LINES = 20


def _flattened(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """`[("audio.sample_rate_hz", 32000), ...]` from nested mappings."""
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [
        line
        for key, inner in value.items()
        for line in _flattened(inner, f"{prefix}.{key}" if prefix else key)
    ]


Recipe = Annotated[
    str | None, typer.Option("--recipe", help="First digits of a recipe other than the active.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def _by_family(rows_added: dict[str, int]) -> str:
    """`acoustic 28 in 10 views, place 28`."""
    families: dict[str, list[int]] = {}
    for name, rows in rows_added.items():
        families.setdefault(name.split("/", 1)[0], []).append(rows)
    return ", ".join(
        f"{name} {max(rows):,}" + (f" in {len(rows)} views" if len(rows) > 1 else "")
        for name, rows in families.items()
    )


@store_app.command(epilog="Example:\n\nbirdstack store ls --json")
@reporting
def ls(store: StorePath = "birdstack-store", at: At = None, json: Json = False) -> int:
    """List views and tables: rows, columns, recipe, version."""
    from dataclasses import asdict

    from birdstack.stacking.console import Reporter, human_bytes
    from birdstack.store.inventory import list_entries
    from birdstack.store.store import Store

    reporter = Reporter(as_json=json)
    opened = Store.open(store)
    snapshot = opened.snapshot(at)
    entries = list_entries(snapshot)
    reporter.value([asdict(entry) for entry in entries])
    reporter.table(
        f"{opened.url}, snapshot {snapshot.version}",
        ["name", "kind", "rows", "columns", "recordings", "skipped", "recipe", "parts", "size"],
        [
            (
                e.name,
                e.kind,
                e.rows,
                len(e.columns),
                e.recordings or None,
                e.skipped or None,
                e.recipe if e.active else f"{e.recipe} (old)",
                e.parts,
                human_bytes(e.bytes),
            )
            for e in entries
        ],
    )
    for name, version in opened.pins().items():
        reporter.say(f"pin {name}: snapshot {version}")
    return 0


@store_app.command(
    epilog="Examples:\n\nbirdstack store describe acoustic\n\n"
    "birdstack store describe acoustic --recipe 3f2a --json"
)
@reporting
def describe(
    view: Annotated[str, typer.Argument(help="View or table, see `store ls`.")],
    store: StorePath = "birdstack-store",
    at: At = None,
    recipe: Recipe = None,
    json: Json = False,
) -> int:
    """Show a view's recipe, and its columns with unit, range and statistics."""
    from birdstack.stacking.console import Reporter
    from birdstack.store.inventory import describe as look
    from birdstack.store.store import Store

    reporter = Reporter(as_json=json)
    opened = Store.open(store)
    body = look(opened.snapshot(at), view, recipe)
    reporter.value(body)
    reporter.say(
        f"{body['name']}: {body['rows']:,} rows, {body['recordings']:,} recordings, "
        f"{body['skipped']:,} skipped, {body['parts']} parts; snapshot {body['version']}"
    )
    if body["kind"] == "table":
        rows = [(column["name"], column["dtype"]) for column in body["columns"]]
        reporter.table("", ["column", "type"], rows)
        return 0
    reporter.say(f"recipe {body['recipe']}:")
    for key, value in _flattened(body["recipe_content"]):
        reporter.say(f"  {key} = {value}")
    reporter.table(
        "",
        ["column", "unit", "min", "mean", "std", "max", "NaN %", "description"],
        [
            (
                c["name"] if c["dim"] is None else f"{c['name']}[{c['dim']}]",
                c["unit"],
                *(c.get(key) for key in ("min", "mean", "std", "max")),
                100 * c["nan"] / c["values"] if c.get("values") else None,
                c["description"],
            )
            for c in body["columns"]
        ],
    )
    return 0


@store_app.command(epilog="Example:\n\nbirdstack store history --all")
@reporting
def history(
    store: StorePath = "birdstack-store",
    every: Annotated[bool, typer.Option("--all", help="All commits, not the last 20.")] = False,
    json: Json = False,
) -> int:
    """Show the commits, newest first: who, what, when."""
    from itertools import islice

    from birdstack.stacking.console import Reporter
    from birdstack.store.inventory import summarise
    from birdstack.store.store import Store

    reporter = Reporter(as_json=json)
    opened = Store.open(store)
    commits = opened.log.history()
    lines = [summarise(c) for c in (commits if every else islice(commits, _HISTORY_LINES))]
    reporter.value(lines)
    reporter.table(
        opened.url,
        ["snapshot", "time (UTC)", "what", "who", "rows added", "skipped", "parts"],
        [
            (
                line["version"],
                line["time_utc"][:19].replace("T", " "),
                line["operation"],
                line["author"],
                _by_family(line["rows_added"]),
                line["skipped"] or None,
                f"+{line['parts_added']} -{line['parts_removed']}",
            )
            for line in lines
        ],
    )
    return 0


@store_app.command(epilog="Examples:\n\nbirdstack store verify\n\nbirdstack store verify --repair")
@reporting
def verify(
    store: StorePath = "birdstack-store",
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged parts out, so they are made again.")
    ] = False,
    json: Json = False,
) -> int:
    """Compare every file with its checksum; exit code 1 if something is damaged."""
    from dataclasses import asdict

    from birdstack.stacking.console import Reporter, human_bytes
    from birdstack.stacking.options import DONE, FAILED
    from birdstack.store.store import Store
    from birdstack.store.verify import repair as mend
    from birdstack.store.verify import verify as check

    reporter = Reporter(as_json=json)
    opened = Store.open(store)
    with reporter.progress("verifying") as advance:
        problems = check(opened, progress=lambda a, b: advance(a, b, human_bytes(b)))
    for problem in problems:
        reporter.event("damaged", **asdict(problem))
        reporter.say(f"damaged {problem.kind} {problem.path}: {problem.what}")
    done: list[str] = []
    while repair and problems:  # a mended log shows the parts that were hidden behind it
        done += mend(opened, problems)
        repaired = {problem.path for problem in problems}
        problems = [p for p in check(opened) if p.path not in repaired]
    for line in done:
        reporter.event("repaired", what=line)
        reporter.say(line)
    code = FAILED if problems else DONE
    if not problems and not done:
        state = opened.log.head()
        n_bytes = sum(part.n_bytes for part in state.parts.values())
        reporter.say(f"{opened.url}: {len(state.parts):,} parts, {human_bytes(n_bytes)}: all whole")
    reporter.event("finished", exit_code=code, damaged=len(problems), repaired=len(done))
    return code


@store_app.command(
    epilog="Examples:\n\nbirdstack store compact\n\nbirdstack store compact acoustic --megabytes 512"
)
@reporting
def compact(
    views: Annotated[list[str] | None, typer.Argument(help="Views; all if none.")] = None,
    store: StorePath = "birdstack-store",
    megabytes: Annotated[float, typer.Option(min=0.001, help="Size of a part to aim at.")] = 256.0,
    json: Json = False,
) -> int:
    """Rewrite many small parts into few large, sorted ones. Old snapshots stay readable."""
    from dataclasses import asdict

    from birdstack.stacking.console import Reporter
    from birdstack.store.compact import compact as run
    from birdstack.store.store import Store

    reporter = Reporter(as_json=json)
    opened = Store.open(store)
    chosen = [member for view in views or [] for member in opened.snapshot().members(view)]
    done = run(opened, chosen, megabytes=megabytes)
    reporter.value([asdict(line) for line in done])
    for line in done:
        reporter.say(f"{line.view} {line.recipe}: {line.parts_before} parts -> {line.parts_after}")
    return 0


@store_app.command(
    epilog="Examples:\n\nbirdstack store vacuum --dry-run\n\nbirdstack store vacuum --grace-hours 48"
)
@reporting
def vacuum(
    store: StorePath = "birdstack-store",
    grace_hours: Annotated[
        float, typer.Option(min=0, help="Keep what any snapshot of so many hours needs.")
    ] = 24.0,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Delete files that neither a recent nor a pinned snapshot needs."""
    from birdstack.stacking.console import Reporter, human_bytes
    from birdstack.store.store import Store
    from birdstack.store.vacuum import vacuum as run

    reporter = Reporter(as_json=json)
    opened = Store.open(store)
    done = run(opened, grace_hours=grace_hours, dry_run=dry_run)
    verb = "would delete" if dry_run else "deleted"
    reporter.value(
        {
            "deleted": [] if dry_run else [info.path for info in done.files],
            "would_delete": [info.path for info in done.files] if dry_run else [],
            "bytes": done.n_bytes,
            "oldest_snapshot": done.oldest,
        }
    )
    reporter.say(
        f"{verb} {len(done.files):,} files, {human_bytes(done.n_bytes)}; snapshots from "
        f"{done.oldest} on, and pinned ones, stay readable"
    )
    return 0


@store_app.command(
    epilog="Examples:\n\nbirdstack store export acoustic --out acoustic.parquet\n\n"
    "birdstack store export rejects --out rejects.csv\n\n"
    "birdstack store export labels --windows acoustic --out y.parquet"
)
@reporting
def export(
    view: Annotated[
        str, typer.Argument(help="View or table, see `store ls`; or `skips`, `notes`.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet or .csv.")],
    store: StorePath = "birdstack-store",
    at: At = None,
    recipe: Recipe = None,
    windows: Annotated[
        str | None,
        typer.Option(help="With `labels`: one row for each window of this view, 1/0/null a class."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    config: ConfigFile = None,
    setting: Set = None,
    json: Json = False,
) -> int:
    """Write a view or table to one flat file: keys and columns."""
    from birdstack.stacking.session import Session
    from birdstack.store.errors import UsageError
    from birdstack.store.export import export as run
    from birdstack.store.export import export_label_windows
    from birdstack.store.store import Store

    session = Session.start(store, config, setting, {}, as_json=json)
    snapshot = Store.open(store).snapshot(at)
    if windows is None:
        rows = run(snapshot, view, out, recipe=recipe, overwrite=overwrite)
    elif view == "labels":
        labels = session.settings.labels
        rows = export_label_windows(snapshot, windows, out, labels, overwrite=overwrite)
    else:
        message = f"--windows goes with `labels`, not with {view!r}"
        raise UsageError(message, remedy="leave --windows away")
    session.reporter.event("exported", view=view, out=str(out), rows=rows, at=snapshot.version)
    session.reporter.say(f"{out}: {rows:,} rows of {view}, snapshot {snapshot.version}")
    return 0


@store_app.command(epilog="Example:\n\nbirdstack store pin stack-2026-03")
@reporting
def pin(
    name: Annotated[str, typer.Argument(help="Name to keep the snapshot under.")],
    store: StorePath = "birdstack-store",
    at: At = None,
    json: Json = False,
) -> int:
    """Keep a snapshot under a name; vacuum respects it."""
    from birdstack.stacking.console import Reporter
    from birdstack.store.store import Store

    version = Store.open(store).pin(name, at)
    reporter = Reporter(as_json=json)
    reporter.event("pinned", name=name, version=version)
    reporter.say(f"{name}: snapshot {version}")
    return 0


@store_app.command(epilog="Example:\n\nbirdstack store unpin stack-2026-03")
@reporting
def unpin(
    name: Annotated[str, typer.Argument(help="Name of the pin.")],
    store: StorePath = "birdstack-store",
    json: Json = False,
) -> int:
    """Forget a pinned snapshot."""
    from birdstack.stacking.console import Reporter
    from birdstack.store.store import Store

    Store.open(store).unpin(name)
    reporter = Reporter(as_json=json)
    reporter.event("unpinned", name=name)
    reporter.say(f"{name} is no longer pinned")
    return 0
