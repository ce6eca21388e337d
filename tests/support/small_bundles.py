"""A run of `birdstack stack` and a bundle of it, made in seconds: whistles and a toy network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from support.birds import make_birds
from support.command import Ran, birdstack

TOY = {"name": "toy", "kind": "fake"}
SETTINGS = [
    *("--set", f"networks.define={json.dumps([TOY])}"),
    *("--set", 'acoustic.groups=["wave", "spectral"]'),
]
QUICK = [
    *("--resamples", "50"),
    *("--set", "stack.min_positives=2"),
    *("--set", "stack.min_recordings=2"),
]


@dataclass(frozen=True)
class SmallRun:
    """A dataset, its store and a stack on it.

    Attributes:
        birds: the dataset; three classes, two soundscapes of 19 s.
        store: with acoustic views, place, embeddings and logits.
        run: folder of the stack.
    """

    birds: Path
    store: Path
    run: Path

    @property
    def soundscapes(self) -> Path:
        """Recordings without a fold."""
        return self.birds / "unlabeled_soundscapes"


def small_run(folder: Path, *, views: str = "acoustic,place") -> SmallRun:
    """Make a dataset, hear it, simulate soundscapes, and stack."""
    birds = make_birds(folder / "birds", soundscapes=2, clips=6)
    store, run = folder / "store", folder / "run"
    here = ["--store", store]
    done(birdstack("features", birds, *here, "--folds", 3, "--backbones", "toy", *SETTINGS))
    done(birdstack("simulate", *here, "--per-fold", 1, "--duration", 40))
    done(birdstack("features", *here, "--backbones", "toy", *SETTINGS))
    words = ["--out", run, "--ship", "stack", "--views", views, *QUICK]
    done(birdstack("stack", *here, *words))
    return SmallRun(birds, store, run)


def done(ran: Ran) -> Ran:
    """What ended with exit code 0."""
    assert ran.code == 0, ran.out + ran.err
    return ran
