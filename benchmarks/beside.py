"""A picture of a motion beside a real one: python -m benchmarks.beside MOTION.npz --action=walking --out=PICTURE.png

The real one is the first held-out recording of the action, by name, that lasts as long; it is not selected otherwise.
Both are shown at the same moments from the front and from their left; the camera goes along.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from md_jax.body.model import Body, load_body
from md_jax.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle, yaw_matrix, yaw_of
from md_jax.evaluate.yardstick import HELD_OUT
from md_jax.files import write_bytes
from md_jax.mocap.clips import Clip, split_source
from md_jax.mocap.motion import Motion, load_motion, resample
from md_jax.mocap.posing import vertices_of
from md_jax.options.command import parse_simple, stop
from md_jax.output.pictures import VIEWS, frame_closer, make_renderer
from md_jax.output.sheet import Row, draw_sheet, encode_png
from md_jax.run.torch_side import run_program

FRAMES = 10  # shown


def real_clip(action: str, seconds: float) -> Clip:
    """The recording to show, by its name."""
    held_out = split_source(None, [action], HELD_OUT).held_out
    for clip in sorted(held_out, key=lambda clip: clip.name):
        if clip.duration >= seconds:
            return clip
    stop(f"no held-out recording of {action!r} lasts {seconds:g} s: expected a shorter motion.")


def forward(body: Body, motion: Motion) -> Float[np.ndarray, "F V 3"]:
    """Vertices of a motion that heads to +z in its first frame and stands on the floor."""
    turns = axis_angle_to_matrix(motion.root_orient)
    turns = yaw_matrix(-yaw_of(turns[0])) @ turns
    headed = Motion(motion.body_pose, np.asarray(matrix_to_axis_angle(turns)), 0 * motion.transl, motion.fps)
    vertices = vertices_of(body, headed)
    return vertices - vertices[..., 1].min() * np.array([0, 1, 0], np.float32)


def main() -> None:
    """Pose both, film them, and draw the sheet."""
    args = parse_simple(
        __doc__, "benchmarks.beside", rest="motion", needed=("out",),
        action=("walking", "of the real motion"),
        out=("", "the PNG file to write"),
    )  # fmt: skip
    if len(args.motion) != 1:
        stop(f"expected one motion file, got {len(args.motion)}.")
    body, ours = load_body(), load_motion(args.motion[0])
    clip = real_clip(args.action, ours.duration)
    real = resample(Motion(clip.body_pose, clip.root_orient, 0 * clip.root_orient, clip.fps), ours.fps)
    shown = np.linspace(0, len(ours.body_pose) - 1, FRAMES).round().astype(int)
    bodies = [forward(body, each)[shown] for each in (ours, real)]
    views = {"from the front": VIEWS["front"], "from its left": VIEWS["left"]}
    clips, framing = frame_closer(bodies, list(views.values()), 256)
    render = make_renderer(body)
    rows = [
        Row(name, note, render(vertices, azimuth, framing), accent)
        for name, vertices, accent in (("ours", clips[0], True), ("real", clips[1], False))
        for note, azimuth in views.items()
    ]
    subtitle = f"real: motion capture that no prior was trained on ({clip.recording})"
    write_bytes(Path(args.out), encode_png(draw_sheet(ours.prompt, subtitle, rows, (shown / ours.fps).tolist())))


if __name__ == "__main__":
    run_program(main)
