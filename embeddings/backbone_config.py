"""What a backbone is, in configuration: architecture, weights, input, training.

Nothing here imports torch: a wrong name or a picture that does not fit the window is
refused before any heavy library is loaded or any sound is heard.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdstack.embeddings.mel_config import MelConfig

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


class BackboneConfig(BaseModel):
    """One backbone.

    Attributes:
        name: of its views, `embedding/<name>` and `logits/<name>`.
        kind: `timm` (a picture network by name), `wave` (hears samples, no spectrogram),
            `onnx` (a model file), `birdnet` (extra `birdnet`) or `fake` (for tests: cheap,
            deterministic numbers).
        model: name of the timm architecture (for `wave`: of the network behind the filter
            bank), or path of the ONNX file.
        weights: `packaged` (ImageNet weights that come with a package), `random` (seeded),
            `hub` (timm's pretrained weights, needs the internet) or the path of a checkpoint
            (`.safetensors`, or a `torch.save` file without code in it).
        mode: `frozen`: the trunk stays as it is and a linear head is fitted for each fold;
            `full`: the whole network is trained for each fold by `birdstack train`; `given`:
            the network's own classes, trained elsewhere.
        pooling: of the trunk's feature maps: `avg`, `stages` (means of the last two stages),
            `gem` (generalised mean, Radenovic et al. 2018) or `sed` (attention over frames, Kong
            et al. 2020).
        mel: the picture, for kinds that take one.
        sample_rate_hz: for `onnx` models that hear samples: their rate; None: that of `mel`,
            if the model takes exactly one window of it.
        outputs: for `onnx`: output name of `embedding` and of `logits`; empty: found by name.
        classes_file: for `onnx`: text file with one class a line, in the order of logits.
        embeddings: whether the view of embeddings is written (a backbone in mode `full` never
            writes one: fold models live in unrelated bases).
        shift_tta: also hear each window 2.5 s earlier and later, and average the logits.
        seed: of random weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME.pattern, max_length=40)
    kind: Literal["timm", "wave", "onnx", "birdnet", "fake"] = "timm"
    model: str = "tf_efficientnet_lite0"
    weights: str = "packaged"
    mode: Literal["frozen", "full", "given"] = "frozen"
    pooling: Literal["avg", "stages", "gem", "sed"] = "avg"
    mel: MelConfig = MelConfig()
    sample_rate_hz: int | None = Field(default=None, ge=1_000, le=384_000)
    outputs: Mapping[str, str] = {}
    classes_file: str | None = None
    embeddings: bool = True
    shift_tta: bool = False
    seed: int = Field(default=0, ge=0, le=2**32 - 1)

    @model_validator(mode="after")
    def _fits_together(self) -> BackboneConfig:
        if self.mode == "full" and self.kind not in ("timm", "wave", "fake"):
            message = f"backbone {self.name!r}: kind {self.kind} cannot be trained, only its head"
            raise ValueError(message)
        built = self.kind in ("timm", "wave")
        if self.mode == "given" and built and self.weights in ("packaged", "random", "hub"):
            message = (
                f"backbone {self.name!r}: mode given needs a checkpoint with classes of its own, "
                f"weights {self.weights!r} have none"
            )
            raise ValueError(message)
        if self.kind == "timm" and self.pooling == "sed" and self.mode != "full":
            message = f"backbone {self.name!r}: pooling sed has weights to learn, use mode full"
            raise ValueError(message)
        return self
