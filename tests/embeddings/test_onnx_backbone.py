"""A network exported by torch is heard as torch hears it, and one that does not fit is refused."""

from __future__ import annotations

import pickle
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from contracts.backbone_contract import BackboneContract

torch = pytest.importorskip("torch", reason="the extra networks is not installed")
onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from birdstack.embeddings.backbone_config import BackboneConfig  # noqa: E402 - after the skips
from birdstack.embeddings.mel_config import MelConfig  # noqa: E402
from birdstack.embeddings.onnx_backbone import OnnxBackbone  # noqa: E402
from birdstack.store.errors import ConfigError  # noqa: E402

RATE_HZ = 16_000
WINDOW_S = 1.0
N_SAMPLES = 16_000
PIECE_SAMPLES = 10_000
OWN = ("Turdus merula", "Parus major", "Apus apus", "Pica pica")
MEL = MelConfig(sample_rate_hz=RATE_HZ, n_fft=512, hop=250, n_mels=32, fmax_hz=8000.0)


class Ears(torch.nn.Module):
    """A small network: filters, energy, a head."""

    def __init__(self, seed: int = 0, *, picture: bool = False, order=("embedding", "logits")):
        super().__init__()
        torch.manual_seed(seed)
        self.picture = picture
        self.order = order
        self.filters = torch.nn.Conv1d(32 if picture else 1, 12, 64 if not picture else 5, stride=4)
        self.head = torch.nn.Linear(12, len(OWN))

    def forward(self, sound):
        heard = sound[:, 0] if self.picture else sound[:, None]
        embedding = torch.log1p(100 * self.filters(heard) ** 2).mean(-1)
        found = {
            "embedding": embedding,
            "logits": self.head(embedding),
            "map": heard[:, None],
            "pair": torch.cat([embedding, embedding]),
        }
        return tuple(found[name] for name in self.order)


def _export(
    path: Path,
    *,
    shape=(N_SAMPLES,),
    batch: int | None = None,
    names=None,
    dynamo: bool = False,
    **settings_,
):
    """Export `Ears`; its outputs take `names`."""
    network = Ears(picture=len(shape) > 1, **settings_).eval()
    names = names or list(network.order)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            network,
            (torch.zeros(batch or 2, *shape),),
            path,
            input_names=["sound"],
            output_names=list(names),
            dynamic_axes=None if batch or dynamo else {n: {0: "b"} for n in ("sound", *names)},
            dynamo=dynamo,
            verbose=False,
        )
    return network


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Exported networks and lists of classes."""
    folder = tmp_path_factory.mktemp("onnx")
    _export(folder / "wave.onnx")
    _export(folder / "other.onnx", seed=1)
    _export(folder / "pieces.onnx", shape=(PIECE_SAMPLES,), batch=4)
    _export(folder / "picture.onnx", shape=(1, 32, 64), order=("embedding",))
    (folder / "external").mkdir()
    _export(folder / "external" / "m.onnx", dynamo=True, batch=2)
    (folder / "classes.txt").write_text("\n".join(OWN) + "\n", "utf-8")
    (folder / "backwards.txt").write_text("\n".join(OWN[::-1]) + "\n", "utf-8")
    return folder


def _config(files: Path, model: str = "wave.onnx", **settings_) -> BackboneConfig:
    settings_ = {
        "mode": "given",
        "classes_file": str(files / "classes.txt"),
        "sample_rate_hz": RATE_HZ,
        "mel": MEL,
    } | settings_
    return BackboneConfig(name="ears", kind="onnx", model=str(files / model), **settings_)


class TestWave(BackboneContract):
    """A waveform of the window's length, an open batch, its own classes."""

    window_s = WINDOW_S

    @pytest.fixture
    def backbone(self, files) -> OnnxBackbone:
        return OnnxBackbone(_config(files), WINDOW_S)

    again = backbone

    @pytest.fixture
    def changed(self, files) -> dict[str, OnnxBackbone]:
        backwards = str(files / "backwards.txt")
        return {
            "weights": OnnxBackbone(_config(files, "other.onnx"), WINDOW_S),
            "classes": OnnxBackbone(_config(files, classes_file=backwards), WINDOW_S),
            "mode": OnnxBackbone(_config(files, mode="frozen"), WINDOW_S),
        }


class TestPieces(BackboneContract):
    """Shorter ears, a batch fixed at 4, and the store's classes, one of which it never heard."""

    window_s = WINDOW_S
    unheard = (1,)
    names = {"pica_pica": (None, None), "magpie": ("Gymnorhina tibicen", None)}  # noqa: RUF012
    names["amsel"] = ("Turdus merula", "Common Blackbird")

    def _made(self, files: Path, window_s: float = WINDOW_S, **settings_) -> OnnxBackbone:
        config = _config(files, "pieces.onnx", **settings_)
        return OnnxBackbone(config, window_s, classes=self.names)

    @pytest.fixture
    def backbone(self, files) -> OnnxBackbone:
        return self._made(files)

    @pytest.fixture
    def again(self, files) -> OnnxBackbone:
        return self._made(files)

    @pytest.fixture
    def changed(self, files) -> dict[str, OnnxBackbone]:
        backwards = str(files / "backwards.txt")
        return {
            "input": self._made(files, window_s=1.5),
            "columns": self._made(files, classes_file=backwards),
        }

    def test_the_unknown_is_named(self, backbone) -> None:
        """The class that the network does not know is listed."""
        assert backbone.classes == ("pica_pica", "magpie", "amsel")
        assert backbone.class_map.missing == ("magpie",)
        assert "knows 2 of 3 classes; NaN logits for magpie" in backbone.class_map.note("ears")


class TestPicture(BackboneContract):
    """A picture from the mel configuration, an embedding and no logits."""

    window_s = WINDOW_S

    def _made(self, files: Path, **mel) -> OnnxBackbone:
        config = _config(files, "picture.onnx", mode="frozen", classes_file=None)
        changed = config.mel.model_copy(update=mel)
        return OnnxBackbone(config.model_copy(update={"mel": changed}), WINDOW_S)

    @pytest.fixture
    def backbone(self, files) -> OnnxBackbone:
        return self._made(files)

    @pytest.fixture
    def again(self, files) -> OnnxBackbone:
        return self._made(files)

    @pytest.fixture
    def changed(self, files) -> dict[str, OnnxBackbone]:
        return {"input": self._made(files, top_db=60.0)}


def _sound(n_windows: int, n_samples: int = N_SAMPLES) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (n_windows, n_samples)).astype(np.float32)


def _torch(network, sound: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        return [values.numpy() for values in network(torch.from_numpy(sound))]


def test_it_hears_what_torch_hears(files) -> None:
    """Embeddings and logits are those of the network before its export."""
    sound = _sound(11)
    heard = OnnxBackbone(_config(files), WINDOW_S).run(sound)
    embeddings, logits = _torch(Ears().eval(), sound)
    np.testing.assert_allclose(heard.embeddings, embeddings, atol=1e-5)
    np.testing.assert_allclose(heard.logits, logits, atol=1e-5)


def test_pieces_are_averaged(files) -> None:
    """10,000 samples of 16,000: heard from 0 and from 6,000, and the mean of both."""
    sound = _sound(5)
    config = _config(files, "pieces.onnx")
    heard = OnnxBackbone(config, WINDOW_S).run(sound)
    network = Ears().eval()
    first = _torch(network, sound[:, :PIECE_SAMPLES])
    second = _torch(network, sound[:, 6_000:])
    np.testing.assert_allclose(heard.embeddings, (first[0] + second[0]) / 2, atol=1e-5)
    np.testing.assert_allclose(heard.logits, (first[1] + second[1]) / 2, atol=1e-5)


def test_outputs_by_their_names(files, tmp_path) -> None:
    """Usual names in any order and case, names from the configuration, and sizes."""
    sound = _sound(2)
    embeddings, logits = _torch(Ears().eval(), sound)
    order = ("logits", "map", "embedding")
    for names, outputs in (
        (("label", "spatial", "Embedding"), {}),
        (("x", "y", "z"), {"embedding": "z", "logits": "x"}),
        (("x", "y", "z"), {}),  # one matrix has as many columns as there are classes
    ):
        _export(tmp_path / "named.onnx", names=names, order=order)
        config = _config(tmp_path, "named.onnx", outputs=outputs)
        config = config.model_copy(update={"classes_file": str(files / "classes.txt")})
        heard = OnnxBackbone(config, WINDOW_S).run(sound)
        np.testing.assert_allclose(heard.embeddings, embeddings, atol=1e-5)
        np.testing.assert_allclose(heard.logits, logits, atol=1e-5)


def test_logits_alone(files, tmp_path) -> None:
    """A classifier without an embedding serves where no embeddings are wanted."""
    _export(tmp_path / "m.onnx", order=("logits",))
    config = _config(files, str(tmp_path / "m.onnx"), embeddings=False)
    heard = OnnxBackbone(config, WINDOW_S).run(_sound(3))
    assert heard.embeddings.shape == (3, 0)
    np.testing.assert_allclose(heard.logits, _torch(Ears().eval(), _sound(3))[1], atol=1e-5)


def test_external_data_belong_to_the_model(files, tmp_path) -> None:
    """Weights in a file of their own are hashed too; a missing file is named."""
    shutil.copytree(files / "external", tmp_path, dirs_exist_ok=True)
    config = _config(files, str(tmp_path / "m.onnx"))
    before = OnnxBackbone(config, WINDOW_S)
    np.testing.assert_allclose(
        before.run(_sound(3)).logits, _torch(Ears().eval(), _sound(3))[1], atol=1e-5
    )
    data = tmp_path / "m.onnx.data"
    content = bytearray(data.read_bytes())
    content[17] ^= 1
    data.write_bytes(content)
    assert OnnxBackbone(config, WINDOW_S).recipe["weights"] != before.recipe["weights"]
    data.unlink()
    with pytest.raises(ConfigError, match=r"data file 'm\.onnx\.data' is missing"):
        OnnxBackbone(config, WINDOW_S)


def test_external_data_stay_in_their_folder(files, tmp_path) -> None:
    """A model that points outside its folder is refused; the file there is not opened."""
    shutil.copytree(files / "external", tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "inner"
    folder.mkdir()
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../m.onnx.data"
    onnx.save(model, folder / "m.onnx")
    with pytest.raises(ConfigError, match="outside its folder"):
        OnnxBackbone(_config(files, str(folder / "m.onnx")), WINDOW_S)


def _open_width(path: Path, model: Path, output: str, *, shapeless: bool = False) -> None:
    """Copy a model, with the width (or all sizes) of one output left open."""
    opened = onnx.load(model)
    (value,) = (value for value in opened.graph.output if value.name == output)
    if shapeless:
        value.type.tensor_type.ClearField("shape")
    else:
        value.type.tensor_type.shape.dim[1].dim_param = "n"
    onnx.save(opened, path)


@pytest.mark.parametrize("shapeless", [False, True])
def test_open_sizes_are_found_by_a_silent_window(files, tmp_path, shapeless: bool) -> None:
    """An export that does not declare the width of its embedding still has a `dim`."""
    _open_width(tmp_path / "m.onnx", files / "wave.onnx", "embedding", shapeless=shapeless)
    config = _config(files, str(tmp_path / "m.onnx"), outputs={"embedding": "embedding"})
    backbone = OnnxBackbone(config, WINDOW_S)
    assert backbone.dim == 12
    assert pickle.loads(pickle.dumps(backbone)).run(_sound(1)).embeddings.shape == (1, 12)  # noqa: S301 - our own bytes


def test_an_open_length_hears_the_whole_window(files, tmp_path) -> None:
    """A model that takes any number of samples is given the window."""
    opened = onnx.load(files / "wave.onnx")
    opened.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "samples"
    onnx.save(opened, tmp_path / "m.onnx")
    backbone = OnnxBackbone(_config(files, str(tmp_path / "m.onnx")), 1.5)
    assert backbone.input.shape == (24_000,)
    sound = _sound(2, 24_000)
    expected = _torch(Ears().eval(), sound)[0]
    np.testing.assert_allclose(backbone.run(sound).embeddings, expected, atol=1e-5)


class TestRefused:
    """Before any sound is heard, with the place, the value and what to do."""

    def _refused(self, files: Path, match: str, window_s: float = WINDOW_S, **settings_) -> None:
        with pytest.raises(ConfigError, match=match) as caught:
            OnnxBackbone(_config(files, **settings_), window_s)
        assert caught.value.remedy

    def test_no_file(self, files) -> None:
        """The path is named."""
        self._refused(files, r"none\.onnx: there is no such file", model="none.onnx")
        self._refused(files, "there is no such file", model="")

    @pytest.mark.parametrize(
        "content", [b"", b"\x89PNG\r\n\x1a\n", b"name,rate\n" * 99, bytes(4000), b"\xff" * 50]
    )
    def test_no_onnx(self, files, tmp_path, content: bytes) -> None:
        """An empty file, a picture, a table, zeros."""
        (tmp_path / "m.onnx").write_bytes(content)
        self._refused(files, "cannot be read|no ONNX model", model=str(tmp_path / "m.onnx"))

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_a_torn_file(self, files, tmp_path, share: float) -> None:
        """Cut anywhere, it is refused."""
        whole = (files / "wave.onnx").read_bytes()
        (tmp_path / "m.onnx").write_bytes(whole[: int(share * len(whole))])
        self._refused(files, "cannot be read|no ONNX model", model=str(tmp_path / "m.onnx"))

    def test_another_length(self, files) -> None:
        """A window that is not what the model takes; the model's rate was not stated."""
        match = r"takes 10000 samples, a window of 1 s at 16000 Hz holds 16000"
        self._refused(files, match, model="pieces.onnx", sample_rate_hz=None)
        self._refused(files, "takes 16000 samples, a window of 0.5 s", window_s=0.5)

    def test_another_picture(self, files) -> None:
        """Other sizes than the mel configuration draws."""
        mel = MEL.model_copy(update={"width": 96})
        match = r"takes pictures \[1, 32, 64\], the configuration draws \[1, 32, 96\]"
        self._refused(files, match, model="picture.onnx", mode="frozen", mel=mel)

    def test_neither_samples_nor_picture(self, files, tmp_path) -> None:
        """An input of three dimensions."""
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["embedding"])],
            "g",
            [value("x", onnx.TensorProto.FLOAT, ["b", 3, 4])],
            [value("embedding", onnx.TensorProto.FLOAT, ["b", 3, 4])],
        )
        onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
        match = r"input 'x' is \[\?, 3, 4\], expected samples"
        self._refused(files, match, model=str(tmp_path / "m.onnx"))

    @pytest.mark.parametrize(
        ("inputs", "match"),
        [([("x", 1), ("y", 1)], r"takes 2 \(x, y\)"), ([("x", 7)], "'x' is not float32")],
    )
    def test_other_inputs(self, files, tmp_path, inputs, match: str) -> None:
        """Two inputs, or whole numbers."""
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["embedding"])],
            "g",
            [value(name, kind, ["b", N_SAMPLES]) for name, kind in inputs],
            [value("embedding", inputs[0][1], ["b", N_SAMPLES])],
        )
        onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
        self._refused(files, match, model=str(tmp_path / "m.onnx"))

    def test_a_missing_output(self, files, tmp_path) -> None:
        """The outputs that exist are listed with their sizes."""
        listed = r"its float outputs are embedding \[\?, 12\], logits \[\?, 4\]"
        self._refused(
            files, rf"no output 'scores' \(logits\); {listed}", outputs={"logits": "scores"}
        )
        self._refused(files, "'head' is no role", outputs={"head": "logits"})
        _export(tmp_path / "m.onnx", order=("map",))
        model = str(tmp_path / "m.onnx")
        self._refused(files, "not clear which output is the embedding", model=model)

    def test_an_output_that_is_no_vector(self, files, tmp_path) -> None:
        """A feature map cannot be an embedding."""
        _export(tmp_path / "m.onnx", order=("map", "logits"))
        outputs = {"embedding": "map"}
        match = r"output 'map' is \[\?, 1, 1, 16000\], expected \[batch, n\]"
        self._refused(files, match, model=str(tmp_path / "m.onnx"), outputs=outputs)

    def test_another_number_of_classes(self, files, tmp_path) -> None:
        """The list of classes must be as long as the logits."""
        path = tmp_path / "classes.txt"
        path.write_text("label\n" + "\n".join(OWN), "utf-8")
        match = "4 logits in 'logits', but classes_file names 5 classes"
        self._refused(files, match, classes_file=str(path))

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("a\nb\na\nc\n", "line 3: 'a' stands in line 1 too"),
            ("a\n\nb\nc\n", "line 2: it is empty"),
            ("", "names no class"),
        ],
    )
    def test_a_faulty_list_of_classes(self, files, tmp_path, text: str, match: str) -> None:
        """Doubled, empty or no lines."""
        path = tmp_path / "classes.txt"
        path.write_text(text, "utf-8")
        self._refused(files, match, classes_file=str(path))

    def test_no_list_of_classes(self, files, tmp_path) -> None:
        """Not set, not there, not text."""
        self._refused(files, "mode given needs classes_file", classes_file=None)
        self._refused(files, "cannot be read", classes_file=str(tmp_path / "none.txt"))
        self._refused(files, "cannot be read", classes_file=str(files / "wave.onnx"))

    def test_no_class_in_common(self, files) -> None:
        """A network for other animals is of no use as it is."""
        with pytest.raises(ConfigError, match="knows none of the 1 classes, such as frog"):
            OnnxBackbone(_config(files), WINDOW_S, classes={"frog": (None, "Frog")})

    def test_rows_that_are_not_windows(self, files, tmp_path) -> None:
        """Two rows for each window come out at the first run."""
        _export(tmp_path / "m.onnx", order=("pair",), names=("embedding",))
        config = _config(files, str(tmp_path / "m.onnx"), mode="frozen")
        with pytest.raises(ConfigError, match="'embedding' has 6 rows for 3 windows"):
            OnnxBackbone(config, WINDOW_S).run(_sound(3))

    @pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
    def test_without_the_extra(self, files, monkeypatch, absent: str) -> None:
        """Either package missing: the extra is named when the backbone is made."""
        monkeypatch.setitem(sys.modules, absent, None)
        self._refused(files, f"needs the package '{absent}', which is not installed")

    def test_operators_that_the_engine_does_not_know(self, files, tmp_path) -> None:
        """ONNX Runtime's own words are passed on."""
        opened = onnx.load(files / "wave.onnx")
        opened.graph.node[0].op_type = "Warble"
        onnx.save(opened, tmp_path / "m.onnx")
        backbone = OnnxBackbone(_config(files, str(tmp_path / "m.onnx")), WINDOW_S)
        with pytest.raises(ConfigError, match=r"ONNX Runtime refuses it: .*Warble"):
            backbone.run(_sound(1))

    def test_a_file_that_changes_before_the_first_run(self, files, tmp_path) -> None:
        """Numbers are never filed under the recipe of another file."""
        path = tmp_path / "m.onnx"
        shutil.copy(files / "wave.onnx", path)
        backbone = OnnxBackbone(_config(files, str(path)), WINDOW_S)
        shutil.copy(files / "other.onnx", path)
        with pytest.raises(ConfigError, match="changed since the run began"):
            backbone.run(_sound(1))
        path.unlink()
        with pytest.raises(ConfigError, match="changed since the run began"):
            backbone.run(_sound(1))
