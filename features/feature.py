"""What a feature is: one decorated function of a window, and what is declared with it.

    @feature(
        group="indices",
        formula="entropy of the mean power spectrum over ln(bins)",
        source="Sueur et al. 2008; maad frequency_entropy",
        needs=("power", "index_fmin_hz", "index_fmax_hz"),
        low=0.0,
        high=1.0,
    )
    def index_hf(window: HeardWindow) -> float: ...

The function's name is the column's. What it returns follows from `rows` and `statistics`:

| rows | statistics | returns | columns |
|---|---|---|---|
| none | none | a float | `name` |
| none | mean, std, ... | `[frame]` | `name_mean`, `name_std` |
| n | none | `[row]` | `name_00`, `name_01`, ... |
| n | mean, ... | `[row, frame]` | `name_00_mean`, `name_01_mean`, ..., `name_00_std`, ... |

`needs` names all that the numbers depend on: inputs of the window (`INPUTS` in
spectrum.py) and settings of `AcousticConfig`. The recipe of a group's view holds those
settings and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from birdstack.features.acoustic_config import GROUPS, AcousticConfig, Group
from birdstack.features.spectrum import INPUTS, HeardWindow
from birdstack.features.summaries import OVER_FRAMES, STATISTICS, numbered, summarise
from birdstack.store.views import Column

Bound = float | Callable[[AcousticConfig, int], float] | None
"""A limit: a number, or a function of the configuration and the sample rate in Hz."""
Rows = int | Callable[[AcousticConfig], int] | None


Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class FeatureColumn:
    """One column and what is known of it.

    Attributes:
        column: name, unit, range and description, as the store keeps them.
        feature: the feature it belongs to.
        formula: what the feature's value is, for the configuration at hand.
        statistic: statistic over frames, a key of `STATISTICS`; empty if there is none.
    """

    column: Column
    feature: Feature
    formula: str
    statistic: str = ""


@dataclass(frozen=True, slots=True)
class Feature:
    """A declared feature.

    Attributes:
        name: the function's name; its columns begin with it.
        group: the view `acoustic/<group>` that holds it.
        measure: the function: of a `HeardWindow`, or of a recording's columns.
        formula: one line, with `{c.<setting>}` where a setting belongs.
        source: paper, and the library function it equals if there is one.
        needs: inputs of the window and settings of `AcousticConfig`.
        unit: unit of the values, empty for a pure number.
        low: smallest value the formula allows.
        high: largest value the formula allows.
        statistics: over frames; empty if the function returns no frames.
        rows: number of bands or coefficients, if it returns several.
        scope: "window", or "recording": the function then gets the group's columns
            `{name: [window]}` of a whole recording and returns `[window]`.
        version: raised when the numbers change.
    """

    name: str
    group: Group
    measure: Callable[[Any], Any]
    formula: str
    source: str
    needs: tuple[str, ...]
    unit: str = ""
    low: Bound = None
    high: Bound = None
    statistics: tuple[str, ...] = ()
    rows: Rows = None
    scope: Literal["window", "recording"] = "window"
    version: int = 1

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings of `AcousticConfig` that its numbers depend on, in the config's order."""
        used: set[str] = set()
        for need in self.needs:
            used |= set(INPUTS.get(need, (need,)))
        return tuple(name for name in AcousticConfig.model_fields if name in used)

    def columns(self, config: AcousticConfig, sample_rate_hz: int) -> list[FeatureColumn]:
        """Its columns, in order: all rows of one statistic, then of the next."""
        formula = self.formula.format(c=config)
        low, high = (_limit(bound, config, sample_rate_hz) for bound in (self.low, self.high))
        found = []
        for statistic in self.statistics or ("",):
            # A standard deviation is at most half the range.
            spread = None if low is None or high is None else (high - low) / 2
            limits = (0.0, spread) if statistic == "std" else (low, high)
            words = f"{STATISTICS[statistic]}{OVER_FRAMES}" if statistic else ""
            for name in self._row_names(_count(self.rows, config)):
                column = Column(
                    f"{name}_{statistic}" if statistic else name,
                    unit=self.unit,
                    low=limits[0],
                    high=limits[1],
                    description=f"{words}{formula}. {self.source}",
                )
                found.append(FeatureColumn(column, self, formula, statistic))
        return found

    def values(self, window: HeardWindow) -> dict[str, float]:
        """Its columns for one window; keys as in `columns`."""
        measured = self.measure(window)
        rows = [measured] if self.rows is None else list(measured)
        names = self._row_names(None if self.rows is None else len(rows))
        if not self.statistics:
            return {name: float(value) for name, value in zip(names, rows, strict=True)}
        found: dict[str, float] = {}
        for statistic in self.statistics:
            for name, row in zip(names, rows, strict=True):
                found |= summarise(name, row, (statistic,))
        return found

    def _row_names(self, count: int | None) -> list[str]:
        return [self.name] if count is None else numbered(self.name, count)


REGISTERED: dict[str, Feature] = {}
"""Every feature declared so far, by name. Read it through registry.py, which fills it."""


def feature(
    *,
    group: Group,
    formula: str,
    source: str,
    needs: Sequence[str],
    unit: str = "",
    low: Bound = None,
    high: Bound = None,
    statistics: Sequence[str] = (),
    rows: Rows = None,
    scope: Literal["window", "recording"] = "window",
    version: int = 1,
) -> Callable[[Decorated], Decorated]:
    """Register the decorated function as a feature; see `Feature` for the arguments.

    Raises:
        ValueError: the group, a need or a statistic is unknown, or the name is taken.
    """

    def register(function: Decorated) -> Decorated:
        declared = Feature(
            name=function.__name__,
            group=group,
            measure=function,
            formula=formula,
            source=source,
            needs=tuple(needs),
            unit=unit,
            low=low,
            high=high,
            statistics=tuple(statistics),
            rows=rows,
            scope=scope,
            version=version,
        )
        _refuse_misfits(declared)
        REGISTERED[declared.name] = declared
        return function

    return register


def _refuse_misfits(declared: Feature) -> None:
    """A declaration that names what does not exist is a mistake in the code: ValueError."""
    known = set(INPUTS) | set(AcousticConfig.model_fields) - {"groups"}
    problems = [f"need {need!r}" for need in declared.needs if need not in known]
    problems += [f"statistic {name!r}" for name in declared.statistics if name not in STATISTICS]
    if declared.group not in GROUPS:
        problems.append(f"group {declared.group!r}")
    earlier = REGISTERED.get(declared.name)
    place = declared.measure.__module__
    if problems:
        message = f"feature {declared.name!r} of {place}: unknown {', '.join(problems)}"
        raise ValueError(message)
    if earlier is not None and earlier.measure.__module__ != place:
        message = (
            f"feature {declared.name!r} of {place} is declared in {earlier.measure.__module__}"
        )
        raise ValueError(message)


def _limit(bound: Bound, config: AcousticConfig, sample_rate_hz: int) -> float | None:
    return bound(config, sample_rate_hz) if callable(bound) else bound


def _count(rows: Rows, config: AcousticConfig) -> int | None:
    return rows(config) if callable(rows) else rows
