"""Whether an engine says what its network says: measured on real windows, kept as JSON.

The reference is torch in eager mode. Differences are given in standard deviations of the
reference over windows (pooled over columns: what a column's mean is carries no ranking), since
a number of logits has no unit by itself. Rank agreement is Spearman's, because the metric is
an AUC and sees ranks alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.embeddings.engine import Engine, EngineError, EngineKind, make_engine
from birdstack.embeddings.engine_batches import OUTPUTS
from birdstack.store.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

MIN_WINDOWS = 16
"""Fewer windows say too little about ranks, and do not meet every size of batch."""

_MIXED = 15


class ParityError(EngineError):
    """An engine's answers are too far from its network's."""


@dataclass(frozen=True)
class Limits:
    """How far an engine may be from its network.

    Attributes:
        relative: largest difference of all, in standard deviations of the reference.
        rms: root mean square of the differences, in the same unit.
        rank_agreement: lowest mean of Spearman's coefficient over columns.
        auc_difference: largest loss or gain of macro AUC.
    """

    relative: float
    rms: float
    rank_agreement: float
    auc_difference: float


_EXACT = Limits(relative=1e-3, rms=1e-4, rank_agreement=0.9999, auc_difference=1e-4)
LIMITS: Mapping[str, Limits] = MappingProxyType(
    {
        "torch": _EXACT,
        "torch-jit": _EXACT,
        "onnxruntime": _EXACT,
        "openvino": _EXACT,
        # on real windows, ranks and rms: ResNet-18 .999 and .013, EfficientNet-B0 .995 and .06,
        # Lite0 .980 and .07; a single number of an embedding moves by up to two deviations
        "openvino-bf16": Limits(relative=4.0, rms=0.15, rank_agreement=0.97, auc_difference=0.01),
        # ResNet-18 .970 and .32; EfficientNet-B0 .73 and .93, Lite0 .80 and .52: refused
        "openvino-int8": Limits(relative=10.0, rms=0.4, rank_agreement=0.95, auc_difference=0.01),
    }
)
"""By kind of engine. An engine of another name is held to the exact ones."""


@dataclass(frozen=True)
class Parity:
    """What was measured of one engine; JSON-able by `to_json`.

    Attributes:
        engine: its name.
        windows: number of windows compared.
        max_abs_dembedding: largest difference of an embedding's number.
        relative_dembedding: the same in standard deviations of the reference over windows.
        rms_dembedding: root mean square of these differences, in that unit.
        max_abs_dlogit: largest difference of a logit; None for a network without classes.
        relative_dlogit: the same in standard deviations of the reference over windows.
        rms_dlogit: root mean square of these differences, in that unit.
        judged: `logits`, or `embedding` for a network without classes: what the limits on ranks
            speak of.
        rank_agreement: mean over columns (classes) of Spearman's coefficient over windows;
            columns that do not vary in the reference are left out.
        auc: macro AUC of the reference on the labels given; None without labels.
        auc_difference: the engine's less the reference's.
        limits: what was allowed.
        failures: what is beyond the limits, a sentence each; empty: the engine may be used.
    """

    engine: str
    windows: int
    max_abs_dembedding: float
    relative_dembedding: float
    rms_dembedding: float
    max_abs_dlogit: float | None
    relative_dlogit: float | None
    rms_dlogit: float | None
    judged: str
    rank_agreement: float
    auc: float | None
    auc_difference: float | None
    limits: Limits
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every figure is within its limit."""
        return not self.failures

    def require(self) -> None:
        """Refuse an engine that failed.

        Raises:
            ParityError: names the figures beyond their limits.
        """
        if self.failures:
            message = (
                f"engine {self.engine} does not say what its network says "
                f"({self.windows} windows): {'; '.join(self.failures)}"
            )
            raise ParityError(message, remedy=_remedy(self.engine))

    def to_json(self) -> dict[str, Any]:
        """As plain values; `from_json` reads them."""
        return {**asdict(self), "failures": list(self.failures), "passed": self.passed}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Parity:
        """From what `to_json` gave.

        Raises:
            EngineError: a figure is missing or unknown.
        """
        told = {name: value for name, value in values.items() if name != "passed"}
        try:
            limits, failures = Limits(**told.pop("limits")), tuple(told.pop("failures"))
            return cls(**told, limits=limits, failures=failures)
        except (TypeError, LookupError) as error:
            message = f"no parity of an engine: {error}"
            raise EngineError(message, remedy="export the network again") from error


def check_parity(
    network: nn.Module, engine: Engine, inputs: np.ndarray, labels: np.ndarray | None = None
) -> Parity:
    """Compare an engine with its network.

    Args:
        network: as given to `make_engine`.
        engine: made from it.
        inputs: prepared windows of real sound, float32 `[window, *input_shape]`.
        labels: `[window, class]`: 1 present, 0 absent, anything else not known.

    Raises:
        ConfigError: too few windows.
        EngineError: the network's or the engine's answers are no numbers.
    """
    if len(inputs) < MIN_WINDOWS:
        message = f"engine {engine.name}: {len(inputs)} windows to compare it on"
        raise ConfigError(message, remedy=f"give {MIN_WINDOWS} windows or more")
    expected = make_engine(network, inputs.shape[1:], "torch").run(inputs)
    # fifteen first: 8 + 4 + 2 + 1, so that every size of batch has its say
    parts = [engine.run(inputs[:_MIXED]), engine.run(inputs[_MIXED:])]
    found = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
    return compare(engine.name, expected, found, labels)


def compare(
    name: str,
    expected: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    labels: np.ndarray | None = None,
) -> Parity:
    """Compare answers: embeddings `[window, dim]` and, if there are any, logits.

    Args:
        name: of the engine, for its limits.
        expected: of the reference.
        found: of the engine.
        labels: as for `check_parity`.
    """
    limits = LIMITS.get(name, _EXACT)
    moved = [_difference(*pair) for pair in zip(expected, found, strict=True)]
    dembedding, dlogit = moved[0], moved[1] if len(moved) > 1 else (None, None, None)
    ranks = rank_agreement(expected[-1], found[-1])
    auc = auc_difference = None
    if labels is not None and len(expected) > 1:
        auc = macro_auc(expected[1], labels).value
        auc_difference = macro_auc(found[1], labels).value - auc
    failures = []
    for what, (_, relative, rms) in zip(OUTPUTS, moved, strict=False):
        if not relative <= limits.relative:
            failures.append(
                f"{what} differs by up to {relative:.2g} standard deviations "
                f"(at most {limits.relative:g})"
            )
        if not rms <= limits.rms:
            failures.append(
                f"{what} differs by {rms:.2g} standard deviations rms (at most {limits.rms:g})"
            )
    judged = OUTPUTS[len(expected) - 1]
    if not ranks >= limits.rank_agreement:
        failures.append(
            f"ranks of {judged} agree to {ranks:.4f} (at least {limits.rank_agreement:g})"
        )
    if auc_difference is not None and abs(auc_difference) > limits.auc_difference:
        failures.append(
            f"macro AUC differs by {auc_difference:+.4f} (at most {limits.auc_difference:g})"
        )
    return Parity(
        engine=name,
        windows=len(expected[0]),
        max_abs_dembedding=dembedding[0],
        relative_dembedding=dembedding[1],
        rms_dembedding=dembedding[2],
        max_abs_dlogit=dlogit[0],
        relative_dlogit=dlogit[1],
        rms_dlogit=dlogit[2],
        judged=judged,
        rank_agreement=ranks,
        auc=auc,
        auc_difference=auc_difference,
        limits=limits,
        failures=tuple(failures),
    )


def checked_engine(
    network: nn.Module,
    input_shape: tuple[int, ...],
    kind: EngineKind,
    inputs: np.ndarray,
    labels: np.ndarray | None = None,
    **options: Any,
) -> tuple[Engine, Parity]:
    """Make an engine, compare it with its network, and refuse it if it is too far.

    Args:
        network: as for `make_engine`.
        input_shape: of one window.
        kind: which engine.
        inputs: windows to compare on; also those that int8 is calibrated with, unless
            `calibration` is given.
        labels: of these windows, as for `check_parity`.
        **options: of `make_engine`.

    Raises:
        ParityError: the engine is too far from the network.
        ConfigError: as `make_engine`, or too few windows.
        EngineError: as `make_engine` and `check_parity`.
    """
    if kind == "openvino-int8":
        options.setdefault("calibration", inputs)
    engine = make_engine(network, input_shape, kind, **options)
    parity = check_parity(network, engine, inputs, labels)
    parity.require()
    return engine, parity


def rank_agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """Mean over columns of Spearman's rank correlation over rows, both `[row, column]`.

    Ties share their mean rank. Columns without variation in `expected` have no ranks and are
    left out; one without variation in `found` alone counts as 0. With nothing left: 1.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - scipy.stats is slow to import

    varied = np.ptp(expected, axis=0) > 0
    if not varied.any():
        return 1.0
    ranks = [rankdata(values[:, varied], axis=0) for values in (expected, found)]
    first, second = (rank - rank.mean(axis=0) for rank in ranks)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    both = (first * second).sum(axis=0)
    return float(np.divide(both, scale, out=np.zeros_like(both), where=scale > 0).mean())


def write_parity(path: Path, parities: Sequence[Parity]) -> None:
    """Write what was measured as JSON, in place of what was there, in one step."""
    from birdstack.store.local_files import LocalFiles  # noqa: PLC0415 - only for writing

    text = json.dumps([parity.to_json() for parity in parities], indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    LocalFiles(path.parent).put(path.name, (text + "\n").encode())


def read_parity(path: Path) -> tuple[Parity, ...]:
    """Read what `write_parity` wrote.

    Raises:
        EngineError: the file is not what it wrote.
        OSError: it cannot be read.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))
        return tuple(Parity.from_json(entry) for entry in entries)
    except (ValueError, TypeError, AttributeError) as error:
        message = f"{path}: no list of parities: {error}"
        raise EngineError(message, remedy="export the network again") from error


def _difference(expected: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """Largest difference; the same and the rms in standard deviations of the reference."""
    moved = np.abs(found.astype(np.float64) - expected)
    largest, rms = float(moved.max(initial=0.0)), float(np.sqrt(np.mean(moved**2)))
    if largest == 0:
        return 0.0, 0.0, 0.0
    # a reference that hardly varies has rounding alone to be measured by
    floor = 1e-6 * float(np.abs(expected).max(initial=0.0)) or largest
    spread = max(float(np.sqrt(expected.astype(np.float64).var(axis=0).mean())), floor)
    return largest, largest / spread, rms / spread


def _remedy(engine: str) -> str:
    if engine == "openvino-int8":
        return "use openvino or openvino-bf16; 8 bits suit ResNet-like networks only"
    if engine == "openvino-bf16":
        return "use openvino, which computes in float32"
    return "choose another engine; torch is the reference"
