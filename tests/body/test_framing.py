"""How much of a body is in the picture, against pictures: one that is cut off, within one that is not."""

import math

import numpy as np
import pytest

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
    """Which pixels show the body, in a picture `wider` times as wide and high around the same middle."""
    fov = 2 * math.atan(wider * math.tan(lens.fov / 2))
    height, width = wider * HEIGHT, round(wider * HEIGHT * lens.aspect)
    (picture,) = paint(
        verts, azimuth=camera[0], elevation=camera[1], fov=fov, distance=lens.distance, target=np.array(lens.target),
        height=height, width=width,
    )  # fmt: skip
    return picture.max(axis=-1) < 255


CASES = {
    "all of it": ((0, 0, 0), 3.0, 1.0, (0.3, 0.2)),
    "legs cut off": ((0, -0.7, 0), 2.5, 1.0, (2.0, 0.1)),
    "head cut off": ((0, 0.6, 0), 2.5, 1.0, (-1.0, -0.2)),
    "half of it at the left": ((1.25, 0, 0), 3.0, 1.0, (0.0, 0.0)),
    "a narrow picture": ((0, 0, 0), 2.5, 0.15, (0.0, 0.0)),
    "too near": ((0, 0, 0), 1.6, 1.0, (1.57, 0.2)),
    "outside": ((0, 3.0, 0), 3.0, 1.0, (0.5, 0.3)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_picture_shows_as_much(case, standing, paint):
    """Body pixels of the picture over those of a picture with room on all sides. Surface that is far or hidden counts
    in full, and pixels do not see that, so the two agree within some percents."""
    moved, distance, aspect, camera = CASES[case]
    body, verts = standing
    verts, lens = verts + np.array(moved, np.float32), lens_of(body, distance, aspect=aspect)
    seen, whole = (painted(paint, verts, lens, camera, wider).sum() for wider in (1, WIDER))
    assert whole > 500, "the large picture must show the body"
    found = share_in_picture(verts, surface_of(body), tuple(np.array([x]) for x in camera), lens)
    assert found.shape == (1, 1) and found[0, 0] == pytest.approx(seen / whole, abs=0.08)
    assert (found[0, 0] > 1 - 1e-9) == (seen == whole) == (case == "all of it"), (seen, whole)
    assert (found[0, 0] == 0) == (seen == 0) == (case == "outside")


def test_the_middle_of_the_large_picture_is_the_small_one(standing, paint):
    """The oracle's own oracle."""
    body, verts = standing
    lens, verts = lens_of(body, 2.0), verts + np.array([0.2, 0.4, 0], np.float32)
    small, large = painted(paint, verts, lens, (0.7, 0.2)), painted(paint, verts, lens, (0.7, 0.2), WIDER)
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
