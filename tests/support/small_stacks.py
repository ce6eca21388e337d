"""Small, long-tailed tables of out-of-fold scores, with fresh rows whose truth is known.

What a soundscape challenge gives: some sixty files of a minute, seventy classes of which half
occur in one or two files, a strong network, a weak prior of site and hour, now and then a
second network. The backbones' scales differ; fold models may differ among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from birdstack.stacking.stack_table import StackTable


@dataclass(frozen=True)
class Small:
    """How a table is drawn.

    Attributes:
        seed: another seed gives other birds, files and noise.
        files: files to learn from.
        windows: windows of a file.
        classes: number of classes.
        folds: number of folds.
        strength: how well the network hears, in standard deviations of its noise.
        fold_models: spread of offsets and gains between the fold models of the network.
        second: strength of a second network; 0 for none.
        prior: whether there is a prior of site and hour.
        unknown: share of labels that nobody knows.
    """

    seed: int = 0
    files: int = 60
    windows: int = 12
    classes: int = 70
    folds: int = 5
    strength: float = 1.3
    fold_models: float = 0.0
    second: float = 0.0
    prior: bool = True
    unknown: float = 0.0


@dataclass(frozen=True)
class _World:
    """What files are drawn from."""

    sites: int
    presence: np.ndarray
    hour: np.ndarray
    skill: np.ndarray
    offset: np.ndarray


def small_stack(how: Small, fresh_files: int = 300) -> tuple[StackTable, StackTable]:
    """A table to learn from, and fresh files of the same world scored by all fold models.

    Scores of the table are out-of-fold: the network of a fold has offsets and gains of its
    own, and the prior is counted without the fold it scores.
    """
    rng = np.random.default_rng([20240, how.seed])
    world = _world(how, rng)
    places = [_places(world, count, rng) for count in (how.files, fresh_files)]
    truth = [_truth(how, world, *place, rng) for place in places]
    fold = rng.permutation(np.arange(how.files) % how.folds)
    names, scores = [], []
    for name, strength, scale in (("strong", how.strength, 2.0), ("second", how.second, 0.7)):
        if strength > 0:
            names.append(name)
            scores.append(
                _network(how, world, truth, fold, strength=strength, scale=scale, rng=rng)
            )
    if how.prior:
        names.append("prior")
        scores.append(_prior(how, world, places, truth, fold))
    tables = []
    for part, count in enumerate((how.files, fresh_files)):
        labels = truth[part].reshape(-1, how.classes).astype(np.int8)
        if part == 0:
            labels[rng.random(labels.shape) < how.unknown] = -1
        ids = [f"{'learn' if part == 0 else 'fresh'}-{number:04d}" for number in range(count)]
        tables.append(
            StackTable(
                recording_ids=ids,
                windows=np.full(count, how.windows),
                groups=ids,
                fold=fold if part == 0 else np.full(count, -1),
                backbones=tuple(names),
                classes=tuple(f"bird{number:03d}" for number in range(how.classes)),
                logits=np.stack([score[part].reshape(-1, how.classes) for score in scores]).astype(
                    np.float32
                ),
                truth=labels,
                domain=["soundscapes"] * count,
            )
        )
    return tables[0], tables[1]


def as_frame(table: StackTable, *, fold: bool = True) -> pl.DataFrame:
    """The table as a file of `birdstack stack --table` has it."""
    columns: dict[str, object] = {
        "recording_id": np.repeat(np.asarray(table.recording_ids), table.windows),
        "window": table.index,
        "group": np.repeat(np.asarray(table.groups), table.windows),
    }
    if fold:
        columns["fold"] = table.window_fold
    for number, name in enumerate(table.classes):
        label = table.truth[:, number].astype(object)
        label[table.truth[:, number] < 0] = None
        columns[f"y:{name}"] = pl.Series(label.tolist(), dtype=pl.Int8)
        for backbone, logits in zip(table.backbones, table.logits, strict=True):
            if np.isfinite(logits[:, number]).all():
                columns[f"{backbone}:{name}"] = logits[:, number]
    for number, name in enumerate(table.extra_names):
        columns[f"x:{name}"] = table.extra[:, number]
    return pl.DataFrame(columns)


def _world(how: Small, rng: np.random.Generator) -> _World:
    sites = 8
    common = np.exp(-np.linspace(0, 4.2, how.classes))[rng.permutation(how.classes)]
    liking = rng.gamma(0.7, 1.4, (sites, how.classes))
    return _World(
        sites=sites,
        presence=np.clip(0.5 * common * liking, 0.002, 0.9),
        hour=rng.uniform(0, 24, how.classes),
        skill=np.exp(rng.normal(0, 0.45, how.classes)),
        offset=rng.normal(-3, 1, how.classes),
    )


def _places(world: _World, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, world.sites, count), rng.uniform(0, 24, count)


def _truth(
    how: Small, world: _World, site: np.ndarray, hour: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """`[file, window, class]`: who is there, and then who sings, in bouts."""
    away = np.abs((hour[:, None] - world.hour + 12) % 24 - 12)
    present = rng.random((len(site), how.classes)) < world.presence[site] * np.exp(-away / 8)
    sings = np.zeros((len(site), how.windows, how.classes), dtype=bool)
    busy = rng.beta(1.2, 1.8, (len(site), how.classes))
    now = rng.random(present.shape) < busy
    for window in range(how.windows):
        sings[:, window] = now & present
        keeps = rng.random(present.shape) < 0.6
        now = np.where(keeps, now, rng.random(present.shape) < busy)
    return sings


def _network(
    how: Small,
    world: _World,
    truth: list[np.ndarray],
    fold: np.ndarray,
    *,
    strength: float,
    scale: float,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    skill = strength * world.skill * np.exp(rng.normal(0, 0.2, how.classes))
    bias = how.fold_models * rng.normal(0, 1, (how.folds, how.classes))
    gain = np.exp(how.fold_models * rng.normal(0, 0.4, (how.folds, 1)))
    scored = []
    for part, sings in enumerate(truth):
        files, windows, classes = sings.shape
        loud = np.maximum(rng.normal(1, 0.5, (files, 1, classes)), 0)
        scene = rng.normal(0, 0.6, (files, 1, classes)) + rng.normal(0, 0.4, (files, 1, 1))
        noise = rng.normal(0, 1, (files, windows, classes))
        blurred = sings * 1.0
        blurred[:, 1:] += 0.25 * sings[:, :-1]
        blurred[:, :-1] += 0.25 * sings[:, 1:]
        core = skill * blurred * loud + scene + noise
        if part == 0:
            core = gain[fold][:, None] * core + bias[fold][:, None]
        else:
            core = gain.mean() * core + bias.mean(axis=0)
        scored.append(scale * core + world.offset)
    return scored


def _prior(
    how: Small,
    world: _World,
    places: list[tuple[np.ndarray, np.ndarray]],
    truth: list[np.ndarray],
    fold: np.ndarray,
) -> list[np.ndarray]:
    """Log odds of a class by site and part of the day, counted without the fold scored."""
    share = truth[0].mean(axis=1)

    def counted(kept: np.ndarray, site: np.ndarray, hour: np.ndarray) -> np.ndarray:
        overall = (share[kept].sum(axis=0) + 0.05) / (kept.sum() + 5)
        odds = np.empty((len(site), how.classes))
        for row, (here, now) in enumerate(zip(site, hour, strict=True)):
            near = kept & (places[0][0] == here)
            apart = np.abs((places[0][1] - now + 12) % 24 - 12)
            weight = near * np.exp(-apart / 4)
            odds[row] = (weight @ share + 4 * overall) / (weight.sum() + 4)
        odds = np.clip(odds, 1e-4, 1 - 1e-4)
        return np.asarray(0.5 * np.log(odds / (1 - odds)))

    out_of_fold = np.empty((how.files, how.classes))
    for number in range(how.folds):
        held = fold == number
        out_of_fold[held] = counted(~held, places[0][0][held], places[0][1][held])
    fresh = np.mean([counted(fold != number, *places[1]) for number in range(how.folds)], axis=0)
    spread = (len(places[0][0]), how.windows, how.classes)
    again = (len(places[1][0]), how.windows, how.classes)
    return [
        np.broadcast_to(out_of_fold[:, None], spread),
        np.broadcast_to(fresh[:, None], again),
    ]


def many_classes(singing: int, recordings: int) -> StackTable:
    """A thousand classes of which the first few sing; recordings of four windows, three folds."""
    rng = np.random.default_rng(0)
    n_classes = 1000
    truth = np.zeros((recordings * 4, n_classes), np.int8)
    truth[:, :singing] = rng.random((recordings * 4, singing)) < 0.3
    names = [f"r{number:03d}" for number in range(recordings)]
    return StackTable(
        recording_ids=names,
        windows=np.full(recordings, 4),
        groups=names,
        fold=np.arange(recordings) % 3,
        backbones=("net",),
        classes=tuple(f"c{number:04d}" for number in range(n_classes)),
        logits=(truth + rng.normal(size=truth.shape))[None].astype(np.float32),
        truth=truth,
    )
