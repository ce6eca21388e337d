"""How the settings were searched: every trial of the Optuna study, and what mattered."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdstack.stacking.report_run import Run

_POOLED = "birdstack-stack"
"""The study that serves all classes; those of single classes stand beside it."""
_ENOUGH = 12  # trials, below which importances say nothing


def tuning(run: Run) -> dict[str, Any]:
    """Trials and importances; `why` alone where nothing was searched."""
    told = run.printed.get("tuning")
    told = told if isinstance(told, Mapping) else {}
    path = run.folder / "study.log"
    if not path.is_file():
        if told:  # the study lies in a database; the run kept what it said
            trials = [
                {
                    "number": int(row["trial"]),
                    "value": float(row["value"]),
                    "best": float(row["best"]),
                    "params": {name: float(value) for name, value in row["params"].items()},
                }
                for row in told.get("history", [])
            ]
            return {"verdict": told.get("why", ""), "trials": trials, **_importance(told, None)}
        return {"why": "the settings were not tuned: the usual ones were used"}
    try:
        study = _study(path)
    except Exception as error:  # noqa: BLE001 - a study is read by Optuna, which raises anything
        return {"why": f"{path.name} cannot be read: {str(error).splitlines()[0]}"}
    best: float | None = None
    trials = []
    for trial in study.get_trials(deepcopy=False):
        if trial.value is None:
            continue
        best = trial.value if best is None else max(best, trial.value)
        trials.append(
            {
                "number": trial.number,
                "value": float(trial.value),
                "best": float(best),
                "params": {name: float(value) for name, value in trial.params.items()},
            }
        )
    if not trials:
        return {"why": "no trial of the study was finished"}
    return {"verdict": str(told.get("why", "")), "trials": trials, **_importance(told, study)}


def _study(path: Path) -> Any:
    import optuna  # noqa: PLC0415 - heavy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storages: Any = optuna.storages
        storage = storages.JournalStorage(storages.journal.JournalFileBackend(str(path)))
        names = sorted(optuna.get_all_study_names(storage))
        name = _POOLED if _POOLED in names else names[0]
        return optuna.load_study(study_name=name, storage=storage)


def _importance(told: Mapping[str, Any], study: Any) -> dict[str, Any]:
    found: Mapping[str, float] = told.get("importance") or {}
    if not found and study is not None and len(study.trials) >= _ENOUGH:
        import optuna  # noqa: PLC0415 - heavy

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return {"importance": [{"setting": name, "share": float(share)} for name, share in ordered]}
