"""What a finished run leaves: motion.npz, motion.bvh, motion.glb, motion.mp4 and sheet.png."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from md_jax.body.model import BODY_JOINTS, Body
from md_jax.body.rotations import axis_angle_to_matrix, axis_angle_to_quaternion
from md_jax.mocap.motion import Motion, Up, save_motion
from md_jax.mocap.posing import Posed, rest_of
from md_jax.output.bvh import write_bvh
from md_jax.output.gltf import write_glb
from md_jax.output.pictures import (
    RenderFrames,
    make_renderer,
    names_of_views,
    render_views,
    write_preview,
    write_sheet,
)
from md_jax.output.video import write_mp4

__all__ = [
    "RenderFrames",
    "export_motion",
    "make_renderer",
    "write_preview",
    "write_skeleton",
    "write_skinned",
]


def export_motion(
    folder: Path,
    posed: Posed,
    body: Body,
    *,
    subtitle: str = "",
    controls: Mapping[str, Posed] | None = None,
    up: Up = "z",
    views: tuple[str, str] = ("front", "left"),
    device: str = "cpu",
    render_frames: RenderFrames | None = None,
) -> dict[str, Path]:
    """Write everything that a finished motion leaves in its folder.

    Args:
        folder: exists already.
        posed: F frames at the rate of the files.
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
    motion, vertices = posed.motion, posed.vertices
    controls = controls or {}
    files = ("motion.npz", "motion.glb", "motion.bvh", "motion.mp4", "sheet.png")
    paths = {name: folder / name for name in files}
    save_motion(paths["motion.npz"], motion, up=up, pelvis=rest_of(body, motion)[1][0])
    write_skeleton(paths["motion.bvh"], motion, body)
    write_skinned(paths["motion.glb"], motion, body)
    names = names_of_views([motion, *(clip.motion for clip in controls.values())])
    frames = render_views(vertices, motion.fps, motion.prompt, render_frames, names=names)
    write_mp4(paths["motion.mp4"], frames, motion.fps)
    write_sheet(
        paths["sheet.png"],
        motion,
        vertices,
        {label: clip.vertices for label, clip in controls.items()},
        render_frames,
        names=names,
        subtitle=subtitle,
        views=views,
    )
    return paths


def write_skeleton(path: Path, motion: Motion, body: Body) -> None:
    """Write the motion as BVH (see `md_jax.output.bvh`)."""
    _, joints = rest_of(body, motion)
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
    vertices, joints = rest_of(body, motion)
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
