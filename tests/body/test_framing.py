"""How much of a body is in the picture, against pictures: one that is cut off, within one that is not."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from bridge.render.camera import Camera, clip_matrix
from bridge.render.snapshots import make_painter
from md_jax.body import framing, lbs
from md_jax.body.framing import Lens, cameras_on, check_framing, share_in_picture, surface_of
from md_jax.body.model import load_body
from md_jax.errors import UserError
from md_jax.mocap.statistics import load_statistics
from md_jax.run.torch_side import body_centre

HEIGHT = 96  # pixels of the small picture
WIDER = 4  # times as much is seen by the large one


@pytest.fixture(scope="module")
def standing():
    """(body, vertices of the mean pose of walking)."""
    body = load_body()
    return body, np.asarray(lbs.pose(lbs.bake(body), load_statistics("walking").body_mean[None]))


@pytest.fixture(scope="module")
def paint(standing):
    body = standing[0]
    return make_painter(np.asarray(body.triangles), np.zeros_like(np.asarray(body.vertex_colors)), supersample=1)


def lens_of(body, distance=3.0, fov=0.8, aspect=1.0):
    return Lens(distance, fov, aspect, body_centre(body))


def painted(paint, verts, lens, camera, wider=1):
    """How much of each pixel the body covers, in a picture `wider` times as wide and high around the same middle."""
    fov = 2 * math.atan(wider * math.tan(lens.fov / 2))
    height, width = wider * HEIGHT, round(wider * HEIGHT * lens.aspect)
    (picture,) = paint(
        verts, azimuth=camera[0], elevation=camera[1], fov=fov, distance=lens.distance, target=np.array(lens.target),
        height=height, width=width,
    )  # fmt: skip
    return 1 - picture.max(axis=-1) / 255


CASES = {
    "all of it": ((0, 0, 0), 3.0, 1.0, (0.3, 0.2)),
    "legs cut off": ((0, -0.7, 0), 2.5, 1.0, (2.0, 0.1)),
    "head cut off": ((0, 0.6, 0), 2.5, 1.0, (-1.0, -0.2)),
    "half of it at the left": ((1.25, 0, 0), 3.0, 1.0, (0.0, 0.0)),
    "a narrow picture": ((0, 0, 0), 2.5, 0.125, (0.0, 0.0)),
    "too near": ((0, 0, 0), 1.6, 1.0, (1.57, 0.2)),
    "outside": ((0, 3.0, 0), 3.0, 1.0, (0.5, 0.3)),
}


def card(camera):
    """A flat body of 0.6 x 1.7 m that faces a camera, with more vertices in its middle: (body, vertices)."""
    columns, rows = np.linspace(-1, 1, 121), np.linspace(-1, 1, 171)
    x, y = np.meshgrid(0.3 * columns * np.abs(columns) ** 0.5, 0.85 * rows)
    number = np.arange(x.size).reshape(x.shape)
    a, b, c, d = (each.ravel() for each in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    triangles = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    flat = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)
    turned, up = Rotation.from_euler("YX", [camera[0], -camera[1]]).apply(flat), np.array([0, 0.85, 0])
    return SimpleNamespace(v_template=flat + up, triangles=triangles), (turned + up)[None].astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_a_picture_of_a_card_shows_as_much(case):
    """All of a card that faces the camera is seen, and is equally far: its pixels in the picture, over those of a
    picture with room on all sides, are the share of its surface."""
    moved, distance, aspect, camera = CASES[case]
    body, verts = card(camera)
    verts, lens = verts + np.array(moved, np.float32), lens_of(body, distance, aspect=aspect)
    paint = make_painter(body.triangles, np.zeros((len(body.v_template), 3)), supersample=2)
    seen, whole = (painted(paint, verts, lens, camera, wider).sum() for wider in (1, WIDER))
    assert whole > 500, "the large picture must show the card"
    found = share_in_picture(verts, surface_of(body), tuple(np.array([x]) for x in camera), lens)
    assert found.shape == (1, 1) and found[0, 0] == pytest.approx(seen / whole, abs=0.01)


@pytest.mark.parametrize("case", CASES)
def test_all_the_surface_counts_hidden_or_not(case, standing, paint):
    """The renderer's own projection decides about each vertex; pictures show whether all of the body is in or none."""
    moved, distance, aspect, camera = CASES[case]
    body, verts = standing
    verts, lens = verts + np.array(moved, np.float32), lens_of(body, distance, aspect=aspect)
    angles = (torch.tensor([x], dtype=torch.float64) for x in camera)
    eye = Camera(*angles, lens.distance, lens.fov, torch.tensor(lens.target, dtype=torch.float64))
    x, y, _, depth = clip_matrix(eye, HEIGHT, HEIGHT * aspect)[0].numpy() @ np.insert(verts[0], 3, 1, axis=1).T
    inside = (np.abs(x) <= depth) & (np.abs(y) <= depth)
    found = share_in_picture(verts, surface_of(body), tuple(np.array([x]) for x in camera), lens)[0, 0]
    assert found == pytest.approx(surface_of(body)[inside].sum(), abs=1e-6)
    seen, whole = ((painted(paint, verts, lens, camera, wider) > 0).sum() for wider in (1, WIDER))
    assert (found > 1 - 1e-9) == (seen == whole) == (case == "all of it"), (seen, whole)
    assert (found == 0) == (seen == 0) == (case == "outside")


def test_the_middle_of_the_large_picture_is_the_small_one(standing, paint):
    """The oracle's own oracle."""
    body, verts = standing
    lens, verts = lens_of(body, 2.0), verts + np.array([0.2, 0.4, 0], np.float32)
    small, large = (painted(paint, verts, lens, (0.7, 0.2), wider) > 0 for wider in (1, WIDER))
    edge = (WIDER - 1) * HEIGHT // 2
    assert (small != large[edge : edge + HEIGHT, edge : edge + HEIGHT]).mean() < 0.002 and small.any()


def test_what_is_behind_the_camera_is_in_no_picture(standing):
    body, verts = standing
    behind = verts + np.array([0, 0, 4.0], np.float32)
    camera = (np.zeros(1), np.zeros(1))
    assert share_in_picture(behind, surface_of(body), camera, lens_of(body, 3.0)) == 0


def test_cameras_stand_all_around_and_at_both_ends_of_the_elevation():
    around, above = cameras_on([(-math.pi, math.pi)], (0.1, 0.3))
    assert np.abs(np.diff(np.unique(around))).max() <= framing.TURN + 1e-9
    np.testing.assert_allclose(np.unique(above), [0.1, 0.2, 0.3])
    around, above = cameras_on([(1.0, 1.0), (2.0, 2.0)], (0.2, 0.2))
    np.testing.assert_allclose(around, [1.0, 2.0])
    np.testing.assert_allclose(above, 0.2)


def test_the_refusal_names_what_would_do(standing):
    body, verts = standing
    cameras, surface = cameras_on([(-math.pi, math.pi)], (0.1, 0.3)), surface_of(body)

    def refusal(verts, lens, root="fixed"):
        with pytest.raises(UserError) as error:
            check_framing(verts, surface, cameras, lens, "a walk", root)
        return str(error.value)

    near = lens_of(body, 1.2)
    text = refusal(verts, near)
    share = share_in_picture(verts, surface, cameras, near).mean()
    assert text.startswith(f"the start of 'a walk' has {int(100 * share)} % of the body in the picture")
    distance = float(text.split("--distance=")[1].split()[0])
    check_framing(verts, surface, cameras, lens_of(body, distance), "a walk", "fixed")
    assert "--width" in refusal(verts, lens_of(body, aspect=0.1)) and "--width" not in text and "--root" not in text
    high = verts + np.array([0, 0.8, 0], np.float32)
    assert "--root=orient" in refusal(high, lens_of(body), "full")
    one_low = np.concatenate([verts, verts, verts, high])
    assert "--root" not in refusal(one_low, lens_of(body))  # a single frame is enough
