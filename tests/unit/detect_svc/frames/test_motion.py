"""The motion gate with pictures of known content."""

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from detect_svc.frames.motion import MotionGate, shrunk

Luma = NDArray[np.uint8]


def scene(seed: int = 1) -> Luma:
    """A picture with contrasts of all sizes: blocks and gradients."""
    random = np.random.default_rng(seed)
    blocks = np.kron(random.integers(40, 200, (9, 16)), np.ones((40, 40)))
    return np.asarray(blocks + np.linspace(-20, 20, 640)[None, :], np.uint8)


def with_person(picture: Luma, left: int, level: int = 230) -> Luma:
    seen = picture.copy()
    seen[150:300, left : left + 50] = level
    return seen


def looks(*pictures: Luma, sensitivity: float = 0.5) -> list[float]:
    gate = MotionGate(sensitivity)
    return [gate.look(picture) for picture in pictures]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1080, 1920), (90, 160)),
        ((720, 1280), (90, 160)),
        ((360, 640), (90, 160)),
        ((576, 704), (82, 100)),
        ((1920, 1080), (160, 90)),
        ((60, 80), (60, 80)),
        ((1, 30_000), (1, 159)),
        ((30_000, 1), (159, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_pictures_are_averaged_to_at_most_160_by_90(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small = shrunk(np.full(size, 77, np.uint8))

    assert small.shape == expected
    assert (small == 77).all()


def test_averages_are_rounded_down() -> None:
    picture = np.zeros((180, 320), np.uint8)
    picture[:2, :2] = [[1, 2], [2, 2]]

    assert shrunk(picture)[0, 0] == 1


def test_a_walker_moves() -> None:
    background = scene()

    assert looks(*(with_person(background, left) for left in (100, 160, 220)))[1:] == pytest.approx(
        [0.06, 0.06], abs=0.02
    )


def test_nothing_moves_in_a_still_picture() -> None:
    assert looks(*[scene()] * 5) == [0.0] * 5


@pytest.mark.parametrize("sigma", [5, 15, 30])
def test_noise_moves_nothing(sigma: int) -> None:
    random = np.random.default_rng(2)
    dark = scene() // 4
    noisy = [np.clip(dark + random.normal(0, sigma, dark.shape), 0, 255).astype(np.uint8) for _ in range(20)]

    assert max(looks(*noisy)) < 0.002


def test_light_that_changes_everywhere_moves_nothing() -> None:
    picture = scene().astype(float)
    brighter = [np.clip(picture * gain + lift, 0, 255).astype(np.uint8) for gain, lift in LIGHTS]

    assert max(looks(*brighter)) < 0.01


# Exposure, dusk, and light that is switched on.
LIGHTS = [(1, 0), (1.05, 3), (1.1, 6), (0.9, -5), (0.8, 0), (0.8, 0), (0.4, 20), (0.4, 20), (0.4, 20), (1, 0)]


def test_a_switch_to_infrared_moves_for_a_moment_only() -> None:
    day, night = scene(1), scene(2) // 3

    assert max(looks(day, day, night, night, night, night)[3:]) < 0.002


def test_rain_moves_much_less_than_a_walker() -> None:
    random = np.random.default_rng(3)
    rainy = []
    for _ in range(20):
        picture = scene().copy()
        for _ in range(60):
            x, y = random.integers(0, 630), random.integers(0, 320)
            streak = picture[y : y + 30, x : x + 2]
            streak[:] = np.minimum(streak.astype(int) + 50, 255)
        rainy.append(picture)

    assert max(looks(*rainy)) < 0.015


def test_somebody_who_comes_and_stands_still_counts_for_a_while() -> None:
    background = scene()
    seen = looks(*[background] * 10, *[with_person(background, 300)] * 60)

    assert min(seen[10:30]) > 0.02
    assert max(seen[:10]) == 0.0


def test_what_stays_becomes_the_background() -> None:
    background = scene()
    seen = looks(*[background] * 3, *[with_person(background, 300)] * 250)

    assert seen[-1] == 0.0


def test_sensitivity_decides_how_faint_movement_may_be() -> None:
    grey = np.full((360, 640), 100, np.uint8)
    faint = [with_person(grey, left, 112) for left in (100, 160)]

    assert looks(*faint, sensitivity=0.1)[1] == 0.0
    assert looks(*faint, sensitivity=1.0)[1] > 0.02


def test_a_gate_goes_on_where_another_stopped() -> None:
    background = scene()
    pictures = [with_person(background, left) for left in (0, 0, 80, 80, 200, 400)]
    whole = looks(*pictures)
    first, second = MotionGate(0.5), MotionGate(0.5)

    halves = [first.look(picture) for picture in pictures[:3]]
    second.restore(first.state())

    assert halves + [second.look(picture) for picture in pictures[3:]] == whole


def test_another_size_begins_anew() -> None:
    assert looks(scene(), scene()[:180, :320], scene()) == [0.0, 0.0, 0.0]


def test_the_same_movement_is_found_on_every_machine() -> None:
    """In integers: what one machine computed holds for all."""
    random = np.random.default_rng(4)
    background = random.integers(0, 255, (720, 1280), np.uint8)
    gate, digest = MotionGate(0.5), hashlib.sha256()
    for number in range(30):
        picture = background.copy()
        picture[200:400, 30 * number : 30 * number + 120] += 60
        digest.update(f"{gate.look(picture)} ".encode())
        digest.update(shrunk(picture).tobytes())

    assert digest.hexdigest() == "0f65a0bfc1958ebbc0c79a31d134c13799dd2515b92a82ab2cad93ec63204553"
