"""A picture of a motion beside a real one: python -m benchmarks.beside MOTION.npz --action=walking --out=PICTURE.png

The real one is the first held-out recording of the action, by name, that lasts as long; it is not selected otherwise.
Both are shown at the same moments from the front and from their left; the camera goes along. A PICTURE.webp moves: both
stand on a floor with a line every metre, where `md_jax.ground.place` puts them by their poses alone.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from md_jax.body.model import Body, load_body
from md_jax.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle, yaw_matrix, yaw_of
from md_jax.evaluate.yardstick import HELD_OUT
from md_jax.files import write_bytes
from md_jax.ground.place import on_ground
from md_jax.ground.points import stander
from md_jax.mocap.clips import Clip, split_source
from md_jax.mocap.motion import Motion, load_motion, resample
from md_jax.mocap.posing import vertices_of
from md_jax.options.command import parse_simple, stop
from md_jax.output.pictures import VIEWS, film, follow, frame_all, frame_closer, make_renderer
from md_jax.output.sheet import Row, draw_sheet, draw_views, encode_png
from md_jax.run.torch_side import run_program

FRAMES = 10  # shown in a still picture
SHOWN = {"from the front": VIEWS["front"], "from its left": VIEWS["left"]}
TILE, RATE, QUALITY = 256, 15.0, 70  # of a moving picture: pixels of a tile's height, frames a second, WebP's quality


def real_clip(action: str, seconds: float) -> Clip:
    """The recording to show, by its name."""
    held_out = split_source(None, [action], HELD_OUT).held_out
    for clip in sorted(held_out, key=lambda clip: clip.name):
        if clip.duration >= seconds:
            return clip
    stop(f"no held-out recording of {action!r} lasts {seconds:g} s: expected a shorter motion.")


def forward(motion: Motion) -> Motion:
    """A motion without translation that heads to +z in its first frame."""
    turns = axis_angle_to_matrix(motion.root_orient)
    turns = np.asarray(matrix_to_axis_angle(yaw_matrix(-yaw_of(turns[0])) @ turns))
    return Motion(motion.body_pose, turns, 0 * motion.transl, motion.fps)


def still(body: Body, ours: Motion, real: Motion, title: str, subtitle: str) -> bytes:
    """Both as a sheet, in PNG."""
    frames = np.linspace(0, len(ours.body_pose) - 1, FRAMES).round().astype(int)
    bodies = [vertices_of(body, each)[frames] for each in (ours, real)]
    clips, framing = frame_closer(bodies, list(SHOWN.values()), TILE)
    render = make_renderer(body)
    rows = [
        Row(name, note, render(vertices, azimuth, framing), accent)
        for name, vertices, accent in (("ours", clips[0], True), ("real", clips[1], False))
        for note, azimuth in SHOWN.items()
    ]
    return encode_png(draw_sheet(title, subtitle, rows, (frames / ours.fps).tolist()))


def moving(body: Body, ours: Motion, real: Motion, title: str) -> bytes:
    """Both as a film that goes round, in WebP."""
    feet, render = stander(body), make_renderer(body)
    placed = [resample(on_ground(each, feet, "travel").motion, RATE) for each in (ours, real)]
    filmed = [follow(vertices_of(body, each), RATE) for each in placed]
    frames = min(len(path) for _, path in filmed)
    framing = frame_all([moved for moved, _ in filmed], list(SHOWN.values()), TILE)
    tiles = {
        f"{name}, {view}": film(moved[:frames], path[:frames], azimuth, framing, render)
        for name, (moved, path) in zip(("ours", "real"), filmed, strict=True)
        for view, azimuth in SHOWN.items()
    }
    first, *others = (Image.fromarray(frame) for frame in draw_views(tiles, title))
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=others, duration=1000 / RATE, loop=0, quality=QUALITY)
    return file.getvalue()


def main() -> None:
    """Pose both, film them, and write the picture."""
    args = parse_simple(
        __doc__, "benchmarks.beside", rest="motion", needed=("out",),
        action=("walking", "of the real motion"),
        out=("", "the PNG or WebP file to write"),
    )  # fmt: skip
    if len(args.motion) != 1:
        stop(f"expected one motion file, got {len(args.motion)}.")
    body, ours = load_body(), load_motion(args.motion[0])
    clip = real_clip(args.action, ours.duration)
    whole = Motion(clip.body_pose, clip.root_orient, 0 * clip.root_orient, clip.fps)
    real = resample(whole, ours.fps)
    frames = len(ours.body_pose)
    first = {name: getattr(real, name)[:frames] for name in ("body_pose", "root_orient", "transl", "face_and_hands")}
    pair = forward(ours), forward(dataclasses.replace(real, **first))
    if Path(args.out).suffix == ".webp":
        data = moving(body, *pair, ours.prompt)
    else:
        subtitle = f"real: motion capture that no prior was trained on ({clip.recording})"
        data = still(body, *pair, ours.prompt, subtitle)
    write_bytes(Path(args.out), data)


if __name__ == "__main__":
    run_program(main)
