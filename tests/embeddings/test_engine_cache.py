"""Converted networks on disk: reused when nothing changed, made anew when anything did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.small_networks import SHAPE, SmallNetwork, pictures

from birdstack.embeddings import engine_openvino
from birdstack.embeddings.engine import make_engine
from birdstack.embeddings.model_cache import converted, network_digest


def note(made, text="content"):
    """A conversion that counts itself."""

    def convert(folder):
        made.append(text)
        (folder / "model").write_text(text)

    return convert


def test_a_conversion_happens_once(tmp_path) -> None:
    """The second call finds the files of the first; another key does not."""
    made = []
    for key in ({"a": 1}, {"a": 1}, {"a": 2}):
        with converted(tmp_path / "new", "kind", key, note(made)) as folder:
            assert (folder / "model").read_text() == "content"
    assert len(made) == 2
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert len(names) == 2
    assert all(name.startswith("kind-") for name in names)


@pytest.mark.parametrize("harm", ["cut", "swapped", "manifest", "emptied"])
def test_a_damaged_entry_is_made_anew(tmp_path, harm) -> None:
    """A torn file, changed bytes, no manifest, no files."""
    made = []
    with converted(tmp_path, "kind", {}, note(made)) as folder:
        entry = Path(folder)
    {
        "cut": lambda: (entry / "model").write_text(""),
        "swapped": lambda: (entry / "model").write_text("c0ntent"),
        "manifest": lambda: (entry / "manifest.json").write_text("{"),
        "emptied": lambda: [path.unlink() for path in entry.iterdir()],
    }[harm]()
    for _ in range(2):
        with converted(tmp_path, "kind", {}, note(made)) as folder:
            assert (folder / "model").read_text() == "content"
    assert len(made) == 2
    assert [path.name for path in tmp_path.iterdir()] == [entry.name], "nothing is left over"


def test_a_conversion_that_fails_leaves_nothing(tmp_path) -> None:
    """The error passes, the folder is empty."""

    def convert(folder):
        (folder / "model").write_text("half")
        message = "no"
        raise ValueError(message)

    with pytest.raises(ValueError, match="no"), converted(tmp_path, "kind", {}, convert):
        pass
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path) -> None:
    """A file in its place stands for any folder that refuses."""
    (tmp_path / "file").write_text("")
    made = []
    with converted(tmp_path / "file", "kind", {}, note(made)) as folder:
        assert (folder / "model").read_text() == "content"
    assert not folder.exists()


def test_the_quicker_of_two_makers_wins(tmp_path) -> None:
    """An entry that appears meanwhile is taken, and one's own work thrown away."""
    made = []

    def convert(folder):
        note(made, "slow")(folder)
        with converted(tmp_path, "kind", {}, note(made, "quick")):
            pass

    with converted(tmp_path, "kind", {}, convert) as folder:
        assert (folder / "model").read_text() == "quick"
    assert len(list(tmp_path.iterdir())) == 1


def test_processes_at_once(tmp_path) -> None:
    """Four processes convert the same network into one folder; each has it, one entry stays."""
    code = (
        "import sys; from pathlib import Path; "
        "from birdstack.embeddings.model_cache import converted\n"
        "def convert(folder): (folder / 'model').write_bytes(b'x' * 3_000_000)\n"
        "for turn in range(20):\n"
        "    with converted(Path(sys.argv[1]), 'kind', {'turn': turn}, convert) as folder:\n"
        "        assert len((folder / 'model').read_bytes()) == 3_000_000\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    for process in running:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told.decode()
    assert len(list(tmp_path.iterdir())) == 20


def test_the_digest_follows_weights_buffers_and_structure() -> None:
    """A changed weight, statistic or layer is another network; a copy is the same."""
    digests = [network_digest(SmallNetwork()), network_digest(SmallNetwork(depthwise=True))]
    network = SmallNetwork()
    assert network_digest(network) == digests[0]
    with torch.no_grad():
        network.head.bias[0] += 1e-6
    digests.append(network_digest(network))
    network = SmallNetwork()
    network.body[1].running_mean[0] += 1e-6
    digests.append(network_digest(network))
    network = SmallNetwork()
    network.body[4] = torch.nn.SiLU()
    digests.append(network_digest(network))
    assert len(set(digests)) == len(digests)


def test_a_second_engine_converts_nothing(tmp_path, monkeypatch) -> None:
    """float32 and bfloat16 share one conversion, and so does the next process."""
    network, inputs = SmallNetwork(), pictures(4)
    first = make_engine(network, SHAPE, "openvino", cache=tmp_path).run(inputs)
    (entry,) = tmp_path.iterdir()
    files = json.loads((entry / "manifest.json").read_text())["files"]
    assert sorted(files) == ["model.bin", "model.xml"]
    monkeypatch.setattr(engine_openvino, "convert_network", None)  # calling it fails
    make_engine(network, SHAPE, "openvino-bf16", cache=tmp_path).run(inputs)
    again = make_engine(network, SHAPE, "openvino", cache=tmp_path).run(inputs)
    np.testing.assert_array_equal(first[1], again[1])
    with torch.no_grad():
        network.head.weight += 1
    with pytest.raises(TypeError):
        make_engine(network, SHAPE, "openvino", cache=tmp_path)
