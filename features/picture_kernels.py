# ruff: noqa: PLR0917 - called by position
"""From the transform of a picture's frames to mel power, in float32, row by row.

The rules of fused_kernels.py hold here too, but that sums over bins may be reordered: a picture in
float32 is rough anyway.
"""

from __future__ import annotations

import numpy as np

from birdstack.features.fused_kernels import PART, REORDERED, Kernel


def packed_power(
    packed: np.ndarray, turns: np.ndarray, scratch: np.ndarray, out_power: np.ndarray
) -> None:
    """Power of a real frame, `[bin]`, from the transform of its samples taken as complex pairs.

    With `Z` the transform of `x[2i] + j x[2i + 1]`, `h` points long, and `W = exp(-j pi / h)`,
    `X[k] = E + W^k O` and `X[h - k] = conj(E - W^k O)`, where `2 E = Z[k] + conj Z[h - k]` and
    `2 O = -j (Z[k] - conj Z[h - k])`. Half the transform, and this costs less than the rest.

    `turns [2, bin]` holds the real and imaginary parts of `W^k`; `scratch [3, bin]` is written to.
    """
    half = packed.shape[0]
    # unsigned, so that no index can mean one from the end, and the loops fill vector registers
    top = np.uint64(half)
    back_real = scratch[0]
    back_imaginary = scratch[1]
    high = scratch[2]
    back_real[0] = packed[0].real
    back_imaginary[0] = packed[0].imag
    for k in range(1, half // 2 + 1):
        value = packed[top - np.uint64(k)]
        back_real[k] = value.real
        back_imaginary[k] = value.imag
    quarter = np.float32(0.25)
    for k in range(half // 2 + 1):
        value = packed[k]
        even_real = value.real + back_real[k]
        even_imaginary = value.imag - back_imaginary[k]
        odd_real = value.imag + back_imaginary[k]
        odd_imaginary = back_real[k] - value.real
        turned_real = turns[0, k] * odd_real - turns[1, k] * odd_imaginary
        turned_imaginary = turns[0, k] * odd_imaginary + turns[1, k] * odd_real
        real = even_real + turned_real
        imaginary = even_imaginary + turned_imaginary
        out_power[k] = quarter * (real * real + imaginary * imaginary)
        real = even_real - turned_real
        imaginary = even_imaginary - turned_imaginary
        high[k] = quarter * (real * real + imaginary * imaginary)
    for k in range(half // 2 + 1):
        out_power[top - np.uint64(k)] = high[k]


def packed_mel(
    packed: np.ndarray,
    turns: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray,
    first: int,
    scratch: np.ndarray,
    out_mel: np.ndarray,
) -> None:
    """Mel power `[mel, frame]` of real frames transformed as complex pairs, `[row, pair]`.

    Four frames at a time, which share the reading of the weights; `scratch [7, bin]` is written to.
    """
    last = packed.shape[0] - 1
    a = scratch[0]
    b = scratch[1]
    c = scratch[2]
    d = scratch[3]
    for row in range(0, last + 1, 4):
        second = min(row + 1, last)
        third = min(row + 2, last)
        fourth = min(row + 3, last)
        packed_power(packed[row], turns, scratch[4:], a)
        packed_power(packed[second], turns, scratch[4:], b)
        packed_power(packed[third], turns, scratch[4:], c)
        packed_power(packed[fourth], turns, scratch[4:], d)
        for m in range(starts.shape[0]):
            low = starts[m]
            high = stops[m]
            heard_a = a[low:high]
            heard_b = b[low:high]
            heard_c = c[low:high]
            heard_d = d[low:high]
            weight = weights[offsets[m] : offsets[m] + high - low]
            total_a = np.float32(0.0)
            total_b = np.float32(0.0)
            total_c = np.float32(0.0)
            total_d = np.float32(0.0)
            for k in range(weight.shape[0]):
                total_a += weight[k] * heard_a[k]
                total_b += weight[k] * heard_b[k]
                total_c += weight[k] * heard_c[k]
                total_d += weight[k] * heard_d[k]
            out = out_mel[m]
            out[first + row] = total_a
            out[first + second] = total_b
            out[first + third] = total_c
            out[first + fourth] = total_d


_PACKED_MEL = (
    "void(c8[:, ::1], f4[:, ::1], i8[::1], i8[::1], i8[::1], f4[::1], i8, f4[:, ::1], f4[:, ::1])"
)

PICTURE_KERNELS: dict[str, Kernel] = {
    "packed_power": (packed_power, PART, REORDERED),
    "packed_mel": (packed_mel, _PACKED_MEL, REORDERED),
}
"""As `LANE_KERNELS`."""
