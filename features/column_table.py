"""The reference of the features, from what is declared: documentation cannot fall behind.

The tables of a page stand between two markers. Rewrite them:

    python -m birdstack.features.column_table docs/reference/features.md
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from birdstack.features.acoustic_config import GROUPS, AcousticConfig, Group
from birdstack.features.feature import Feature, FeatureColumn
from birdstack.features.registry import group_feature_columns, group_features
from birdstack.features.robustness import Robustness, report, robustness

BEGIN = "<!-- features: begin -->"
END = "<!-- features: end -->"
SAMPLE_RATE_HZ = 32000
FRAGILE = 0.5
"""A column that moves by more standard deviations than that is named in the reference."""

TITLES: dict[Group, str] = {
    "mfcc": "The colour of the sound and how it moves: mel cepstrum and its derivatives.",
    "spectral": "Where in frequency the sound lies, how wide and how flat it is.",
    "wave": "Level, crossings and clipping of the samples.",
    "contrast": "How far peaks stand above valleys in each octave.",
    "logmel": "Bands of the log-mel spectrum: their shape and how much each moves.",
    "pcen": "Bands after per-channel energy normalisation: what begins stands out.",
    "onset": "How strongly and how regularly sounds begin.",
    "modulation": "How fast the song band swells and fades: syllable and trill rates.",
    "activity": "How much of the window is active, and how far above the noise.",
    "indices": "Acoustic indices of the soundscape.",
}


def features_markdown(
    config: AcousticConfig | None = None, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> str:
    """Every group as a section with its features, units, ranges, sources and robustness."""
    chosen = config or AcousticConfig()
    columns = {
        group: group_feature_columns(group, chosen, sample_rate_hz) for group in chosen.groups
    }
    total = sum(map(len, columns.values()))
    counted = f"{total} columns in {len(columns)} groups"
    parts = [f"{counted}, with the default settings at {sample_rate_hz / 1000:g} kHz."]
    parts.append(_summary(columns))
    for group in (each for each in GROUPS if each in columns):
        parts += [f"### `acoustic/{group}`", TITLES[group], group_table(group, columns[group])]
    return "\n\n".join([*parts, "### Fragile columns", _fragile(columns)])


def _summary(columns: dict[Group, list[FeatureColumn]]) -> str:
    lines = ["| group | features | columns |", "|---|---|---|"]
    lines += [
        f"| [`{group}`](#acoustic{group}) | {len(group_features(group))} | {len(found)} |"
        for group, found in columns.items()
    ]
    return "\n".join(lines)


def group_table(group: Group, columns: Sequence[FeatureColumn]) -> str:
    """Markdown table of one group: a row for each feature, whose range is that of its values.

    Robustness is that of the feature's most sensitive column; empty where it has not been
    measured.
    """
    lines = [
        "| feature | columns | unit | low | high | formula | source | gain | OGG | MP3 | 8 ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for feature in group_features(group):
        members = [each for each in columns if each.feature == feature]
        lines.append(_row(feature, members))
    return "\n".join(lines)


def _row(feature: Feature, members: Sequence[FeatureColumn]) -> str:
    plain = [each.column for each in members if each.statistic != "std"]
    low = _bound(plain[0].low) if plain else ""
    high = _bound(plain[0].high) if plain else ""
    cells = [
        f"`{feature.name}`",
        _counted(feature, members),
        members[0].column.unit,
        low,
        high,
        members[0].formula,
        feature.source,
        *_moves([each.column.name for each in members]),
    ]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _counted(feature: Feature, members: Sequence[FeatureColumn]) -> str:
    """How many columns, and how they are named."""
    if len(members) == 1 and not feature.statistics:
        return "1"
    ending = "_NN" if feature.rows is not None else ""
    if feature.statistics:
        ending += f"_({', '.join(feature.statistics)})"
    return f"{len(members)}: `{ending}`"


def _moves(names: Sequence[str]) -> list[str]:
    known = [robustness()[name] for name in names if name in robustness()]
    if not known:
        return [""] * 4
    return [f"{max(getattr(each, change) for each in known):.2f}" for change in _CHANGES]


_CHANGES = {"gain": "a gain of -20 dB", "ogg": "OGG Vorbis", "mp3": "MP3", "shift": "8 ms"}


def _fragile(columns: dict[Group, list[FeatureColumn]]) -> str:
    names = [each.column.name for found in columns.values() for each in found]
    measured: dict[str, Robustness] = {n: robustness()[n] for n in names if n in robustness()}
    measurement = report()
    heading = (
        f"Of {len(measured)} columns measured over {measurement['windows']} windows, those that "
        f"move by more than {FRAGILE:g} standard deviations between windows "
        f"(`{measurement['command']}`):"
    )
    lines = [heading, ""]
    for change, words in _CHANGES.items():
        over = [n for n, each in measured.items() if getattr(each, change) > FRAGILE]
        listed = ", ".join(f"`{name}`" for name in over) or "none"
        lines.append(f"- {words}: {len(over)}. {listed}")
    return "\n".join(lines)


def with_features(page: str, markdown: str) -> str:
    """The page with what stands between the markers replaced by `markdown`.

    Raises:
        ValueError: the page does not hold both markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        message = f"the page must hold {BEGIN} and {END}"
        raise ValueError(message)
    return f"{before}{BEGIN}\n\n{markdown}\n\n{END}{after}"


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(with_features(target.read_text("utf-8"), features_markdown()), "utf-8")
