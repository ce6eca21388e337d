"""How much demo data is made, and from which seed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from birdstack.features.demo_species import SPECIES_MOST

DEMO_VERSION = 1
"""Raised when the same configuration gives other files than before."""

Size = Literal["small", "default", "large"]

WINDOW_S = 5
"""Length of the windows of the truth table, and step between their ends."""


class DemoConfig(BaseModel):
    """What determines the demo data.

    Attributes:
        seed: another seed gives other birds, authors, places and noise; the species stay.
        n_species: species in the class list.
        n_recordings: focal recordings of the most recorded species; most species have nearly
            as many, and a long tail goes down to 2.
        n_unlabeled: soundscapes without labels.
        unlabeled_s: length of each.
        n_test: soundscapes with a truth table.
        test_s: length of each, a multiple of 5.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, lt=2**63)
    n_species: int = Field(default=14, ge=2, le=SPECIES_MOST)
    n_recordings: int = Field(default=12, ge=2, le=500)
    n_unlabeled: int = Field(default=8, ge=0, le=500)
    unlabeled_s: int = Field(default=120, ge=10, le=600)
    n_test: int = Field(default=8, ge=1, le=500)
    test_s: int = Field(default=240, ge=10, le=600, multiple_of=WINDOW_S)

    @classmethod
    def of_size(cls, size: Size, *, seed: int = 0) -> DemoConfig:
        """The configuration of a named size."""
        if size == "small":
            return cls(
                seed=seed, n_species=4, n_recordings=6, n_unlabeled=2, unlabeled_s=30,
                n_test=2, test_s=60,
            )  # fmt: skip
        if size == "large":
            return cls(seed=seed, n_species=24, n_recordings=30, n_unlabeled=24, n_test=24)
        return cls(seed=seed)
