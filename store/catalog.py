"""Recordings as the engine wants them, from the tables of a snapshot."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

import polars as pl

from birdstack.store.errors import SkipRecording
from birdstack.store.recordings import Probe, Recording
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import RECORDINGS

_BLOCK = 1 << 20


def load_recordings(snapshot: Snapshot, splits: Collection[str] = ()) -> list[Recording]:
    """Recordings that have audio, by recording_id.

    Args:
        snapshot: the store at one moment.
        splits: `train`, `unlabeled`, `test`, ...; empty for all.
    """
    rows = _with_roots(snapshot).filter(pl.col("content_hash").is_not_null())
    if splits:
        rows = rows.filter(pl.col("split").is_in(list(splits)))
    return [
        Recording(
            recording_id=row["recording_id"],
            path=Path(row["root"]) / row["path"],
            content_hash=row["content_hash"],
            n_bytes=row["bytes"],
            duration_s=row["duration_s"],
            latitude=row["latitude"],
            longitude=row["longitude"],
            elevation_m=row["elevation_m"],
            site=row["site"],
            date=row["date"],
            time=row["time"],
        )
        for row in rows.sort("recording_id").iter_rows(named=True)
    ]


def refresh_changed(store: Store, probe: Probe) -> list[str]:
    """Notice files that were replaced since they were ingested, by size and time.

    Their hash and header are read again and committed, so that the next plan hears them anew.
    A file that is gone, or that cannot be probed, keeps its row: the run will say why.

    Returns:
        Recording ids whose content has changed.
    """
    snapshot = store.snapshot()
    rows = _with_roots(snapshot).filter(pl.col("content_hash").is_not_null())
    updates: dict[str, dict[str, object]] = {}
    columns = ["recording_id", "root", "path", "bytes", "mtime_ns"]
    for recording_id, root, path, n_bytes, mtime_ns in rows.select(columns).iter_rows():
        full = Path(root) / path
        try:
            status = full.stat()
        except OSError:
            continue
        if (status.st_size, status.st_mtime_ns) != (n_bytes, mtime_ns):
            facts = _read_again(full, probe)
            if facts:
                facts |= {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
                updates[recording_id] = {"recording_id": recording_id, **facts}
    if not updates:
        return []
    recordings = snapshot.table("recordings")
    before = dict(recordings.select("recording_id", "content_hash").iter_rows())
    changes = pl.DataFrame(
        list(updates.values()), schema={c: RECORDINGS[c] for c in next(iter(updates.values()))}
    )
    updated = recordings.update(changes, on="recording_id").select(list(RECORDINGS))
    frames = {
        ("recordings", name): updated.filter(pl.col("dataset") == name)
        for name in updated["dataset"].unique().sort()
    }
    write_tables(store, frames, operation="refresh", info={"files": len(updates)})
    return sorted(i for i, facts in updates.items() if facts["content_hash"] != before[i])


def _read_again(path: Path, probe: Probe) -> dict[str, object]:
    try:
        header = probe(path)
        digest = hashlib.sha256()
        with path.open("rb") as handle:
            while block := handle.read(_BLOCK):
                digest.update(block)
    except (SkipRecording, OSError):
        return {}
    return {
        "content_hash": digest.hexdigest(),
        "format": header.format,
        "sample_rate_hz": header.sample_rate_hz,
        "channels": header.channels,
        "duration_s": header.duration_s,
    }


def _with_roots(snapshot: Snapshot) -> pl.DataFrame:
    roots = snapshot.table("datasets").select("dataset", "root")
    return snapshot.table("recordings").join(roots, on="dataset", how="inner")
