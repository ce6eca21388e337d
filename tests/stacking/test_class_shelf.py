"""A shelf gives back what was put there, bit for bit, and never anything else."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.layers import fitted, saved_bytes
from support.rich_stack import QUICK, rich

from birdstack.stacking.class_shelf import ClassShelf
from birdstack.stacking.console import Reporter
from birdstack.stacking.parcel import Parcel, packed, unpacked
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.steps import Steps
from birdstack.store.errors import CorruptError, UsageError

SETTINGS = StackSettings(**QUICK)  # type: ignore[arg-type]
TABLE = rich(60)


class Stop(Exception):  # noqa: N818 - a signal
    """Somebody pulled the plug."""


def stop_after(classes: int):
    """Progress that ends a fit once so many classes are fitted."""
    seen = []

    def advance(done: int, total: int, words: str) -> None:
        if words.startswith("class "):
            seen.append(words)
        if len(seen) == classes:
            raise Stop

    return advance


def told_by(shelf: ClassShelf | None) -> list[tuple[int, int, str]]:
    """All that a fit says of its progress."""
    told: list[tuple[int, int, str]] = []
    fitted(TABLE, SETTINGS, shelf, lambda *said: told.append(said))
    return told


@pytest.mark.parametrize("booster", ["lightgbm", "xgboost"])
def test_a_fit_that_was_stopped_ends_in_the_same_bytes(tmp_path: Path, booster: str) -> None:
    """Every file of the saved stack, whether it was fitted in one go or in two."""
    settings = SETTINGS.model_copy(update={"booster": booster})
    whole = saved_bytes(tmp_path / "whole", TABLE, fitted(TABLE, settings))
    place = tmp_path / "shelf"
    with pytest.raises(Stop):
        fitted(TABLE, settings, ClassShelf(place, TABLE), stop_after(2))
    shelf = ClassShelf(place, TABLE)
    assert [shelf.has(number, settings) for number in range(4)] == [True, True, False, False]
    resumed = saved_bytes(tmp_path / "resumed", TABLE, fitted(TABLE, settings, shelf))
    assert len(whole) > 20
    assert resumed == whole


def test_what_is_taken_is_what_was_put(tmp_path: Path) -> None:
    """Scores on the sample too: numbers of trees and tuning are read off them."""
    shelf = ClassShelf(tmp_path, TABLE)
    direct = fitted(TABLE, SETTINGS)
    fitted(TABLE, SETTINGS, shelf)
    again = fitted(TABLE, SETTINGS, shelf)
    for name in ("shared", "layers", "same_data", "nested", "own"):
        assert getattr(direct, name).tobytes() == getattr(again, name).tobytes()
    one = shelf.fit(1, SETTINGS)
    assert one is not None
    assert one.trial.shape == (2, len(one.present))
    assert one.present.dtype == bool
    assert not list(tmp_path.rglob("*.pkl"))


def test_finished_layers_are_not_fitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all layers on the shelf, no booster is grown at all."""
    fitted(TABLE, SETTINGS, ClassShelf(tmp_path, TABLE))

    def refuse(*_: object, **__: object) -> None:
        message = "fitted again"
        raise AssertionError(message)

    monkeypatch.setattr("birdstack.stacking.class_layers.fit_class", refuse)
    monkeypatch.setattr("birdstack.stacking.class_layers.fit_shared", refuse)
    fitted(TABLE, SETTINGS, ClassShelf(tmp_path, TABLE), require_all=True)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other"])
def test_damaged_files_are_told_and_fitted_again(tmp_path: Path, damage: str) -> None:
    """A flipped bit, a file cut short, nothing in it, something else in it."""
    whole = saved_bytes(tmp_path / "whole", TABLE, fitted(TABLE, SETTINGS))
    place = tmp_path / "shelf"
    fitted(TABLE, SETTINGS, ClassShelf(place, TABLE))
    for path in [*place.rglob("class-00002-*.zip"), *place.rglob("shared-*.zip")]:
        data = bytearray(path.read_bytes())
        if damage == "flipped":
            data[len(data) // 2] ^= 1
        path.write_bytes(
            {"flipped": bytes(data), "cut": bytes(data[:-30]), "empty": b""}.get(
                damage, packed(Parcel({"something": "else"}))
            )
        )
    told: list[str] = []
    shelf = ClassShelf(place, TABLE, told.append)
    again = saved_bytes(tmp_path / "again", TABLE, fitted(TABLE, SETTINGS, shelf))
    assert again == whole
    assert len(told) == 2
    assert all("it counts as not there" in words for words in told)
    assert "class-00002" in told[1]
    fitted(TABLE, SETTINGS, shelf, require_all=True)
    assert len(told) == 2


def test_every_flipped_bit_is_found() -> None:
    """Anywhere in a file: what is read is what was written, or nothing is."""
    parcel = Parcel({"a": 1.5}, {"t.txt": "words " * 40}, {"x": np.arange(50.0)})
    data = packed(parcel)
    assert data == packed(parcel)
    found = 0
    for place in range(len(data)):
        torn = bytearray(data)
        torn[place] ^= 1 << (place % 8)
        try:
            back = unpacked(bytes(torn), "f")
        except CorruptError:
            found += 1
            continue
        # Dates and rights of a zip's members are nobody's concern.
        assert back.index == parcel.index
        assert back.texts == parcel.texts
        assert back.arrays["x"].tobytes() == parcel.arrays["x"].tobytes()
    assert found > 0.6 * len(data)


def test_whatever_decides_the_numbers_has_its_own_place(tmp_path: Path) -> None:
    """Another label, score, fold, stretch, column, setting; but not workers or the ship rule."""
    shelf = ClassShelf(tmp_path, TABLE)
    fitted(TABLE, SETTINGS, shelf)

    def flipped(name: str) -> np.ndarray:
        values = np.array(getattr(TABLE, name))
        values.flat[7] = 1 - values.flat[7]
        return values

    others = [
        replace(TABLE, truth=flipped("truth")),
        replace(TABLE, logits=flipped("logits")),
        replace(TABLE, extra=flipped("extra")),
        replace(TABLE, fold=np.roll(TABLE.fold, 1)),
        replace(TABLE, window_index=TABLE.index * 2),
        replace(TABLE, extra_names=("snow", "constant", "infinite")),
    ]
    for other in others:
        assert not ClassShelf(tmp_path, other).has(0, SETTINGS)
        assert not ClassShelf(tmp_path, other).has_shared(SETTINGS)
    renamed = [f"x{name}" for name in TABLE.recording_ids]
    same = replace(TABLE, recording_ids=renamed, groups=renamed, window_index=TABLE.index)
    for settings, here in (({"leaves": 5}, False), ({"seed": 1}, False), ({"workers": 3}, True),
                           ({"ship": "stack"}, True), ({"min_positives": 3}, True)):  # fmt: skip
        assert shelf.has(0, SETTINGS.model_copy(update=settings)) is here
    assert shelf.has_shared(SETTINGS.model_copy(update={"leaves": 5}))
    assert not shelf.has_shared(SETTINGS.model_copy(update={"shared_trees": 5}))
    assert same.n_windows == TABLE.n_windows


def test_a_changed_line_of_code_makes_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another birdstack has fitted is not taken."""
    fitted(TABLE, SETTINGS, ClassShelf(tmp_path, TABLE))
    monkeypatch.setattr("birdstack.stacking.class_shelf.code_digest", lambda: "another")
    assert not ClassShelf(tmp_path, TABLE).has(0, SETTINGS)


def test_settings_of_single_classes(tmp_path: Path) -> None:
    """They change that class alone, and are saved with it."""
    shelf = ClassShelf(tmp_path / "shelf", TABLE)
    plain = saved_bytes(tmp_path / "plain", TABLE, fitted(TABLE, SETTINGS, shelf))
    own = {"b": {"leaves": 3, "l2": 9.5}}
    stack = fitted(TABLE, SETTINGS, shelf, by_class=own)
    tuned = saved_bytes(tmp_path / "tuned", TABLE, stack)
    differ = {name for name in plain if plain[name] != tuned.get(name)}
    boosters = {name for name in differ if name.startswith("boosters/")}
    assert boosters == {f"boosters/class-1-{fold}.txt" for fold in range(4)}
    assert b'"tuned": {"1": {"leaves": 3, "l2": 9.5}}' in tuned["weights.json"]
    assert stack.model.classes[1].tuned == own["b"]
    assert b"tuned" not in plain["weights.json"]


def test_all_that_is_missing_is_named(tmp_path: Path) -> None:
    """Where everything has to be there, and is not."""
    with pytest.raises(UsageError, match=r"no shelf; missing: 4 of 4 classes \(a, b, c, d\)"):
        fitted(TABLE, SETTINGS, require_all=True)
    with pytest.raises(Stop):
        fitted(TABLE, SETTINGS, ClassShelf(tmp_path, TABLE), stop_after(3))
    with pytest.raises(UsageError, match=r"missing: 1 of 4 classes \(d\)(.|\n)*--classes d"):
        fitted(TABLE, SETTINGS, ClassShelf(tmp_path, TABLE), require_all=True)


def test_progress_counts_what_is_there_as_done_and_not_as_quick(tmp_path: Path) -> None:
    """The first word has all that lies on the shelf; from then on only work counts."""
    with pytest.raises(Stop):
        fitted(TABLE, SETTINGS, ClassShelf(tmp_path, TABLE), stop_after(2))
    for shelf in (None, ClassShelf(tmp_path, TABLE)):
        told = told_by(shelf)
        done, totals, words = zip(*told, strict=True)
        assert len(set(totals)) == 1
        assert list(done) == sorted(done)
        assert done[-1] == totals[0]
        fits = [w for w in words if w.startswith("class ")]
        assert len(fits) == (4 if shelf is None else 2)
        assert (done[0] == 0) == (shelf is None)
        # A class takes longer to fit than to score, and counts for more.
        steps = dict(zip(words[1:], np.diff(done), strict=True))
        assert steps["class d"] >= steps["scores of d"]


@pytest.mark.parametrize("step_s", [0.5, 2.0, 100.0])
def test_the_bar_tells_the_time_left_of_a_resumed_fit(
    step_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred units done before count in the bar and not in its rate, also of slow steps."""
    import rich.progress

    now_s = [0.0]
    bars: list[rich.progress.Progress] = []

    class Timed(rich.progress.Progress):
        """A bar on a clock of ours."""

        def __init__(self, *columns: object, **how: object) -> None:
            how |= {"get_time": lambda: now_s[0], "auto_refresh": False}
            super().__init__(*columns, **how)  # type: ignore[arg-type]
            bars.append(self)

    monkeypatch.setattr("birdstack.stacking.console.Progress", Timed)
    reporter = Reporter(as_json=False)
    reporter.err = Console(file=io.StringIO(), force_terminal=True)
    with reporter.progress("stacking") as advance:
        steps = Steps(advance, total=200, already=100)
        for _ in range(6):
            now_s[0] += step_s
            steps.done(1, "class a")
        left_s = bars[0].tasks[0].time_remaining
    assert left_s == pytest.approx(94 * step_s, abs=1)
