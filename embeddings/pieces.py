"""A window heard by a network with shorter ears: in several pieces."""

from __future__ import annotations

import numpy as np


def piece_starts(window_samples: int, piece_samples: int) -> tuple[int, ...]:
    """First samples of the pieces that cover a window.

    As few pieces as cover it, spread evenly: the first begins with the window, the last
    ends with it. 3-s pieces of a 5-s window begin at 0 and 2 s.

    Args:
        window_samples: length of the window.
        piece_samples: length of a piece, at most that of the window.
    """
    if not 0 < piece_samples <= window_samples:
        message = f"{piece_samples=} must be in [1, {window_samples=}]"
        raise ValueError(message)
    n_pieces = -(-window_samples // piece_samples)
    if n_pieces == 1:
        return (0,)
    spare = window_samples - piece_samples
    return tuple(round(spare * piece / (n_pieces - 1)) for piece in range(n_pieces))


def cut(windows: np.ndarray, starts: tuple[int, ...], piece_samples: int) -> np.ndarray:
    """Windows `[window, sample]` to pieces `[window * piece, sample]`, window by window."""
    if len(starts) == 1 and windows.shape[1] == piece_samples:
        return windows
    pieces: np.ndarray = np.stack([windows[:, at : at + piece_samples] for at in starts], axis=1)
    return pieces.reshape(len(windows) * len(starts), piece_samples)


def mean_of_pieces(values: np.ndarray, n_pieces: int) -> np.ndarray:
    """Values `[window * piece, k]` to float32 `[window, k]`, averaged in float64."""
    if n_pieces == 1:
        return values.astype(np.float32, copy=False)
    n_windows, width = len(values) // n_pieces, values.shape[1]
    grouped = values.reshape(n_windows, n_pieces, width)
    means: np.ndarray = grouped.mean(axis=1, dtype=np.float64)
    return means.astype(np.float32)
