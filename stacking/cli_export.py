"""The verb `birdstack export`, as the command line sees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from birdstack.stacking.options import ConfigFile, Json, Set, reporting

EPILOG = (
    "Examples:\n\n"
    "birdstack export birdstack-stack --out bundle\n\n"
    "birdstack export birdstack-stack --out bundle --engine onnx\n\n"
    "birdstack predict soundscapes --bundle bundle --out predicted   (what it is for)"
)


@reporting
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of birdstack stack.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the bundle.")],
    engine: Annotated[
        Literal["openvino", "openvino-bf16", "onnx", "torch"] | None,
        typer.Option(help="What runs the networks; the quickest that is installed."),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Hold the bundle's predictions to the store's figures.")
    ] = True,
    check_recordings: Annotated[
        int, typer.Option(min=1, metavar="N", help="Recordings that are predicted for that.")
    ] = 40,
    config: ConfigFile = None,
    setting: Set = None,
    json: Json = False,
) -> int:
    """Write everything that prediction needs into one folder: networks, stack, configuration.

    The bundle is read without the store, without the internet, and without what trains
    (optuna, scikit-learn; torch and timm only if they are the engine). Before it is put in
    place it predicts recordings whose truth the run knows: the macro AUC of the submission file,
    read back, must be that of the store's views, to 1e-6 in float32 and 1e-3 in bfloat16.
    Otherwise nothing is left, and the exit code is 1.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from birdstack.stacking.run_export import run_export
    from birdstack.stacking.session import Session

    session = Session.start("", config, setting, {}, as_json=json)
    kind = "onnxruntime" if engine == "onnx" else engine
    return run_export(session, run, out, engine=kind, check=check, most=check_recordings)
