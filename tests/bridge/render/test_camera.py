"""bridge.render.camera: where cameras stand, what they see, and what prompts call it."""

import math

import pytest
import torch

from bridge.render.camera import (
    Camera,
    clip_matrix,
    eye_position,
    framing_distance,
)

DEGREE = math.pi / 180


def camera(azimuth=(0.0,), elevation=0.0, distance=3.0, fov=0.9, target=(0.0, 0.0, 0.0)) -> Camera:
    return Camera(
        torch.tensor(azimuth), torch.full((len(azimuth),), float(elevation)), distance, fov, torch.tensor(target)
    )


def seen(view: Camera, point, height=100, width=200) -> torch.Tensor:
    """(N,3) normalised device x, y and the depth of a point."""
    clip = clip_matrix(view, height, width) @ torch.tensor([*point, 1.0])
    return torch.cat([clip[:, :2] / clip[:, 3:], clip[:, 3:]], 1)


def test_azimuth_zero_is_in_front_and_ninety_degrees_at_the_left():
    eyes = eye_position(camera((0.0, 90 * DEGREE, 180 * DEGREE)))
    torch.testing.assert_close(eyes, torch.tensor([[0.0, 0, 3], [3, 0, 0], [0, 0, -3]]), atol=1e-6, rtol=0)


def test_the_target_is_in_the_middle_at_the_distance():
    view = camera((0.3, 2.0, -1.0), 0.4, target=(0.5, 1.0, -2.0))
    torch.testing.assert_close(
        seen(view, (0.5, 1.0, -2.0)), torch.tensor([[0.0, 0, 3]]).expand(3, 3), atol=1e-6, rtol=0
    )


def test_from_the_front_the_left_side_is_on_the_right_and_up_is_up():
    x, y, _ = seen(camera(), (0.5, 0.7, 0.0))[0]
    half = 3 * math.tan(0.45)
    assert x == pytest.approx(0.5 / half / 2, rel=1e-5) and y == pytest.approx(0.7 / half, rel=1e-5)


def test_depth_range_is_minus_one_to_one():
    matrix = clip_matrix(camera(), 10, 10, near=0.5, far=20.0)[0]
    for depth, expected in ((0.5, -1.0), (20.0, 1.0)):
        clip = matrix @ torch.tensor([0.0, 0.0, 3.0 - depth, 1.0])
        assert clip[2] / clip[3] == pytest.approx(expected, abs=1e-5)


def test_straight_from_above_is_no_singularity():
    matrix = clip_matrix(camera((0.2,), math.pi / 2), 10, 10)
    assert torch.isfinite(matrix).all() and matrix[0, :2, :3].norm(dim=-1).min() > 1


def test_distances_fields_of_view_and_targets_may_differ():
    view = Camera(
        torch.zeros(2),
        torch.zeros(2),
        torch.tensor([2.0, 4.0]),
        torch.tensor([0.5, 1.0]),
        torch.tensor([[0.0, 0, 0], [0, 1, 0]]),
    )
    torch.testing.assert_close(eye_position(view), torch.tensor([[0.0, 0, 2], [0, 1, 4]]))
    edge = 4 * math.tan(0.5) + 1
    assert seen(view, (0.0, edge, 0.0))[1, 1] == pytest.approx(1.0, rel=1e-5)


def test_framing_fills_the_asked_share_of_the_height():
    distance = framing_distance(1.7, 0.9, 0.7)
    top = seen(camera(distance=distance), (0.0, 0.85, 0.0))[0, 1]
    assert top == pytest.approx(0.7, rel=1e-5)
    with pytest.raises(ValueError, match="fill"):
        framing_distance(1.7, 0.9, 0.0)


@pytest.mark.parametrize(
    "change", [{"elevation": torch.zeros(3)}, {"target": torch.zeros(2)}, {"fov_y": torch.ones(4)}]
)
def test_shapes_that_do_not_fit_are_named(change):
    arguments = {
        "azimuth": torch.zeros(2),
        "elevation": torch.zeros(2),
        "distance": 3.0,
        "fov_y": 0.9,
        "target": torch.zeros(3),
    }
    with pytest.raises(ValueError, match="Camera expects"):
        Camera(**{**arguments, **change})
