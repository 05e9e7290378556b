"""What a finished run leaves: motion.npz, motion.bvh, motion.glb, motion.mp4 and sheet.png."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from md_jax.body import lbs
from md_jax.body.model import Body
from md_jax.body.rotations import axis_angle_to_matrix, axis_angle_to_quaternion
from md_jax.body.skeleton import BODY_JOINTS
from md_jax.mocap.motion import Motion, Up, resample, save_motion
from md_jax.output.bvh import write_bvh
from md_jax.output.gltf import write_glb
from md_jax.output.pictures import RenderFrames, make_renderer, render_views, write_preview, write_sheet
from md_jax.output.video import write_loop, write_mp4

__all__ = [
    "RenderFrames",
    "export_motion",
    "make_renderer",
    "vertices_of",
    "write_preview",
    "write_readme_loop",
    "write_skeleton",
    "write_skinned",
]


def export_motion(
    folder: Path,
    motion: Motion,
    body: Body,
    *,
    subtitle: str = "",
    controls: Mapping[str, Motion] | None = None,
    up: Up = "z",
    views: tuple[str, str] = ("front", "left"),
    device: str = "cpu",
    render_frames: RenderFrames | None = None,
) -> dict[str, Path]:
    """Write everything that a finished motion leaves in its folder.

    Args:
        folder: exists already.
        motion: F frames at the rate of the files.
        body: the body it was made for.
        subtitle: small print of the sheet: prior, seed, steps.
        controls: what the sheet shows beside the motion, by label; as many frames as the motion.
        up: the up axis of motion.npz; the other formats are y up by their own rules.
        views: names in `VIEWS`: the motion is shown from both, the controls from the second.
        device: where pictures are rendered.
        render_frames: another renderer than `make_renderer`'s.

    Returns:
        The files by name: "motion.npz", "motion.bvh", "motion.glb", "motion.mp4", "sheet.png".

    Raises:
        UserError: a file cannot be written.
    """
    render_frames = render_frames or make_renderer(body, device)
    vertices = vertices_of(body, motion)
    names = ("motion.npz", "motion.bvh", "motion.glb", "motion.mp4", "sheet.png")
    paths = {name: folder / name for name in names}
    save_motion(paths["motion.npz"], motion, up=up, pelvis=_rest(body, motion)[1][0])
    write_skeleton(paths["motion.bvh"], motion, body)
    write_skinned(paths["motion.glb"], motion, body)
    write_mp4(paths["motion.mp4"], render_views(vertices, motion.prompt, render_frames), motion.fps)
    write_sheet(
        paths["sheet.png"],
        motion,
        vertices,
        {label: vertices_of(body, clip) for label, clip in (controls or {}).items()},
        render_frames,
        subtitle=subtitle,
        views=views,
    )
    return paths


def vertices_of(body: Body, motion: Motion) -> Float[np.ndarray, "F V 3"]:
    """The posed vertices of a motion, in metres."""
    face, hands = motion.face_and_hands[:, :3], motion.face_and_hands[:, 3:].reshape(-1, 2, 45)
    vertices, _ = lbs.forward(
        body,
        betas=_betas(motion),
        global_orient=motion.root_orient,
        body_pose=motion.body_pose,
        jaw_pose=face[:, 0],
        leye_pose=face[:, 1],
        reye_pose=face[:, 2],
        left_hand_pose=hands[:, 0],
        right_hand_pose=hands[:, 1],
        transl=motion.transl,
    )
    return np.asarray(vertices)


def write_readme_loop(
    path: Path, motion: Motion, body: Body, render_frames: RenderFrames, *, height: int = 200
) -> None:
    """Write a small looping picture (.gif or .webp) of the four views, at 20 fps."""
    clip = resample(motion, 20.0)
    write_loop(path, render_views(vertices_of(body, clip), motion.prompt, render_frames, height=height), 20.0)


def write_skeleton(path: Path, motion: Motion, body: Body) -> None:
    """Write the motion as BVH (see `md_jax.output.bvh`)."""
    _, joints = _rest(body, motion)
    rotations = axis_angle_to_matrix(jnp.asarray(motion.poses[:, : len(BODY_JOINTS)]))
    write_bvh(
        path,
        joints=joints,
        parents=body.parents,
        rotations=np.asarray(rotations),
        transl=motion.transl,
        fps=motion.fps,
    )


def write_skinned(path: Path, motion: Motion, body: Body) -> None:
    """Write the motion as animated glTF (see `md_jax.output.gltf`)."""
    vertices, joints = _rest(body, motion)
    quaternions = np.asarray(axis_angle_to_quaternion(jnp.asarray(motion.poses)))
    write_glb(
        path,
        vertices=vertices,
        triangles=np.asarray(body.triangles),
        colors=np.asarray(body.vertex_colors),
        joints=joints,
        parents=body.parents,
        weights=np.asarray(body.weights),
        quaternions=quaternions,
        transl=motion.transl,
        fps=motion.fps,
        title=motion.prompt,
    )


# --- helpers ------------------------------------------------------------------------------------------------


def _rest(body: Body, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V,3) and joints (55,3) of the motion's shape in the rest pose."""
    betas = _betas(motion)
    vertices = np.asarray(body.v_template) + np.asarray(body.shapedirs)[..., : len(betas)] @ betas
    return vertices, np.asarray(body.J_regressor) @ vertices


def _betas(motion: Motion) -> np.ndarray:
    """The shape without trailing zeros: motion files pad it, and a body may have fewer shape axes."""
    return np.trim_zeros(motion.betas, "b")
