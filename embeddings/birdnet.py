"""BirdNET 2.4: 6,522 classes, most of them birds, heard at 48 kHz in pieces of 3 s.

Kahl et al. 2021, "BirdNET: A deep learning solution for avian diversity monitoring",
Ecological Informatics 61:101236.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np

from birdstack.embeddings.backbone import Heard
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.birdnet_model import (
    DIM,
    PIECE_SAMPLES,
    SAMPLE_RATE_HZ,
    BirdnetEngine,
    find_birdnet,
)
from birdstack.embeddings.class_mapping import ClassMap, map_classes
from birdstack.embeddings.pieces import cut, mean_of_pieces, piece_starts
from birdstack.embeddings.wave_input import WaveInput
from birdstack.store.classes import Names
from birdstack.store.errors import ConfigError

BIRDNET_VERSION = 1
"""Raised when the same weights and configuration give other numbers than before."""

_LOG = logging.getLogger(__name__)
_told = threading.Event()


def licence_notice() -> str:
    """What whoever uses BirdNET must know, in two sentences.

    Asking for it counts as showing it: a process that has not asked by the time it makes
    its first `BirdnetBackbone` gets it as a warning in the log, once.
    """
    _told.set()
    return (
        "BirdNET 2.4 (Cornell Lab of Ornithology and Chemnitz University of Technology) is "
        "licensed under CC BY-NC-SA 4.0: name the source, no commercial use, share adaptations "
        "alike. https://creativecommons.org/licenses/by-nc-sa/4.0/"
    )


class BirdnetBackbone:
    """BirdNET behind the contract of every backbone.

    A window is heard in as few 3-s pieces as cover it, evenly spread: one of 5 s from 0 and
    from 2 s. Embeddings (what its last layer takes) and logits (no sigmoid) are the mean over
    the pieces.

    Args:
        config: of kind `birdnet`; in mode `given` it has logits, in mode `frozen` none.
        window_s: length of a window in seconds, at least 3.
        classes: the store's classes, which BirdNET's are mapped to by label, scientific name
            or, failing both, common name; one that BirdNET does not know has NaN logits.
            None: all of BirdNET's own, by scientific name.

    Raises:
        ConfigError: the extra `birdnet` is not installed, the window is too short, or BirdNET
            knows none of the classes.
    """

    def __init__(
        self, config: BackboneConfig, window_s: float, *, classes: Names | None = None
    ) -> None:
        self._name = config.name
        self._input = WaveInput(SAMPLE_RATE_HZ, window_s)
        n_samples = self._input.shape[0]
        if n_samples < PIECE_SAMPLES:
            message = f"backbone {config.name!r}: BirdNET hears 3 s, a window has {window_s:g} s"
            raise ConfigError(message, remedy="use windows of 3 s or more")
        self._starts = piece_starts(n_samples, PIECE_SAMPLES)
        files = find_birdnet()
        own = files.names()
        self._digest = files.digest()
        self._engine = BirdnetEngine(files, len(own))
        self._map = ClassMap((), ())
        if config.mode == "given":
            wanted = {scientific: (None, None) for scientific, _ in own}
            found = map_classes(own, wanted if classes is None else classes)
            self._map = found.require_some("BirdNET")
        if not _told.is_set():
            _LOG.warning(licence_notice())

    @property
    def name(self) -> str:
        """Name of its views."""
        return self._name

    @property
    def input(self) -> WaveInput:
        """Samples at 48 kHz."""
        return self._input

    @property
    def dim(self) -> int:
        """Length of an embedding: 1024."""
        return DIM

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its logits, in order."""
        return self._map.classes

    @property
    def class_map(self) -> ClassMap:
        """Which of BirdNET's classes stands for each of `classes`; `missing` ones are NaN."""
        return self._map

    @property
    def recipe(self) -> dict[str, Any]:
        """sha256 of the weights, pieces and classes."""
        return {
            "kind": "birdnet",
            "version": BIRDNET_VERSION,
            "weights": self._digest,
            "input": dict(self._input.recipe),
            "pieces": list(self._starts),
            "classes": list(self._map.classes),
            "columns": list(self._map.columns),
        }

    def run(self, inputs: np.ndarray) -> Heard:
        """Hear samples `[window, sample]`.

        Raises:
            ConfigError: the runtime is not installed or refuses the weights.
        """
        n_pieces = len(self._starts)
        embeddings, logits = self._engine.run(cut(inputs, self._starts, PIECE_SAMPLES))
        own_logits = mean_of_pieces(logits, n_pieces)
        return Heard(
            mean_of_pieces(embeddings, n_pieces),
            self._map.pick(own_logits) if self._map.classes else None,
        )
