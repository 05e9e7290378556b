"""Lines on the floor against points that a pinhole camera sees, and a video's camera against a body that travels."""

import itertools
import math

import numpy as np
import pytest

from md_jax.output import pictures, sheet
from md_jax.output.grid import APART, LINE, draw_grid

FOV, DISTANCE, TARGET = math.radians(25), 5.0, (0.3, 0.9, -0.2)
HEIGHT, WIDTH = 600, 640


def empty(frames):
    return np.full((frames, HEIGHT, WIDTH, 3), sheet.PANEL, np.uint8)


def pixel_of(point, azimuth):
    """(row, column) at which a level pinhole camera sees a point."""
    forward = -np.array([math.sin(azimuth), 0, math.cos(azimuth)])
    right = np.array([math.cos(azimuth), 0, -math.sin(azimuth)])
    offset = np.asarray(point) - (np.array(TARGET) - DISTANCE * forward)
    scale = HEIGHT / 2 / (offset @ forward * math.tan(FOV / 2))
    return HEIGHT / 2 - offset[1] * scale, WIDTH / 2 + offset @ right * scale


@pytest.mark.parametrize("azimuth", [0.0, 0.7, 2.0, 4.5])
@pytest.mark.parametrize("gone", [(0.0, 0.0), (1.3, -0.6)])
def test_lines_are_where_a_camera_sees_them(azimuth, gone):
    """Points of the lines are drawn; points half way between are as empty as before."""
    path = np.array([[gone[0], 0, gone[1]]])
    picture = draw_grid(empty(1), path, azimuth=azimuth, fov=FOV, distance=DISTANCE, target=TARGET)[0]
    seen = 0
    for x in np.arange(-3, 4) * APART / 2:
        for z in np.arange(-3, 4) * APART / 2:
            row, column = pixel_of((x - gone[0], 0, z - gone[1]), azimuth)
            near = np.hypot(x - gone[0] - TARGET[0], z - gone[1] - TARGET[2]) < 0.75
            if not (near and 0 <= row < HEIGHT - 1 and 0 <= column < WIDTH - 1):
                continue
            lighter, seen = picture[int(row), int(column), 0] - float(LINE[0]), seen + 1
            on_line = x % APART == 0 or z % APART == 0
            empty_is = sheet.PANEL[0] - LINE[0]
            assert lighter < empty_is / 2 if on_line else lighter == empty_is, (x, z)  # far lines are below a pixel
    assert seen > 3
    assert (picture[: HEIGHT // 2] == sheet.PANEL).all()


def test_bodies_stand_before_the_lines():
    pictures_of_it = empty(2)
    pictures_of_it[:, 100:590, 250:400] = (10, 20, 30)
    drawn = draw_grid(pictures_of_it, np.zeros((2, 3)), azimuth=0.3, fov=FOV, distance=DISTANCE, target=TARGET)
    np.testing.assert_array_equal(drawn[:, 100:590, 250:400], pictures_of_it[:, 100:590, 250:400])
    assert (drawn != pictures_of_it).any() and (pictures_of_it[:, :100] == sheet.PANEL).all()


def test_the_video_goes_along_with_a_body_that_travels():
    """It stays in the middle, as large as one that stands; its camera goes evenly, and the lines pass by."""
    rng = np.random.default_rng(3)
    standing = np.repeat(rng.uniform(-1, 1, (1, 300, 3)) * (0.4, 0.9, 0.3), 60, axis=0) + np.array((0, 0.9, 0))
    sway = 0.05 * np.sin(np.arange(60))[:, None, None] * (1, 0, 0)
    travels = standing + np.linspace(0, 8, 60)[:, None, None] * np.array((0.6, 0, 0.8)) + sway
    seen = {}

    def render(vertices, azimuth, framing):
        seen[azimuth] = vertices, framing
        return np.full((len(vertices), framing.height, framing.width, 3), sheet.PANEL, np.uint8)

    names = {view: view for view in pictures.VIEWS}
    frames = pictures.render_views(travels, 30.0, "a test", render, names=names)
    moved, framing = seen[0.0]
    middle = (moved.min(1) + moved.max(1))[:, (0, 2)] / 2
    assert np.abs(middle).max() < 0.1
    assert all((one != other).any() for one, other in itertools.pairwise(frames[:, 60:-40]))
    steps = np.diff((travels - moved)[:, 0], axis=0)
    assert np.abs(steps[5:-5] - steps[30]).max() < 0.01
    still = pictures.render_views(standing, 30.0, "a test", render, names=names)
    assert framing.distance < 1.1 * seen[0.0][1].distance and seen[0.0][0] is standing
    np.testing.assert_array_equal(still[0, 60:-40], still[30, 60:-40])
