"""What every `Backbone` must do; subclasses give the fixtures `backbone`, `again`, `changed`."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Mapping

import numpy as np
import pytest

from birdstack.embeddings.backbone import Backbone, Heard, NetworkInput, hear
from birdstack.store.errors import ConfigError
from birdstack.store.views import Column, ViewSpec, canonical_json, recipe_hash


class BackboneContract:
    """The promises that views of embeddings and logits rest on.

    Attributes:
        window_s: length of the windows that the fixture's backbone was made for.
        tolerance: largest difference, as a share of the largest number, that the number of
            windows heard together may make (kernels for other batch sizes sum in another order).
        unheard: columns of logits that are NaN by promise: classes the network does not know.
    """

    window_s = 5.0
    tolerance = 1e-5
    unheard: tuple[int, ...] = ()

    @pytest.fixture
    def backbone(self) -> Backbone:
        """A new backbone that has not run yet."""
        raise NotImplementedError

    @pytest.fixture
    def again(self) -> Backbone:
        """Another instance of the same backbone, made from the same configuration."""
        raise NotImplementedError

    @pytest.fixture
    def changed(self) -> Mapping[str, Backbone]:
        """By what was changed (such as weights, classes, input): backbones that differ by it."""
        raise NotImplementedError

    # --- what is heard ------------------------------------------------------------------

    def _windows(self, backbone: Backbone, n_windows: int) -> list[np.ndarray]:
        """Whistles of different pitch in noise."""
        rate_hz = backbone.input.sample_rate_hz
        time_s = np.arange(round(self.window_s * rate_hz)) / rate_hz
        windows = []
        for i in range(n_windows):
            rng = np.random.default_rng(i)
            pitch_hz = rate_hz * (0.02 + 0.01 * i)
            song = 0.3 * np.sin(2 * np.pi * pitch_hz * time_s) * (np.sin(10 * time_s + i) > 0)
            windows.append((song + 0.02 * rng.normal(size=len(time_s))).astype(np.float32))
        return windows

    def _inputs(self, backbone: Backbone, n_windows: int) -> np.ndarray:
        windows = self._windows(backbone, n_windows)
        inputs = np.empty((n_windows, *backbone.input.shape), dtype=np.float32)
        for row, samples in zip(inputs, windows, strict=True):
            row[...] = backbone.input.prepare(samples)
        return inputs

    def _close(self, ours: Heard, theirs: Heard) -> None:
        """Both say the same, within `tolerance`."""
        assert (ours.logits is None) == (theirs.logits is None)
        for a, b in ((ours.embeddings, theirs.embeddings), (ours.logits, theirs.logits)):
            if a is not None and b is not None and b.size:
                scale = float(np.nanmax(np.abs(b), initial=1e-6))
                np.testing.assert_allclose(a, b, rtol=0, atol=self.tolerance * scale)

    def _rows(self, heard: Heard, rows: slice) -> Heard:
        logits = None if heard.logits is None else heard.logits[rows]
        return Heard(heard.embeddings[rows], logits)

    def _sound(self, backbone: Backbone, heard: Heard, n_windows: int) -> None:
        """Shapes, dtypes and finite numbers."""
        assert isinstance(heard.embeddings, np.ndarray)
        assert heard.embeddings.shape == (n_windows, backbone.dim)
        assert heard.embeddings.dtype == np.float32
        assert np.isfinite(heard.embeddings).all()
        if not backbone.classes:
            assert heard.logits is None
            return
        assert isinstance(heard.logits, np.ndarray)
        assert heard.logits.shape == (n_windows, len(backbone.classes))
        assert heard.logits.dtype == np.float32
        is_nan = np.zeros(heard.logits.shape, dtype=bool)
        is_nan[:, list(self.unheard)] = True
        np.testing.assert_array_equal(np.isnan(heard.logits), is_nan)
        assert not np.isinf(heard.logits).any()

    # --- shapes and numbers ---------------------------------------------------------------

    def test_it_is_a_backbone(self, backbone: Backbone) -> None:
        """It has every part of the protocol, and names that views can bear."""
        assert isinstance(backbone, Backbone)
        assert isinstance(backbone.input, NetworkInput)
        assert backbone.dim > 0
        assert backbone.input.sample_rate_hz > 0
        assert all(size > 0 for size in backbone.input.shape)
        columns = tuple(Column(name) for name in backbone.classes)
        for family in ("embedding", "logits"):
            ViewSpec(f"{family}/{backbone.name}", columns, backbone.recipe)

    @pytest.mark.parametrize("n_windows", [0, 1, 7, 8, 19])
    def test_any_number_of_windows(self, backbone: Backbone, n_windows: int) -> None:
        """None, one, and numbers around a batch: float32 `[window, dim]`, `[window, class]`."""
        heard = backbone.run(self._inputs(backbone, n_windows))
        self._sound(backbone, heard, n_windows)

    def test_it_hears_the_sound(self, backbone: Backbone) -> None:
        """Windows that differ get embeddings and logits that differ, by more than rounding."""
        heard = backbone.run(self._inputs(backbone, 5))
        for values in (heard.embeddings, heard.logits):
            if values is None:
                continue
            known = (
                np.delete(values, list(self.unheard), axis=1) if values is heard.logits else values
            )
            apart = np.abs(known[:, None, :] - known[None, :, :]).max(axis=2)
            scale = np.abs(known).max()
            assert (apart[~np.eye(5, dtype=bool)] > 100 * self.tolerance * scale).all()

    def test_company_makes_no_difference(self, backbone: Backbone) -> None:
        """A window's numbers are the same alone, in a crowd, and in any order."""
        inputs = self._inputs(backbone, 9)
        together = backbone.run(inputs)
        for row in (0, 7, 8):
            alone = backbone.run(inputs[row : row + 1])
            self._close(alone, self._rows(together, slice(row, row + 1)))
        backwards = backbone.run(inputs[::-1])
        self._close(self._rows(backwards, slice(None, None, -1)), together)
        loud = inputs.copy()
        loud[1:] *= 50.0
        self._close(self._rows(backbone.run(loud), slice(0, 1)), self._rows(together, slice(0, 1)))

    @pytest.mark.parametrize("level", [0.0, 1.0, 1e-30], ids=["silence", "constant", "denormal"])
    def test_nothing_to_hear(self, backbone: Backbone, level: float) -> None:
        """Digital silence, a constant and next to nothing give finite numbers."""
        n_samples = round(self.window_s * backbone.input.sample_rate_hz)
        heard = hear(backbone, [np.full(n_samples, level, dtype=np.float32)])
        self._sound(backbone, heard, 1)

    def test_hear_is_prepare_and_run(self, backbone: Backbone) -> None:
        """The shortcut gives the numbers of its two steps."""
        windows = self._windows(backbone, 3)
        for samples in windows:
            prepared = backbone.input.prepare(samples)
            assert prepared.shape == backbone.input.shape
            assert prepared.dtype == np.float32
            assert np.isfinite(prepared).all()
        ours, theirs = hear(backbone, windows), backbone.run(self._inputs(backbone, 3))
        np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)
        if backbone.classes:
            np.testing.assert_array_equal(ours.logits, theirs.logits)

    def test_what_it_is_given_stays_as_it_is(self, backbone: Backbone) -> None:
        """Other extractors hear the same samples, other networks the same inputs."""
        windows = self._windows(backbone, 3)
        heard = [samples.copy() for samples in windows]
        prepared = [backbone.input.prepare(samples) for samples in windows]
        np.testing.assert_array_equal(windows, heard)
        prepared[0][...] += 1  # a picture is the caller's own
        np.testing.assert_array_equal(windows, heard)
        np.testing.assert_array_equal(backbone.input.prepare(windows[1]), prepared[1])
        inputs = self._inputs(backbone, 3)
        given = inputs.copy()
        backbone.run(inputs)
        np.testing.assert_array_equal(inputs, given)

    def test_windows_of_another_length_are_refused(self, backbone: Backbone) -> None:
        """One sample less, one more, none at all, two channels: never padded or cut in silence."""
        samples = self._windows(backbone, 1)[0]
        more = np.append(samples, np.float32(0))
        for wrong in (samples[:-1], more, samples[:0], np.stack([samples, samples])):
            with pytest.raises(ConfigError):
                backbone.input.prepare(wrong)

    # --- the same numbers everywhere ------------------------------------------------------

    def test_it_is_deterministic(self, backbone: Backbone, again: Backbone) -> None:
        """Twice the same from one instance, and from another made of the same configuration."""
        assert again is not backbone
        inputs = self._inputs(backbone, 5)
        first = backbone.run(inputs)
        for other in (backbone.run(inputs), again.run(self._inputs(again, 5))):
            np.testing.assert_array_equal(other.embeddings, first.embeddings)
            if backbone.classes:
                np.testing.assert_array_equal(other.logits, first.logits)

    def test_it_travels_to_another_process(self, backbone: Backbone) -> None:
        """A pickled copy has the recipe and the numbers of the original."""
        travelled = pickle.loads(pickle.dumps(backbone))  # noqa: S301 - our own bytes
        assert travelled.name == backbone.name
        assert canonical_json(dict(travelled.recipe)) == canonical_json(dict(backbone.recipe))
        inputs = self._inputs(backbone, 3)
        ours, theirs = travelled.run(inputs), backbone.run(inputs)
        np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)
        if backbone.classes:
            np.testing.assert_array_equal(ours.logits, theirs.logits)

    def test_threads_may_share_it(self, backbone: Backbone) -> None:
        """Four threads that begin at once, before the first run, get the numbers of one."""
        n_threads = 4
        windows = self._windows(backbone, n_threads + 1)
        start = threading.Barrier(n_threads)
        found: dict[int, list[Heard]] = {}

        def work(i: int) -> None:
            start.wait()
            found[i] = [hear(backbone, windows[i : i + 2]) for _ in range(2)]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(n_threads))
        for i, answers in found.items():
            alone = hear(backbone, windows[i : i + 2])
            for heard in answers:
                self._sound(backbone, heard, 2)
                self._close(heard, alone)

    # --- the recipe -----------------------------------------------------------------------

    def test_the_recipe_is_plain_json(self, backbone: Backbone, again: Backbone) -> None:
        """Canonical JSON, equal for an equal backbone, and unmoved by running."""
        before = canonical_json(copy.deepcopy(dict(backbone.recipe)))
        assert canonical_json(dict(again.recipe)) == before
        canonical_json(dict(backbone.input.recipe))
        backbone.run(self._inputs(backbone, 1))
        assert canonical_json(dict(backbone.recipe)) == before

    def test_whatever_changes_numbers_changes_the_recipe(
        self, backbone: Backbone, changed: Mapping[str, Backbone]
    ) -> None:
        """Other weights, other classes and another input each make a recipe of their own."""
        assert changed, "name at least one thing that can be changed"
        hashes = {what: recipe_hash(other.recipe) for what, other in changed.items()}
        hashes["unchanged"] = recipe_hash(backbone.recipe)
        assert len(set(hashes.values())) == len(hashes), hashes

    def test_the_recipe_names_the_input(
        self, backbone: Backbone, changed: Mapping[str, Backbone]
    ) -> None:
        """Where the input is another, so is its own recipe: equal recipes share their pictures."""
        for what, other in changed.items():
            same = recipe_hash(other.input.recipe) == recipe_hash(backbone.input.recipe)
            assert same == (what != "input"), what
