"""Eight-bit integers: good for plain convolutions, refused where they lose the ranking."""

from __future__ import annotations

import numpy as np
import pytest
from support.small_networks import SHAPE, SmallNetwork, pictures, settled

from birdstack.embeddings.engine import make_engine
from birdstack.embeddings.extras import has
from birdstack.embeddings.parity import ParityError, checked_engine
from birdstack.store.errors import ConfigError

needs_nncf = pytest.mark.skipif(not has("nncf"), reason="the extra int8 is not installed")


@needs_nncf
def test_a_plain_network_keeps_its_ranking(tmp_path, capfd) -> None:
    """Within limits, not equal to float32, converted once, and without progress bars."""
    network, inputs = SmallNetwork(), pictures(48)
    engine, parity = checked_engine(network, SHAPE, "openvino-int8", inputs, cache=tmp_path)
    assert parity.rank_agreement > 0.95
    assert parity.relative_dlogit > 1e-4, "integers are not float32"
    again = make_engine(network, SHAPE, "openvino-int8", cache=tmp_path, calibration=inputs)
    np.testing.assert_array_equal(engine.run(inputs)[1], again.run(inputs)[1])
    assert len(list(tmp_path.iterdir())) == 1
    make_engine(network, SHAPE, "openvino-int8", cache=tmp_path, calibration=inputs[:20])
    assert len(list(tmp_path.iterdir())) == 2, "other windows calibrate another model"
    assert capfd.readouterr().out == ""


@needs_nncf
def test_squeeze_and_excitation_is_refused(tmp_path) -> None:
    """It does not survive, as in EfficientNets; the remedy says what will do."""
    from birdstack.embeddings.backbone_config import BackboneConfig
    from birdstack.embeddings.mel_config import MelConfig
    from birdstack.embeddings.network import build_network

    mel = MelConfig(n_mels=64, width=160)
    config = BackboneConfig(name="net", model="mobilenetv3_small_050", weights="random", mel=mel)
    inputs = pictures(40, (1, 64, 160))
    network = settled(build_network(config, 6), inputs)
    with pytest.raises(ParityError, match="engine openvino-int8 does not say") as caught:
        checked_engine(network, network.input_shape, "openvino-int8", inputs, cache=tmp_path)
    assert "ResNet" in caught.value.remedy


def test_without_windows_there_is_no_calibration() -> None:
    """None, and too few."""
    with pytest.raises(ConfigError, match="no windows to calibrate"):
        make_engine(SmallNetwork(), SHAPE, "openvino-int8")
    with pytest.raises(ConfigError, match="3 windows to calibrate"):
        make_engine(SmallNetwork(), SHAPE, "openvino-int8", calibration=pictures(3))
