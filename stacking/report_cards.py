"""The picture of one error: spectrogram with its axes, and the scores of the windows around."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_WIDTH, _LEFT, _RIGHT = 390, 40, 6
_TOP, _PICTURE, _GAP, _SCORES = 24, 140, 24, 60
_MARKS = {"present": "\u25cf", "absent": "\u25cb", "not known": "?"}


def error_svg(error: Mapping[str, Any]) -> str:
    """Spectrogram over time and frequency, the window marked, scores as steps below it.

    The picture is left out where the sound could not be read; the scores are always there.
    """
    media = error["media"]
    hop_s, window_s = float(error["hop_s"]), float(error["window_s"])
    begin_s, end_s = _stretch(error, hop_s, window_s)
    across = _WIDTH - _LEFT - _RIGHT

    def x(time_s: float) -> float:
        return round(_LEFT + across * (time_s - begin_s) / (end_s - begin_s), 1)

    parts = []
    top = _TOP
    if media.get("picture"):
        parts += _spectrogram(media, x, top)
        low, high = x(error["start_s"]), x(error["start_s"] + window_s)
        parts.append(
            f'<rect class="window" x="{low}" y="{top}" width="{round(high - low, 1)}" '
            f'height="{_PICTURE}"/>'
        )
        parts += [
            f'<text x="{x(second)}" y="{top + _PICTURE + 15}" text-anchor="middle">'
            f"{_clock(second)}</text>"
            for second in _ticks(begin_s, end_s)
        ]
        if media.get("audio"):
            parts.append(
                f'<line class="playhead" x1="0" x2="0" y1="{top}" y2="{top + _PICTURE}" '
                f'data-x0="{x(media["audio_start_s"])}" data-x1="{x(media["audio_end_s"])}"/>'
            )
        top += _PICTURE + _GAP
    parts += _scores(error, x, top, hop_s)
    height = top + _SCORES + 20
    return (
        f'<svg class="error" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(_words(error), quote=True)}">{"".join(parts)}</svg>'
    )


def _stretch(error: Mapping[str, Any], hop_s: float, window_s: float) -> tuple[float, float]:
    media = error["media"]
    if media.get("picture"):
        return float(media["start_s"]), float(media["end_s"])
    windows = [near["window"] - error["window"] for near in error["neighbours"]]
    start_s = float(error["start_s"])
    return start_s + min(windows) * hop_s, start_s + max(windows) * hop_s + window_s


def _spectrogram(media: Mapping[str, Any], x: Any, top: float) -> list[str]:
    left = x(media["start_s"])
    width = round(x(media["end_s"]) - left, 1)
    source = escape(media["picture"], quote=True)
    where = f'x="{left}" y="{top}" width="{width}" height="{_PICTURE}"'
    parts = [
        f'<image href="{source}" {where} preserveAspectRatio="none"/>',
        f'<text x="2" y="{top - 12}">kHz</text>',
    ]
    highest_khz = media["fmax_hz"] / 1000
    step = 4 if highest_khz > 8 else 2  # noqa: PLR2004 - four or five figures fit
    for khz in range(0, int(highest_khz) + 1, step):
        y = round(top + _PICTURE * (1 - khz / highest_khz), 1)
        parts.append(f'<line class="tick" x1="{_LEFT - 4}" x2="{_LEFT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{khz}</text>')
    return parts


def _scores(error: Mapping[str, Any], x: Any, top: float, hop_s: float) -> list[str]:
    parts = [
        f'<text x="{_LEFT - 7}" y="{top + 9}" text-anchor="end">100%</text>',
        f'<text x="{_LEFT - 7}" y="{top + _SCORES}" text-anchor="end">0</text>',
        f'<path class="base" d="M{_LEFT} {top + _SCORES}H{_WIDTH - _RIGHT}"/>',
    ]
    for near in error["neighbours"]:
        start_s = error["start_s"] + (near["window"] - error["window"]) * hop_s
        low, high = x(start_s) + 1.5, x(start_s + hop_s) - 1.5
        height = round(max(1.5, _SCORES * near["outranks"]), 1)
        kind = "bar this" if near["window"] == error["window"] else "bar"
        parts.append(
            f'<rect class="{kind}" x="{round(low, 1)}" y="{round(top + _SCORES - height, 1)}" '
            f'width="{round(max(high - low, 1), 1)}" height="{height}"/>'
        )
        parts.append(
            f'<text x="{round((low + high) / 2, 1)}" y="{top + _SCORES + 15}" '
            f'text-anchor="middle">{_MARKS[near["label"]]} {near["outranks"]:.0%}</text>'
        )
    return parts


def _ticks(begin_s: float, end_s: float) -> list[float]:
    step = 5 if end_s - begin_s > 8 else 1  # noqa: PLR2004 - four to eight figures fit
    first = int(-(-begin_s // step)) * step
    # The outermost figures would stick out of the picture.
    inside = (begin_s + 0.04 * (end_s - begin_s), end_s - 0.04 * (end_s - begin_s))
    return [
        second for second in range(first, int(end_s) + 1, step) if inside[0] <= second <= inside[1]
    ]


def _clock(second: float) -> str:
    return f"{int(second) // 60}:{int(second) % 60:02d}"


def _words(error: Mapping[str, Any]) -> str:
    near = ", ".join(
        f"window {n['window']}: {n['outranks']:.0%}, {n['label']}" for n in error["neighbours"]
    )
    shown = "Spectrogram and scores" if error["media"].get("picture") else "Scores"
    return f"{shown} of {error['class']} around window {error['window']}: {near}"
