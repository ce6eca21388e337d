"""The engine hears what is lacking, once, and keeps what it heard whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fault_support as toy
import numpy as np
import polars as pl
import pytest

from birdstack.store.errors import (
    BirdstackError,
    SchemaError,
    SkipRecording,
    StoreError,
    UsageError,
)
from birdstack.store.materialise import Progress
from birdstack.store.store import Store
from birdstack.store.vacuum import vacuum
from birdstack.store.views import Column


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(tmp_path / "store")


@pytest.fixture
def journal(tmp_path: Path):
    """Ids that were opened since the last call."""
    path = tmp_path / "journal"
    path.touch()
    seen = 0

    def heard() -> list[str]:
        nonlocal seen
        lines = path.read_text().split()
        new, seen = lines[seen:], len(lines)
        return new

    heard.source = toy.ToySource(journal=str(path))
    return heard


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_fills_resumes_and_then_does_nothing(store: Store, executor: str) -> None:
    """A first run hears all, a larger one the rest, a third nothing, on every executor."""
    some, more = toy.toy_recordings(10), toy.toy_recordings(21)
    first = toy.fill(store, some, executor=executor, workers=2)
    assert (first.total, first.already, first.heard, first.skips) == (10, 0, 10, [])
    assert first.windows == sum(toy.toy_windows(r) for r in some)
    second = toy.fill(store, more, executor=executor, workers=2)
    assert (second.total, second.already, second.heard) == (21, 10, 11)
    version = store.log.head().version
    third = toy.fill(store, more, executor=executor, workers=2)
    assert (third.already, third.heard, third.version) == (21, 0, version)
    toy.assert_holds(store, more)


def test_one_changed_recording_is_heard_alone(store: Store, journal) -> None:
    """Its old rows leave the new snapshot and stay in the old one; nothing else is heard."""
    recordings = toy.toy_recordings(16)
    toy.fill(store, recordings)
    before = store.log.head().version
    changed = toy.toy_recordings(1, first=5, content="edited")[0]
    wanted = [*recordings[:5], changed, *recordings[6:]]
    report = toy.fill(store, wanted, source=journal.source)
    assert journal() == [changed.recording_id]
    assert (report.already, report.heard) == (15, 1)
    toy.assert_holds(store, wanted)
    assert store.view("toy", at=before).collect().equals(toy.truth(recordings))
    toy.fill(store, recordings, source=journal.source)  # and back again
    toy.assert_holds(store, recordings)
    assert toy.fill(store, recordings).already == 16


def test_a_changed_recording_that_now_fails_keeps_no_false_promise(store: Store) -> None:
    """The rows of the old content stay, the report says that the recording was skipped."""
    recordings = toy.toy_recordings(4)
    toy.fill(store, recordings)
    changed = toy.toy_recordings(1, first=2, content="broken")[0]
    wanted = [*recordings[:2], changed, recordings[3]]
    source = toy.ToySource(codes={changed.recording_id: "decode_error"})
    report = toy.fill(store, wanted, source=source)
    assert report.skipped_recordings == {changed.recording_id}
    covered = store.snapshot().covered("toy")[changed.recording_id]
    assert covered.content_hash == recordings[2].content_hash
    assert toy.fill(store, wanted).skipped_recordings == {changed.recording_id}


def test_a_skip_is_retried_only_when_the_content_changes(store: Store, journal) -> None:
    """One bad file costs one file, with its reason, until it is another file."""
    recordings = toy.toy_recordings(6)
    bad = recordings[3]
    failing = toy.ToySource(journal=journal.source.journal, codes={bad.recording_id: "no_audio"})
    report = toy.fill(store, recordings, source=failing)
    assert report.heard == 5
    assert [(s.recording_id, s.code) for s in report.skips] == [(bad.recording_id, "no_audio")]
    assert len(journal()) == 6
    row = store.snapshot().skips().row(0, named=True)
    assert (row["view"], row["recording_id"], row["code"]) == ("toy", bad.recording_id, "no_audio")
    again = toy.fill(store, recordings, source=failing)
    assert journal() == []
    assert [s.recording_id for s in again.still_skipped] == [bad.recording_id]
    mended = toy.toy_recordings(1, first=3, content="mended")[0]
    wanted = [*recordings[:3], mended, *recordings[4:]]
    assert toy.fill(store, wanted, source=journal.source).heard == 1
    assert journal() == [bad.recording_id]
    toy.assert_holds(store, wanted)
    assert store.snapshot().skips().is_empty()


def test_skips_can_be_retried_on_request(store: Store, journal) -> None:
    """`retry_skipped` hears them again, and only them."""
    recordings = toy.toy_recordings(6)
    bad = recordings[1].recording_id
    toy.fill(store, recordings, source=toy.ToySource(codes={bad: "no_audio"}))
    assert toy.fill(store, recordings, source=journal.source, retry_skipped=True).heard == 1
    assert journal() == [bad]


@pytest.mark.parametrize("code", ["missing", "permission", "decode_timeout"])
def test_transient_reasons_are_tried_every_time(store: Store, journal, code: str) -> None:
    """What lies outside of the file may be gone by the next run."""
    recordings = toy.toy_recordings(3)
    bad = recordings[1].recording_id
    toy.fill(store, recordings, source=toy.ToySource(codes={bad: code}))
    assert toy.fill(store, recordings, source=journal.source).heard == 1
    assert journal() == [bad]


def test_a_hopeless_run_stops_early(store: Store, journal) -> None:
    """When the first 50 all fail alike, the rest is not tried."""
    recordings = toy.toy_recordings(400)
    codes = {recording.recording_id: "missing" for recording in recordings}
    source = toy.ToySource(journal=journal.source.journal, codes=codes)
    with pytest.raises(
        StoreError,
        match=r"the first 5\d recordings all failed with 'missing'; site0/rec00000\.ogg: told",
    ):
        toy.fill(store, recordings, source=source)
    assert 50 <= len(journal()) < 60
    assert toy.fill(store, recordings).heard == 400


def test_recordings_without_windows_are_not_hopeless(store: Store) -> None:
    """Sixty recordings too short for a window, and no failure at all: the run goes on."""
    assert toy.fill(store, toy.toy_recordings(60), source=Silent()).heard == 60


class Silent(toy.ToySource):
    """Everything is too short for a window."""

    def open(self, recording):
        return toy.ToySound(0)


def test_many_failures_of_different_kinds_do_not_stop_a_run(store: Store) -> None:
    """Sixty bad files of two kinds, then good ones: the run goes on."""
    recordings = toy.toy_recordings(64)
    ordered = sorted(recordings, key=lambda r: r.recording_id)
    codes = {r.recording_id: f"code{i % 2}" for i, r in enumerate(ordered[:60])}
    report = toy.fill(store, recordings, source=toy.ToySource(codes=codes))
    assert (report.heard, len(report.skips)) == (4, 60)


def test_an_extractor_that_fails_on_one_recording(store: Store) -> None:
    """An unexpected exception costs one recording, and its text is kept, in UTF-8."""

    class Fragile(toy.ToyExtractor):
        def measure(self, sound, recording):
            if "rec00002" in recording.recording_id:
                message = "odd name \udcff"
                raise ZeroDivisionError(message)
            return super().measure(sound, recording)

    report = toy.fill(store, toy.toy_recordings(5), extractors=[Fragile()])
    assert report.heard == 4
    row = store.snapshot().skips().row(0, named=True)
    assert row["code"] == "extractor_error"
    assert row["reason"] == "ZeroDivisionError: odd name \\udcff"


@pytest.mark.parametrize("wrong", ["longer", "missing", "unknown", "flat vector"])
def test_wrong_shapes_stop_the_run_and_name_the_recording(store: Store, wrong: str) -> None:
    """Two wrong lengths that add up to the right total never shift rows."""

    class Wrong(toy.ToyExtractor):
        def measure(self, sound, recording):
            values = super().measure(sound, recording)
            if wrong == "longer":
                values = toy.toy_values(recording, sound.n_windows + 1)
            elif wrong == "missing":
                del values["level"]
            elif wrong == "unknown":
                values["more"] = values["level"]
            else:
                values["vector"] = values["vector"].ravel()
            return values

    with pytest.raises(SchemaError, match=r"view 'toy', column '\w+', recording 'site0/rec00000"):
        toy.fill(store, toy.toy_recordings(3), extractors=[Wrong()])
    assert store.log.head().version == -1


def test_lengths_that_cancel_out_are_seen(store: Store) -> None:
    """One recording with a row too many and the next with one too few is refused."""
    first, second = sorted(
        [r for r in toy.toy_recordings(40) if toy.toy_windows(r) in (2, 3)][:2],
        key=lambda r: r.recording_id,
    )

    class Cancelling(toy.ToyExtractor):
        def measure(self, sound, recording):
            n = sound.n_windows + (1 if recording == first else -1)
            return toy.toy_values(recording, n)

    with pytest.raises(SchemaError, match="shape must be"):
        toy.fill(store, [first, second], extractors=[Cancelling()])


def test_a_type_that_loses_is_refused(store: Store) -> None:
    """float64 into an int16 column is an error, not a truncation."""

    class Loses(toy.ToyExtractor):
        def measure(self, sound, recording):
            values = super().measure(sound, recording)
            return values | {"count": values["count"] + 0.5}

    with pytest.raises(SchemaError, match="column 'count': float64 does not fit int16"):
        toy.fill(store, toy.toy_recordings(3), extractors=[Loses()])


def test_a_recording_wanted_twice_is_refused(store: Store) -> None:
    """One id twice would double its rows."""
    with pytest.raises(UsageError, match=r"1 recordings are wanted more than once, e\.g\. 'site2/"):
        toy.fill(store, [*toy.toy_recordings(4), *toy.toy_recordings(1, first=2)])


def test_recordings_without_a_window(store: Store) -> None:
    """A recording too short for a window is held with no rows, and not heard again."""
    recordings = toy.toy_recordings(3)
    toy.fill(store, recordings, source=Silent())
    assert store.view("toy").collect().is_empty()
    assert store.matrix("toy").values.shape == (0, 2 + toy.DIM)
    assert toy.fill(store, recordings).already == 3
    more = toy.toy_recordings(6)
    toy.fill(store, more)
    assert store.view("toy").collect().equals(toy.truth(more[3:]))


def test_two_views_cost_one_opening(store: Store, journal) -> None:
    """A new view beside an old one hears everything once, and each view holds its own."""
    recordings = toy.toy_recordings(6)
    other = toy.ToyExtractor("other", columns=(Column("x"), Column("y", "int32")))
    toy.fill(store, recordings[:3], source=journal.source)
    journal()
    toy.fill(store, recordings, source=journal.source, extractors=[toy.ToyExtractor(), other])
    assert sorted(journal()) == sorted(r.recording_id for r in recordings)
    toy.assert_holds(store, recordings)
    assert store.view("other").collect().equals(toy.truth(recordings, other.columns))


def test_a_view_that_skips_while_another_holds(store: Store) -> None:
    """A recording that one view cannot use is still in the other."""

    class Picky(toy.ToyExtractor):
        def measure(self, sound, recording):
            if sound.n_windows > 2:
                raise SkipRecording("too_long", "more than two windows")  # noqa: EM101 - a code
            return super().measure(sound, recording)

    recordings = toy.toy_recordings(10)
    report = toy.fill(store, recordings, extractors=[toy.ToyExtractor(), Picky("picky")])
    assert report.heard == 10
    toy.assert_holds(store, recordings)
    toy.assert_holds(store, [r for r in recordings if toy.toy_windows(r) <= 2], view="picky")
    assert store.snapshot().skips()["view"].unique().to_list() == ["picky"]


def test_a_new_recipe_is_a_new_folder_and_the_active_one(store: Store) -> None:
    """Old numbers stay readable by recipe and by snapshot; going back costs nothing."""
    recordings = toy.toy_recordings(4)
    old = toy.fill(store, recordings).version
    old_recipe = store.snapshot().recipe_of("toy")
    newer = toy.ToyExtractor(version=2)
    toy.fill(store, recordings[:2], extractors=[newer])
    assert store.snapshot().recipe_of("toy") == newer.spec.recipe_hash
    toy.assert_holds(store, recordings[:2])
    assert store.view("toy", recipe=old_recipe).collect().equals(toy.truth(recordings))
    assert store.view("toy", at=old).collect().equals(toy.truth(recordings))
    assert toy.fill(store, recordings).heard == 0
    toy.assert_holds(store, recordings)


def test_stopping_keeps_what_is_finished(store: Store) -> None:
    """A stop ends after the recording in hand, commits it, and says so."""
    stop = threading.Event()
    recordings = toy.toy_recordings(200)

    class Stops(toy.ToyExtractor):
        def measure(self, sound, recording):
            if "rec0010" in recording.recording_id:
                stop.set()
            return super().measure(sound, recording)

    from birdstack.store.materialise import materialise
    from birdstack.store.run_config import RunConfig

    report = materialise(
        store, recordings, toy.ToySource(), [Stops()], RunConfig(workers=2), stop=stop
    )
    assert report.stopped
    assert 0 < report.heard < 200
    assert len(store.snapshot().covered("toy")) == report.heard
    assert toy.fill(store, recordings).heard == 200 - report.heard
    toy.assert_holds(store, recordings)


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_an_error_in_the_middle_keeps_what_is_finished(store: Store, executor: str) -> None:
    """What was finished before the run failed is committed or taken over by the next."""
    with pytest.raises(BirdstackError, match="the extractor gives up"):
        toy.fill(
            store,
            toy.toy_recordings(40),
            extractors=[toy.GivesUp()],
            executor=executor,
            workers=2,
            unit_recordings=2,
        )
    toy.assert_holds_only_truth(store, toy.toy_recordings(40))
    held = len(store.snapshot().covered("toy")) if store.snapshot().views else 0
    report = toy.fill(store, toy.toy_recordings(40))
    assert report.heard <= 40 - held
    assert report.heard < 40
    toy.assert_holds(store, toy.toy_recordings(40))


def test_progress_counts_up_to_the_total(store: Store) -> None:
    """Progress never runs backwards, and ends with everything tried."""
    from birdstack.store.materialise import materialise
    from birdstack.store.run_config import RunConfig

    seen: list[Progress] = []
    recordings = toy.toy_recordings(20)
    bad = {recordings[7].recording_id: "no_audio"}
    materialise(
        store,
        recordings,
        toy.ToySource(codes=bad),
        [toy.ToyExtractor()],
        RunConfig(executor="serial", unit_recordings=3, commit_interval_s=0),
        progress=seen.append,
    )
    assert [p.tried for p in seen] == sorted(p.tried for p in seen)
    assert (seen[0].tried, seen[-1].tried, seen[-1].total) == (0, 20, 20)
    assert seen[-1].skipped == 1


def test_commits_follow_the_interval_and_the_size(store: Store, tmp_path: Path) -> None:
    """No commit before its time: one for a long interval, one a unit for none or for size."""
    recordings = toy.toy_recordings(12)
    toy.fill(store, recordings, commit_interval_s=1000.0)
    assert store.log.head().version == 0
    for name, settings in (
        ("time", {"commit_interval_s": 0.0}),
        ("size", {"commit_interval_s": 1000.0, "commit_megabytes": 0.0001}),
    ):
        other = Store.create(tmp_path / name)
        toy.fill(other, recordings, **settings)
        assert other.log.head().version == 2


def test_extreme_values_do_not_break_the_commit(store: Store) -> None:
    """The largest floats, NaN and infinities are stored as they are; statistics say so."""
    columns = (Column("x"), Column("d", "float64"))
    rows = {
        "x": np.array([3.4e38, -3.4e38, np.nan, np.inf], np.float32),
        "d": np.array([1e308, -1e308, np.nan, -np.inf]),
    }

    class Extreme(toy.ToyExtractor):
        def measure(self, sound, recording):
            return rows

    class Four(toy.ToySource):
        def open(self, recording):
            return toy.ToySound(4)

    extractors = [Extreme(columns=columns)]
    report = toy.fill(store, toy.toy_recordings(1), source=Four(), extractors=extractors)
    frame = store.view("toy").collect()
    for name, expected in rows.items():
        assert np.array_equal(frame[name].to_numpy(), expected, equal_nan=True)
    statistics = store.snapshot().state.statistics[f"toy/{store.snapshot().recipe_of('toy')}"]
    assert (statistics["x"].nan, statistics["x"].inf) == (1, 1)
    assert any("infinite" in warning for warning in report.warnings)


def test_a_damaged_or_missing_recipe_is_written_again(store: Store) -> None:
    """As the error's remedy says: the same run restores it, with nothing left to hear."""
    recordings = toy.toy_recordings(4)
    toy.fill(store, recordings)
    (path,) = Path(store.url).glob("views/toy/*/recipe.json")
    whole = path.read_bytes()
    for damage in (b"", whole[:50], whole.replace(b'"toy"', b'"tiy"'), None):
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        with pytest.raises(StoreError, match=r"recipe .*recipe\.json is (damaged|missing)"):
            store.view("toy")
        assert toy.fill(store, recordings).heard == 0
        assert path.read_bytes() == whole
        toy.assert_holds(store, recordings)


# --- Ctrl-C and SIGTERM on the command itself ---------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 short recordings in BirdCLEF layout."""
    import soundfile

    root = tmp_path_factory.mktemp("signals") / "birds"
    rng = np.random.default_rng(7)
    rows = ["primary_label,secondary_labels,latitude,longitude,author,rating,filename"]
    for i in range(160):
        label = ("asbfly", "comkin1")[i % 2]
        file = root / "train_audio" / label / f"XC{i:04d}.ogg"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            file, 0.1 * rng.standard_normal(5 * 8000), 8000, format="OGG", subtype="VORBIS"
        )
        rows.append(f"{label},[],10.0,20.0,Author {i % 9},4.0,{label}/{file.name}")
    (root / "train_metadata.csv").write_text("\n".join(rows) + "\n")
    return root


def _birdstack(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "birdstack.stacking.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _acoustic(url: Path) -> list[pl.DataFrame]:
    """The acoustic view, or the views of the acoustic family."""
    snapshot = Store.open(url).snapshot()
    names = [name for name in snapshot.views if name.partition("/")[0] == "acoustic"]
    return [snapshot.view(name).collect() for name in names]


def _covered(url: Path) -> int:
    """Recordings that every acoustic view holds."""
    return min((frame["recording_id"].n_unique() for frame in _acoustic(url)), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_end_the_command_cleanly(dataset: Path, tmp_path: Path, name: str) -> None:
    """Exit code 130, what was heard is kept, the second run completes, the third is idle."""
    url = tmp_path / "store"
    arguments = ["features", str(dataset), "--store", str(url)]
    settings = ["--set", "run.unit_recordings=2", "--set", "run.commit_interval_s=0.1"]
    run = _birdstack(*arguments, *settings)
    deadline = time.monotonic() + 60
    while not (url / "store.json").exists() or _covered(url) < 4:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(getattr(signal, name))
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "Traceback" not in err
    kept = _covered(url)
    assert 4 <= kept < 160
    second = _birdstack(*arguments)
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert _covered(url) == 160
    for frame in _acoustic(url):
        assert not frame.select("recording_id", "window").is_duplicated().any()
        assert frame["recording_id"].n_unique() == 160
    third = _birdstack(*arguments)
    out, err = third.communicate(timeout=60)
    assert third.returncode == 0, err
    assert "nothing to do" in out + err


def test_vacuum_beside_a_run_keeps_what_is_not_committed_yet(store: Store) -> None:
    """With its grace period vacuum never takes a part that a running writer has just written."""
    recordings = toy.toy_recordings(12)
    taken: list[int] = []

    class Vacuuming(toy.ToyExtractor):
        def measure(self, sound, recording):
            taken.append(len(vacuum(Store.open(store.url)).files))
            return super().measure(sound, recording)

    toy.fill(store, recordings, extractors=[Vacuuming()], unit_recordings=2)
    assert set(taken) == {0}
    toy.assert_holds(store, recordings)
    assert isinstance(store.view("toy"), pl.LazyFrame)
