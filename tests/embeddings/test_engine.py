"""Engines: every kind says what torch says, for any number of windows, from any thread."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support.small_networks import SHAPE, SmallNetwork, Sorting, Waves, pictures

from birdstack.embeddings import engine as engines
from birdstack.embeddings.engine import EngineError, choose_kind, make_engine, native_bf16
from birdstack.embeddings.engine_batches import batches, halves
from birdstack.store.errors import ConfigError

EXACT = ("torch", "torch-jit", "onnxruntime", "openvino")
EVERY = (*EXACT, "openvino-bf16")


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads of one operator wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Converted networks of this module."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def network():
    """Embeddings and logits."""
    return SmallNetwork()


def reference(network, inputs):
    """What the network says in torch, window by window."""
    with torch.inference_mode():
        rows = [network(torch.from_numpy(row[np.newaxis])) for row in inputs]
    return tuple(
        np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*rows, strict=True)
    )


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 19])
@pytest.mark.parametrize("kind", EXACT)
def test_any_number_of_windows_gives_the_answers_of_torch(network, cache, kind, n) -> None:
    """Also none; and each window as if it were alone."""
    inputs = pictures(n)
    embedding, logits = make_engine(network, SHAPE, kind, cache=cache).run(inputs)
    assert embedding.shape == (n, 12)
    assert logits.shape == (n, 5)
    assert embedding.dtype == logits.dtype == np.float32
    if n:
        expected = reference(network, inputs)
        np.testing.assert_allclose(embedding, expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(logits, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", EVERY)
def test_an_answer_does_not_depend_on_the_other_windows(network, cache, kind) -> None:
    """The same window among others, in other company and in another place."""
    engine = make_engine(network, SHAPE, kind, cache=cache)
    inputs = pictures(13)
    _, logits = engine.run(inputs)
    loud = np.concatenate([inputs[5:6], 1e3 * pictures(9, seed=1)])
    for company, place in ((inputs[5:6], 0), (inputs[::-1], 7), (loud, 0)):
        _, again = engine.run(np.ascontiguousarray(company))
        bound = 0.02 if kind == "openvino-bf16" else 1e-5
        np.testing.assert_allclose(again[place], logits[5], atol=bound)


def test_bfloat16_is_close_and_not_equal(network, cache) -> None:
    """A few thousandths off: other numbers than float32, or it would not be what it says."""
    inputs = pictures(16)
    _, exact = make_engine(network, SHAPE, "openvino", cache=cache).run(inputs)
    _, rough = make_engine(network, SHAPE, "openvino-bf16", cache=cache).run(inputs)
    assert np.abs(rough - exact).max() < 0.05
    if native_bf16():
        assert np.abs(rough - exact).max() > 1e-5


@pytest.mark.parametrize("kind", EVERY)
def test_threads_share_an_engine(network, cache, kind) -> None:
    """Four threads at once, two at a time, from a cold start: each gets its own answers."""
    engine = make_engine(network, SHAPE, kind, cache=cache, threads=2)
    asked = [pictures(5 + i, seed=i) for i in range(12)]
    together = threading.Barrier(4)

    def ask(index):
        if index < 4:
            together.wait(20)
        return engine.run(asked[index])[1]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(12)))
    for inputs, logits in zip(asked, found, strict=True):
        np.testing.assert_allclose(logits, engine.run(inputs)[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["torch", "onnxruntime", "openvino"])
def test_a_network_without_classes_and_without_pictures(cache, kind) -> None:
    """Waveforms in, embeddings alone out."""
    network = Waves()
    inputs = pictures(9, (400,))
    (embedding,) = make_engine(network, (400,), kind, cache=cache).run(inputs)
    np.testing.assert_allclose(embedding, reference(network, inputs)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", ["test_efficientnet", "mobilenetv3_small_050"])
@pytest.mark.parametrize("kind", ["torch-jit", "openvino"])
def test_networks_of_timm(cache, model, kind) -> None:
    """Squeeze-excitation, depthwise convolutions, a head behind the pooling."""
    from birdstack.embeddings.backbone_config import BackboneConfig
    from birdstack.embeddings.mel_config import MelConfig
    from birdstack.embeddings.network import build_network

    mel = MelConfig(n_mels=64, width=160)
    config = BackboneConfig(name="net", model=model, weights="random", mel=mel)
    network = build_network(config, 6)
    inputs = pictures(11, (1, 64, 160))
    expected = make_engine(network, network.input_shape, "torch").run(inputs)
    found = make_engine(network, network.input_shape, kind, cache=cache).run(inputs)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4 * np.abs(one).max())


def test_the_network_is_left_as_it_is(network) -> None:
    """Training goes on with it: layout, gradients and mode stay, and the engine has a copy."""
    own = SmallNetwork().train()
    made = [make_engine(own, SHAPE, kind) for kind in ("torch", "torch-jit", "openvino")]
    assert own.training
    assert all(weight.requires_grad for weight in own.parameters())
    assert own.body[3].weight.is_contiguous()
    inputs = pictures(3)
    before = [engine.run(inputs)[1] for engine in made]
    with torch.no_grad():
        own.head.weight.zero_()
    for engine, logits in zip(made, before, strict=True):
        np.testing.assert_array_equal(engine.run(inputs)[1], logits)
        np.testing.assert_allclose(logits, reference(network, inputs)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", EXACT)
def test_no_number_is_refused_with_its_rows(network, cache, kind) -> None:
    """A NaN in a window names the window, also where a library would make it 0."""
    inputs = pictures(12)
    inputs[[3, 10], 0, 4, 4] = np.nan
    engine = make_engine(network, SHAPE, kind, cache=cache)
    with pytest.raises(EngineError, match=r"its input is NaN .* in 2 of 12 windows: rows 3, 10"):
        engine.run(inputs)


def test_broken_weights_are_told_from_broken_sound() -> None:
    """Finite windows and NaN answers: the network is to blame."""
    network = SmallNetwork()
    with torch.no_grad():
        network.head.bias[2] = float("inf")
    with pytest.raises(EngineError, match=r"its logits, of finite windows, is NaN or inf"):
        make_engine(network, SHAPE, "torch").run(pictures(2))


def test_windows_of_another_shape_are_refused(network) -> None:
    """Both shapes are named."""
    with pytest.raises(
        EngineError, match=r"takes windows of shape \(1, 32, 40\), got \(1, 32, 41\)"
    ):
        make_engine(network, SHAPE, "torch").run(np.zeros((2, 1, 32, 41), np.float32))


def test_read_only_and_strided_windows_are_heard(network, cache) -> None:
    """Views of a memory map, or every second window of an array."""
    inputs = pictures(6)
    inputs.flags.writeable = False
    for kind in EXACT:
        engine = make_engine(network, SHAPE, kind, cache=cache)
        np.testing.assert_allclose(
            engine.run(inputs[::2])[1], engine.run(inputs)[1][::2], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
def test_what_cannot_be_converted_is_named(kind, tmp_path) -> None:
    """Network, engine and remedy, instead of a page of the library's graph."""
    with pytest.raises(EngineError, match=r"network Sorting: engine .* cannot take it") as caught:
        make_engine(Sorting(), SHAPE, kind, cache=tmp_path).run(pictures(2))
    assert "choose another engine" in caught.value.remedy
    assert len(caught.value.message) < 800
    assert not list(tmp_path.iterdir()), "nothing half-made stays"


def test_unknown_kinds_and_batches_are_refused(network) -> None:
    """Before a library is loaded."""
    with pytest.raises(ConfigError, match="no inference engine 'tensorrt'"):
        make_engine(network, SHAPE, "tensorrt")
    with pytest.raises(ConfigError, match="batch is 0"):
        make_engine(network, SHAPE, "torch", batch=0)


def test_the_quickest_kind_that_is_installed(monkeypatch, tmp_path) -> None:
    """OpenVINO, else ONNX Runtime, else torch; bfloat16 where the processor has it."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16x\n")
    new.write_text("processor : 0\nflags\t\t: fpu avx512f amx_bf16 amx_tile\n")
    installed = {"openvino", "onnxruntime", "onnx", "onnxscript"}
    monkeypatch.setattr(engines, "has", lambda package: package in installed)
    assert choose_kind("exact", cpuinfo=new) == "openvino"
    assert choose_kind("fast", cpuinfo=new) == "openvino-bf16"
    assert choose_kind("fast", cpuinfo=old) == "openvino"
    assert choose_kind("fast", cpuinfo=tmp_path / "absent") == "openvino"
    installed.remove("openvino")
    assert choose_kind("fast", cpuinfo=new) == "onnxruntime"
    installed.remove("onnxscript")
    assert choose_kind("exact", cpuinfo=new) == "torch"


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [("openvino", "openvino", "openvino"), ("onnxruntime", "onnxruntime", "onnx")],
)
def test_a_missing_package_names_its_extra(network, monkeypatch, kind, package, extra) -> None:
    """None in sys.modules is how Python says that a module cannot be imported."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=package) as caught:
        make_engine(network, SHAPE, kind)
    assert f"birdstack[{extra}]" in caught.value.remedy


def test_openvino_comes_without_its_telemetry(tmp_path) -> None:
    """No file that names the machine, and the reporting package stays importable for others."""
    import os
    import subprocess

    code = (
        "import sys; from birdstack.embeddings.openvino_model import import_openvino; "
        "import_openvino(); loaded = [m for m in sys.modules if m.startswith('openvino_telemetry')]; "
        "print(loaded)"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("n", [0, 1, 7, 19, 30])
def test_batches_cover_every_window_once(batch, n) -> None:
    """In order, in sizes that are compiled, none above the largest."""
    sizes = halves(batch)
    assert sizes[0] == batch
    assert sizes[-1] == 1
    cut = list(batches(n, sizes))
    assert [i for part in cut for i in range(part.start, part.stop)] == list(range(n))
    assert all(part.stop - part.start in sizes for part in cut)
