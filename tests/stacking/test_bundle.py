"""Bundles: what lies in them, what is refused, and that they need nothing but themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.alone import run_alone
from support.command import birdstack
from support.small_bundles import SmallRun, done, small_run

from birdstack.stacking.bundle import Bundle, load_bundle
from birdstack.stacking.bundle_networks import bundled_voice
from birdstack.stacking.predictor import Predictor, soundscape_recording
from birdstack.store.errors import ConfigError, CorruptError, FormatVersionError, UsageError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A stack of whistles; read only."""
    return small_run(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def exported(made: SmallRun) -> Path:
    """Its bundle; read only."""
    out = made.run.parent / "bundle"
    done(birdstack("export", made.run, "--out", out))
    return out


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A bundle of one's own."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def _index(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "bundle.json").read_text("utf-8"))
    return found


def _write(folder: Path, told: dict[str, object]) -> None:
    (folder / "bundle.json").write_text(json.dumps(told), "utf-8")


def test_a_bundle_lists_every_file_with_its_hash(exported: Path) -> None:
    """Nothing lies in it that the index does not vouch for, and no pickle."""
    there = {
        path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()
    }
    assert there - {"bundle.json"} == set(load_bundle(exported).facts.files)
    assert not [name for name in there if name.endswith((".pkl", ".pickle", ".pt", ".joblib"))]


def test_a_bundle_says_its_classes_with_names(exported: Path) -> None:
    """In the order of the design, in a table that a person can open."""
    bundle = load_bundle(exported)
    table = pl.read_csv(exported / "classes.csv", infer_schema=False)
    assert table["label"].to_list() == list(bundle.classes) == ["bird0", "bird1", "bird2"]
    assert table.columns == ["label", "scientific_name", "common_name"]


def test_scores_equal_those_of_the_store(made: SmallRun, exported: Path) -> None:
    """What `birdstack stack` wrote of the unlabelled soundscapes, from their sound alone."""
    bundle = load_bundle(exported)
    known = pl.read_parquet(made.run / "windows" / "test" / "shipped.parquet")
    with Predictor(bundle) as predictor:
        for path in sorted(made.soundscapes.glob("*.ogg")):
            scores, start_s = predictor.recording(path)
            rows = known.filter(pl.col("recording_id") == f"unlabeled_soundscapes/{path.name}")
            assert start_s.tolist() == [0.0, 5.0, 10.0, 15.0]
            np.testing.assert_allclose(
                scores, rows.select(bundle.classes).to_numpy(), rtol=0, atol=1e-6
            )


def test_it_predicts_without_store_and_without_what_trains(
    made: SmallRun, exported: Path, tmp_path: Path
) -> None:
    """In a process without optuna, scikit-learn, torch and timm, without internet and store."""
    here = shutil.copytree(exported, tmp_path / "elsewhere")
    assert str(made.store.parent) not in (here / "bundle.json").read_text("utf-8")
    words = [
        "predict",
        str(made.soundscapes),
        "--bundle",
        str(here),
        "--out",
        str(tmp_path / "out"),
    ]
    script = f"from birdstack.stacking.cli import app\napp({words!r})"
    away = made.store.rename(made.store.with_name("away"))
    try:
        ran = run_alone(script, tmp_path)
    finally:
        away.rename(made.store)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert pl.read_csv(tmp_path / "out" / "submission.csv").height == 8


def test_fold_models_can_be_chosen(made: SmallRun, exported: Path) -> None:
    """All of them is the mean of each of them alone."""
    bundle = load_bundle(exported)
    path, _ = sorted(made.soundscapes.glob("*.ogg"))
    alone = []
    for fold in bundle.fold_models:
        with Predictor(bundle, fold_models=[fold]) as predictor:
            alone.append(predictor.recording(path)[0])
    with Predictor(bundle) as predictor:
        scores, _ = predictor.recording(path)
    assert not np.allclose(alone[0], alone[1]), "fold models differ, or nothing is tested"
    np.testing.assert_allclose(scores, np.mean(alone, axis=0), atol=1e-6)


def test_scores_do_not_hang_on_the_recordings_beside(made: SmallRun, exported: Path) -> None:
    """Recordings scored side by side, in any order, are scored as they are one by one."""
    with Predictor(load_bundle(exported)) as predictor:
        paths = sorted(made.birds.rglob("*.ogg"))[:6]
        found = [soundscape_recording(path, made.birds) for path in paths]
        heard = [predictor.hear(predictor.open(each), each) for each in found]
        together = predictor.score(heard[::-1])[::-1]
        for each, scores in zip(heard, together, strict=True):
            np.testing.assert_allclose(predictor.score([each])[0], scores, atol=1e-6)


def test_an_unknown_fold_model_is_refused(exported: Path) -> None:
    """The message lists those that there are."""
    with pytest.raises(UsageError, match=r"no fold model \[9\].*\[0, 1, 2\]"):
        Predictor(load_bundle(exported), fold_models=[9])


@pytest.mark.parametrize(
    "name", ["stack/weights.json", "networks/toy/head-bias.npy", "design.json"]
)
def test_a_damaged_file_is_named(copied: Path, name: str) -> None:
    """One byte is enough."""
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(CorruptError, match=name):
        load_bundle(copied)


def test_a_missing_file_is_named(copied: Path) -> None:
    """As it is called."""
    (copied / "networks" / "toy" / "head-weight.npy").unlink()
    with pytest.raises(CorruptError, match=r"head-weight.npy: cannot be read"):
        load_bundle(copied)


def test_a_file_outside_the_bundle_is_never_read(copied: Path, tmp_path: Path) -> None:
    """An index that somebody wrote cannot point elsewhere."""
    told = _index(copied)
    (tmp_path / "secret").write_text("x")
    _write(copied, {**told, "files": {"../secret": "0" * 64}})
    with pytest.raises(CorruptError, match="secret"):
        load_bundle(copied)


def test_a_newer_format_is_refused(copied: Path) -> None:
    """With both numbers."""
    _write(copied, {**_index(copied), "format": 2})
    with pytest.raises(FormatVersionError, match="format 2, this birdstack reads up to 1"):
        load_bundle(copied)


@pytest.mark.parametrize("text", ["", "[]", '{"format": "x"}', '{"format": 1}'])
def test_an_index_that_is_none_is_refused(copied: Path, text: str) -> None:
    """Broken JSON, other JSON, missing parts."""
    (copied / "bundle.json").write_text(text, "utf-8")
    with pytest.raises(CorruptError, match=r"bundle\.json"):
        load_bundle(copied)


def test_an_empty_folder_is_no_bundle(tmp_path: Path) -> None:
    """And the remedy says which command writes one."""
    with pytest.raises(UsageError, match="birdstack export"):
        load_bundle(tmp_path)


def test_other_acoustic_versions_are_refused(exported: Path) -> None:
    """A bundle whose columns this birdstack would make otherwise is not run."""
    bundle = load_bundle(exported)
    other = bundle.design.extras[0].model_copy(update={"recipe": "0" * 12})
    design = bundle.design.model_copy(update={"extras": (other, *bundle.design.extras[1:])})
    with pytest.raises(CorruptError, match=r"acoustic/.*recipe 000000000000"):
        Predictor(Bundle(bundle.folder, bundle.facts, design))


def test_an_engine_that_the_files_do_not_serve_is_refused(exported: Path) -> None:
    """The remedy is the export that would."""
    bundle = load_bundle(exported)
    facts = bundle.facts.model_copy(update={"engine": "torch"})
    with pytest.raises(ConfigError, match="run on torch, not on openvino") as no:
        bundled_voice(Bundle(exported, facts, bundle.design), facts.networks[0], kind="openvino")
    assert no.value.remedy.endswith("--engine openvino")
