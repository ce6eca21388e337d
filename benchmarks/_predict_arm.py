"""What `predict.py` times: soundscapes on disk, and a predictor at work on them."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import acoustic
from inference import Clock

if TYPE_CHECKING:
    from birdstack.stacking.bundle import Bundle
    from birdstack.stacking.predictor import HeardRecording, Predictor

RATE_HZ = acoustic.RATE_HZ
HEARD = "acoustic views + picture"
STAGES = ("decode", HEARD, "network", "stack", "write")


def write_soundscapes(data: Path, folder: Path, seconds: int, files: int) -> str:
    """Soundscapes of OGG Vorbis, each beginning elsewhere in the same sound; what they hold."""
    import numpy as np  # noqa: PLC0415 - after the threads are settled
    import soundfile  # noqa: PLC0415 - as above

    samples, kind = acoustic.sound_of(data, seconds)
    folder.mkdir()
    for number in range(files):
        moved = np.roll(samples, -number * len(samples) // files)
        path = folder / f"soundscape_{number}.ogg"
        with soundfile.SoundFile(path, "w", RATE_HZ, 1, format="OGG", subtype="VORBIS") as file:
            for start in range(0, len(moved), RATE_HZ):  # libsndfile's stack is small
                file.write(moved[start : start + RATE_HZ])
    return kind


class Ours:
    """A predictor at work on a folder of soundscapes.

    Args:
        bundle: predicts.
        engine: of its network.
        sounds: folder of soundscapes.
        scratch: folder for results.
        workers: recordings at a time.
    """

    def __init__(
        self, bundle: Bundle, engine: Any, sounds: Path, scratch: Path, *, workers: int = 1
    ) -> None:
        from birdstack.stacking.predict_pass import find_soundscapes  # noqa: PLC0415 - as above
        from birdstack.stacking.predictor import Predictor  # noqa: PLC0415 - as above

        self.predictor: Predictor = Predictor(bundle, engine=engine, workers=workers)
        self.predictor.ready()
        self.root, self.names, _ = find_soundscapes(sounds)
        self.scratch, self.workers = scratch / f"{engine}-{workers}", workers

    def everything(self) -> int:
        """From files to files, as `birdstack predict`; the number of rows."""
        from birdstack.stacking.predict_parts import PredictParts  # noqa: PLC0415 - as above
        from birdstack.stacking.predict_pass import PassTally, carry_out  # noqa: PLC0415 - as above

        shutil.rmtree(self.scratch, ignore_errors=True)
        parts = PredictParts(self.scratch / "work", {})
        tally = PassTally()
        carry_out(
            self.predictor,
            parts,
            self.root,
            self.names,
            workers=self.workers,
            stop=threading.Event(),
            tally=tally,
            show=lambda: None,
        )
        if tally.skips:
            raise SystemExit(f"skipped: {tally.skips[0]}")  # noqa: EM102, TRY003 - a benchmark
        rows = self._outputs(parts)
        parts.close()
        return rows

    def stages(self, clocks: dict[str, Clock]) -> None:
        """The same, stage after stage, each by its own clock."""
        from birdstack.stacking.predict_parts import PredictParts  # noqa: PLC0415 - as above

        predictor, heard = self.predictor, []
        opened = clocks["decode"].add(lambda: [self._open(name) for name in self.names])
        networks = predictor.networks
        timed = Timed(networks[0])
        predictor.networks = [timed]  # type: ignore[list-item]
        hearing = Clock(lambda: predictor.source.decoders.pids)
        hearing.add(lambda: heard.extend(predictor.hear(sound, found) for found, sound in opened))
        predictor.networks = networks
        for stage, cpu_s, wall_s in (
            ("network", timed.cpu_s, timed.wall_s),
            (HEARD, hearing.cpu_s[0] - timed.cpu_s, hearing.wall_s[0] - timed.wall_s),
        ):
            clocks[stage].cpu_s.append(cpu_s)
            clocks[stage].wall_s.append(wall_s)
        scores = clocks["stack"].add(lambda: self.predictor.score(heard))

        def write() -> None:
            shutil.rmtree(self.scratch, ignore_errors=True)
            parts = PredictParts(self.scratch / "work", {})
            for (found, _), values in zip(opened, scores, strict=True):
                parts.add(found.recording_id, found.content_hash, values, {})
            self._outputs(parts)
            parts.close()

        clocks["write"].add(write)
        self.heard: list[HeardRecording] = heard

    def _open(self, name: str) -> Any:
        from birdstack.stacking.predictor import soundscape_recording  # noqa: PLC0415 - as above

        found = soundscape_recording(self.root / name, self.root)
        return found, self.predictor.open(found)

    def _outputs(self, parts: Any) -> int:
        from birdstack.stacking.predict_output import Outputs  # noqa: PLC0415 - as above

        bundle = self.predictor.bundle
        outputs = Outputs(self.scratch, parts, bundle.classes, bundle.design.grid, self.names, ())
        return outputs.write()[0]

    def close(self) -> None:
        """End the decoder processes."""
        self.predictor.close()


class Timed:
    """A network of a predictor that notes what its `logits` cost.

    Attributes:
        cpu_s: spent so far.
        wall_s: likewise.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self.cpu_s = self.wall_s = 0.0

    def logits(self, *given: Any) -> Any:
        """As the network's."""
        began = time.process_time(), time.perf_counter()
        found = self._network.logits(*given)
        self.cpu_s += time.process_time() - began[0]
        self.wall_s += time.perf_counter() - began[1]
        return found


def without_forests(bundle: Bundle) -> Any:
    """The bundle's stack as loaded anew, with every tree walked by LightGBM itself."""
    from birdstack.stacking import trees  # noqa: PLC0415 - as above
    from birdstack.stacking.stack_folder import load_stack  # noqa: PLC0415 - as above

    usual, trees._WORTHWHILE = trees._WORTHWHILE, sys.maxsize  # noqa: SLF001 - what is compared
    try:
        return load_stack(bundle.folder / "stack")
    finally:
        trees._WORTHWHILE = usual  # noqa: SLF001 - as above
