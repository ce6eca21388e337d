"""Scenes of the demo data: levels, distance, the recorder's colour, deterministic OGG."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from birdstack.features.demo_background import Insect, Weather, background
from birdstack.features.demo_config import DemoConfig
from birdstack.features.demo_dataset import plan_demo
from birdstack.features.demo_ogg import encode_ogg, with_serial
from birdstack.features.demo_scene import (
    Equipment,
    Scene,
    band_power,
    make_event,
    render_parts,
    render_scene,
)
from birdstack.features.demo_song import RATE_HZ, Note, Syllable, band_hz

FLAT = Equipment(low_cut_hz=20.0, high_cut_hz=14_900.0, presence_db=0.0, hiss_db=-50.0)
TONE = Syllable(0.8, (4000.0, 4400.0))
PLAN = plan_demo(DemoConfig.of_size("small", seed=5))


def _scene(equipment: Equipment = FLAT, distance_m: float = 10.0, snr_db: float = 20.0) -> Scene:
    event = make_event(
        "demxxx1",
        "song",
        [Note(1.0, TONE), Note(2.0, TONE)],
        duration_s=4.0,
        distance_m=distance_m,
        snr_db=snr_db,
    )
    return Scene("x.ogg", 4.0, Weather(wind_db=-45.0), equipment, 0.5, (event,), (1, 2))


@pytest.mark.parametrize(
    ("weather", "low_hz", "high_hz"),
    [
        (Weather(wind_db=-30.0), 0, 400),
        (Weather(stream_db=-30.0), 200, 3000),
        (Weather(rain_db=-30.0), 500, 13_000),
        (Weather(insects=(Insect(5000, 30, 0.4, 0.4, -30.0),)), 4600, 5400),
        (Weather(insects=(Insect(7000, 30, 0.0, 0.0, -30.0),)), 6500, 7500),
    ],
)
def test_each_background_has_its_level_and_its_band(
    weather: Weather, low_hz: float, high_hz: float
) -> None:
    """The RMS is the one asked for, and two thirds of the power lie where the source sounds."""
    sound = background(weather, 21 * RATE_HZ, np.random.default_rng(0))
    assert 10 * np.log10(np.mean(np.square(sound))) == pytest.approx(-30.0, abs=0.1)
    assert band_power(sound, low_hz, high_hz) > 0.66 * band_power(sound, 0, RATE_HZ / 2)


def test_calm_is_silent() -> None:
    """Without any source the background is exactly zero."""
    assert not background(Weather(), RATE_HZ, np.random.default_rng(0)).any()


@pytest.mark.parametrize("scene", [PLAN.test[0].scene, PLAN.focal[0].scene, PLAN.focal[7].scene])
def test_events_have_the_signal_to_noise_ratio_that_the_plan_says(scene: Scene) -> None:
    """Measured on the rendered parts, in the band of the notes and over the event."""
    around, birds = render_parts(scene)
    assert scene.events
    for event, (start, sound) in zip(scene.events, birds, strict=True):
        end = round(event.end_s * RATE_HZ)
        assert start == round(event.start_s * RATE_HZ)
        band = band_hz(event.notes)
        signal = band_power(sound[: end - start], *band)
        ratio_db = 10 * np.log10(signal / band_power(around[start:end], *band))
        assert ratio_db == pytest.approx(event.snr_db, abs=0.1)


def test_distance_dulls() -> None:
    """At the same level in its band, a far bird has less of its upper partials than a near one."""
    rich = Syllable(0.8, (3000.0, 3000.0), harmonics=(1.0, 0.0, 1.0), rough=1.5)

    def upper_share(distance_m: float) -> float:
        event = make_event(
            "demxxx1", "song", [Note(1.0, rich)], duration_s=4.0, distance_m=distance_m, snr_db=30.0
        )
        scene = Scene("x.ogg", 4.0, Weather(), FLAT, 0.5, (event,), (1,))
        _, [(_, sound)] = render_parts(scene)
        return band_power(sound, 8500, 9500) / band_power(sound, 2500, 3500)

    lost_db = 10 * np.log10(upper_share(110.0) / upper_share(10.0))
    expected_db = -0.6 * (9**1.3 - 3**1.3)
    assert lost_db == pytest.approx(expected_db, abs=1.5)


def test_distance_echoes() -> None:
    """What follows a note is louder, relative to it, when the bird is far."""

    def tail_share(distance_m: float) -> float:
        scene = _scene(distance_m=distance_m)
        _, [(_, sound)] = render_parts(scene)
        note, tail = sound[: int(0.8 * RATE_HZ)], sound[int(1.8 * RATE_HZ) :]
        return float(np.mean(np.square(tail)) / np.mean(np.square(note)))

    assert tail_share(100.0) > 4 * tail_share(5.0)


@pytest.mark.parametrize(("peak_db", "clipped"), [(-6.0, False), (3.0, True)])
def test_only_those_who_drive_their_recorder_too_hard_clip(peak_db: float, clipped: bool) -> None:
    """A recording peaks where its author's habit puts it; above full scale it is cut flat."""
    owner = Equipment(50.0, 12_000.0, 3.0, -60.0, peak_db)
    sound = render_scene(_scene(owner))
    assert np.abs(sound).max() == pytest.approx(min(1.0, 10 ** (peak_db / 20)), rel=1e-4)
    assert (np.mean(np.abs(sound) == 1.0) > 0.001) == clipped


def test_a_soundscape_that_is_too_loud_is_turned_down() -> None:
    """The autonomous recorder does not clip, however near the bird."""
    sound = render_scene(_scene(snr_db=60.0))
    assert np.abs(sound).max() == pytest.approx(0.9, rel=1e-4)


def test_the_recorder_cuts_what_it_cannot_hear() -> None:
    """Low-cut and high-cut take at least 12 dB an octave or two beyond their corners."""
    dull = Equipment(300.0, 8000.0, 0.0, -40.0)
    dull_sound, flat_sound = (
        render_scene(Scene("x.ogg", 4.0, Weather(), e, 0.5, (), (3,)))
        for e in (dull, Equipment(20.0, 14_900.0, 0.0, -40.0))
    )
    for low_hz, high_hz in ((30.0, 60.0), (13_000.0, 14_500.0)):
        ratio = band_power(dull_sound, low_hz, high_hz) / band_power(flat_sound, low_hz, high_hz)
        assert ratio < 10**-1.2
    assert band_power(dull_sound, 1500, 2500) > 0.7 * band_power(flat_sound, 1500, 2500)


def test_scenes_render_the_same_in_any_order() -> None:
    """A recording's samples depend on its plan alone, not on what was rendered before."""
    scenes = [focal.scene for focal in PLAN.focal[:3]]
    forward = [render_scene(scene) for scene in scenes]
    backward = [render_scene(scene) for scene in reversed(scenes)][::-1]
    for first, second in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(first, second)


def test_ogg_bytes_repeat_and_decode() -> None:
    """The same samples give the same bytes, of the right length and near the samples."""
    sound = render_scene(_scene())
    first, second = (encode_ogg(sound, serial=77) for _ in range(2))
    assert first == second
    heard, rate_hz = soundfile.read(io.BytesIO(first), dtype="float32")
    assert rate_hz == RATE_HZ
    assert len(heard) == len(sound)
    assert np.corrcoef(heard, sound)[0, 1] > 0.97


def test_a_new_serial_number_keeps_the_stream_valid() -> None:
    """Renumbering there and back gives the encoder's own bytes, so the checksums are Ogg's."""
    buffer = io.BytesIO()
    soundfile.write(buffer, render_scene(_scene()), RATE_HZ, format="OGG")
    original = buffer.getvalue()
    serial = int.from_bytes(original[14:18], "little")
    renumbered = with_serial(original, serial ^ 0x5A5A5A5A)
    assert renumbered != original
    assert with_serial(renumbered, serial) == original
