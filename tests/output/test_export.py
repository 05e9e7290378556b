"""The products of a run: all there, and what the pictures show, with a stand-in renderer and with the real one."""

import dataclasses
import errno
import math
import os

import av
import numpy as np
import pytest
from PIL import Image

from md_jax.body.model import load_body
from md_jax.errors import UserError
from md_jax.mocap.motion import Motion, load_motion
from md_jax.mocap.posing import Posed, vertices_of
from md_jax.output import export, pictures, sheet

NAMES = ["motion.bvh", "motion.glb", "motion.mp4", "motion.npz", "sheet.png"]


@pytest.fixture(scope="module")
def body():
    return load_body()


def _motion(frames=4):
    swing = np.sin(np.arange(frames))
    pose = np.zeros((frames, 21, 3))
    pose[:, 0, 0], pose[:, 1, 0] = 0.6 * swing, -0.6 * swing  # hips
    return Motion(
        body_pose=pose, root_orient=np.zeros((frames, 3)), transl=np.zeros((frames, 3)), fps=30.0, prompt="a test"
    )


def _stand_in(calls):
    """Draws the vertices as dots, seen along the camera's axis without perspective."""

    def render_frames(vertices, azimuth, framing):
        calls.append((len(vertices), azimuth, framing))
        images = np.full((len(vertices), framing.height, framing.width, 3), sheet.PANEL, np.uint8)
        offset = vertices - np.asarray(framing.target)
        across = offset[..., 0] * math.cos(azimuth) - offset[..., 2] * math.sin(azimuth)
        pixels = framing.height / (2 * framing.distance * math.tan(pictures.FOV / 2))
        x = np.clip(framing.width / 2 + pixels * across, 0, framing.width - 1).astype(int)
        y = np.clip(framing.height / 2 - pixels * offset[..., 1], 0, framing.height - 1).astype(int)
        for f in range(len(vertices)):
            images[f, y[f], x[f]] = (60, 60, 60)
        return images

    return render_frames


def test_a_run_leaves_every_file_and_nothing_else(tmp_path, body):
    calls, motion = [], _motion(frames=28)
    still = dataclasses.replace(motion, body_pose=np.zeros((28, 21, 3)))
    posed, control = (Posed(each, vertices_of(body, each)) for each in (motion, still))
    paths = export.export_motion(
        tmp_path, posed, body, subtitle="seed 0", controls={"mean pose": control}, render_frames=_stand_in(calls)
    )
    assert sorted(paths) == sorted(p.name for p in tmp_path.iterdir()) == NAMES
    assert load_motion(paths["motion.npz"]).body_pose.shape == (28, 21, 3)
    with np.load(paths["motion.npz"]) as data:
        assert str(data["up_axis"]) == "z", "as AMASS has it"
    with av.open(str(paths["motion.mp4"])) as container:
        assert container.streams.video[0].average_rate == 30
        assert sum(1 for _ in container.decode(video=0)) == 140  # 4 s: five times round
    assert "Frames: 28" in paths["motion.bvh"].read_text()
    with Image.open(paths["sheet.png"]) as image:
        assert image.width > 4 * calls[-1][2].width and image.height > 3 * calls[-1][2].height

    video, rows = calls[:4], calls[4:]
    assert [(n, a) for n, a, _ in video] == [(28, a) for a in pictures.VIEWS.values()]
    left = pictures.VIEWS["left"]
    assert [(n, a) for n, a, _ in rows] == [(10, 0.0), (10, left), (10, left)], "ten of the frames"
    assert len({framing for _, _, framing in rows}) == 1, "what is compared is framed alike"


def test_a_full_disk_is_one_line(tmp_path, body, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    for write in (export.write_skeleton, export.write_skinned):
        with pytest.raises(UserError, match="No space left on device"):
            write(tmp_path / "motion.x", _motion(), body)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("turn", [0.0, 0.4, 2.0])
def test_framing_shows_everything_as_large_as_fits(turn):
    rng = np.random.default_rng(4)
    clip = rng.uniform(-1, 1, (3, 500, 3)) * (0.4, 1.0, 0.7) + (0.3, 5.0, -2.0)
    azimuths = (turn, turn + 1.0)
    framing = pictures.frame_all([clip], azimuths, 200)
    assert framing.height == 200 and 110 <= framing.width <= 220 and framing.width % 2 == 0
    reach = []
    for azimuth in azimuths:
        forward = -np.array([math.sin(azimuth), 0, math.cos(azimuth)])
        right = np.array([math.cos(azimuth), 0, -math.sin(azimuth)])
        offset = clip - (np.asarray(framing.target) - framing.distance * forward)
        depth = offset @ forward * math.tan(pictures.FOV / 2)
        reach += [np.abs(offset[..., 1] / depth).max()]
        reach += [np.abs(offset @ right / depth).max() * framing.height / framing.width]
    assert max(reach) == pytest.approx(1 / pictures.MARGIN, rel=1e-6)
    small = pictures.frame_all([clip], azimuths, 200, max_width=60)
    assert small.width <= 60 and small.distance == pytest.approx(framing.distance, rel=0.03)


def test_the_camera_goes_along_where_bodies_come_out_larger():
    """A body that travels is drawn as large as one that stands; one that stands is left where it is."""
    rng = np.random.default_rng(6)
    standing = np.repeat(rng.uniform(-1, 1, (1, 300, 3)) * (0.4, 0.9, 0.3), 6, axis=0) + np.array((0, 1, 0))
    travels = standing + np.linspace(0, 2, 6)[:, None, None] * np.array((1, 0.15, 0.5))
    clips, framing = pictures.frame_closer([standing], [0.0, 1.57], 200)
    assert clips[0] is standing and framing == pictures.frame_all([standing], [0.0, 1.57], 200)
    (moved,), framing = pictures.frame_closer([travels], [0.0, 1.57], 200)
    far = pictures.frame_all([travels], [0.0, 1.57], 200)
    assert framing.height / framing.distance > 1.25 * far.height / far.distance
    middle = (moved.min(1) + moved.max(1)) / 2
    np.testing.assert_allclose(middle[:, (0, 2)], 0, atol=1e-12)
    np.testing.assert_array_equal(moved[..., 1], travels[..., 1])  # heights stay: a jump is seen
    np.testing.assert_allclose(np.diff(moved, axis=1), np.diff(travels, axis=1), atol=1e-12)


@pytest.mark.parametrize(
    ("turn", "left"),
    [
        ((0, 0, 0), "from its left"),
        ((0, 0.9, 0), "from its left"),  # 52 degrees: its left side still faces that camera more than any other
        ((0, 1.2, 0), "camera at 90°"),
        ((0, 0, 2.5), "camera at 90°"),  # a cartwheel
        ((1.4, 0, 0), "camera at 90°"),  # on its face: no side of it is in front
    ],
)
def test_sides_are_named_after_the_body_only_while_they_are_there(turn, left):
    steady, turning = _motion(), dataclasses.replace(_motion(), root_orient=np.linspace((0, 0, 0), turn, 4))
    names = pictures.names_of_views([steady, turning])
    assert names["left"] == left and list(names) == list(pictures.VIEWS)
    assert (names["front"] == "from the front") == left.startswith("from")


def test_preview_shows_each_motion(tmp_path):
    calls = []
    vertices = np.random.default_rng(5).uniform(-1, 1, (6, 20, 50, 3))
    pictures.write_preview(tmp_path / "p.png", vertices, _stand_in(calls), "step 1 of 2")
    assert [n for n, _, _ in calls] == [8] * 4
    assert (tmp_path / "p.png").stat().st_size < 100_000


# --- the real renderer ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(body):
    """Front and left views of the body, arms down on one side and raised on the other, 128 pixels high."""
    pose = np.zeros((2, 21, 3))
    pose[0, 15, 2], pose[0, 16, 2] = -1.2, -1.2  # left arm down, right arm up
    pose[1, 15, 2], pose[1, 16, 2] = 1.2, 1.2
    still = np.zeros((2, 3))
    motion = Motion(body_pose=pose, root_orient=still, transl=still, fps=10.0, prompt="a test")
    vertices = vertices_of(body, motion)
    framing = pictures.frame_all([vertices], list(pictures.VIEWS.values()), 128)
    render_frames = pictures.make_renderer(body)
    return {view: render_frames(vertices, azimuth, framing) for view, azimuth in pictures.VIEWS.items()}


def _body_mask(image):
    return (np.abs(image.astype(int) - sheet.PANEL) > 3).any(-1)


def test_the_whole_body_is_in_the_picture(seen):
    for images in seen.values():
        assert images.dtype == np.uint8 and images.shape[0] == 2 and images.shape[1] == 128
        for image in images:
            mask = _body_mask(image)
            assert 0.05 < mask.mean() < 0.6
            rim = np.concatenate([mask[:2].ravel(), mask[-2:].ravel(), mask[:, :2].ravel(), mask[:, -2:].ravel()])
            assert not rim.any()
            assert not (_body_mask(image) & (image == 0).all(-1)).any(), "no unlit holes"


def test_views_are_named_as_the_body_sees_them(seen):
    """From the front the body's left hand is on the right; frame 0 has it low. From behind it is the other way."""

    def top_of_half(image, right):
        half = (
            _body_mask(image)[:, image.shape[1] * 5 // 8 :]
            if right
            else _body_mask(image)[:, : image.shape[1] * 3 // 8]
        )
        rows = np.flatnonzero(half.any(1))
        return rows[0] if len(rows) else 128

    front, back = seen["front"], seen["back"]
    assert top_of_half(front[0], right=True) > top_of_half(front[0], right=False) + 20
    assert top_of_half(front[1], right=True) < top_of_half(front[1], right=False) - 20
    assert top_of_half(back[0], right=True) < top_of_half(back[0], right=False) - 20
    # The feet point forwards: to the left of the picture as seen from the left.
    feet = {view: np.flatnonzero(_body_mask(seen[view][0])[-25:].any(0)) for view in ("left", "right")}
    middle = seen["left"].shape[2] / 2
    assert feet["left"].min() - middle < -(feet["left"].max() - middle)
    assert feet["right"].max() - middle > -(feet["right"].min() - middle)


def test_left_and_right_look_different(seen):
    left, right = (seen[view][0][_body_mask(seen[view][0])].mean(0) for view in ("left", "right"))
    assert np.abs(left - right).max() > 15
