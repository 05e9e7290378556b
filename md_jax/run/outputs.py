"""From the final parameters to the files of a finished run: each motion beside the controls that it has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from md_jax.body import lbs
from md_jax.body.model import Body
from md_jax.body.rotations import matrix_to_axis_angle
from md_jax.files import make_folder
from md_jax.fit import posefield
from md_jax.fit.problems import PoseProblem
from md_jax.fit.train import TrainState
from md_jax.mocap.motion import Motion
from md_jax.output import export, pictures
from md_jax.run.build import Job
from md_jax.run.logs import read_metrics
from md_jax.run.torch_side import peak_memory
from md_jax.run.workdir import write_json

STILL, UNGUIDED = "mean pose, held still", "guidance 0"


def files(controls: bool, several: bool) -> tuple[str, ...]:
    """A line for each file that a run leaves (see `md_jax.run.results.Results`)."""
    beside = "the mean pose held still" + (", and guidance 0" if controls else "")
    return (
        f"sheet.png     the motion, beside {beside}",
        "motion.mp4    the motion from four sides",
        "motion.npz    AMASS SMPL-X keys, y up, 30 frames a second",
        "motion.glb    animated, skinned mesh;  motion.bvh  the skeleton's rotations",
        f"summary.json  final losses, how much it moves;  {'../' * several}metrics.jsonl  every logged step",
    )


def write_outputs(
    job: Job, folder: Path, state: TrainState, control: TrainState | None, render_frames: export.RenderFrames
) -> list[Path]:
    """Write the outputs of every motion: into `folder` itself for one, into `motion-00/` … for several.

    Returns:
        The folder of each motion.

    Raises:
        UserError: a file cannot be written.
    """
    config, count, problem = job.config, len(job.prompts), job.problem
    assert isinstance(problem, PoseProblem)
    verts = np.asarray(problem.vertices(state.params))
    controls = {STILL: np.asarray(problem.vertices(job.params))}
    if control is not None:
        controls[UNGUIDED] = np.asarray(problem.vertices(control.params))
    poses = posefield.poses(problem.fields, state.params)
    last = (read_metrics(folder) or [{}])[-1]

    folders = []
    for m in range(count):
        target = folder if count == 1 else folder / f"motion-{m:02d}"
        make_folder(target)
        motion = motion_of(job, poses, m)
        export.export_motion(
            target,
            motion,
            job.body,
            subtitle=f"{config.prior} prior, {config.distillation}, guidance {config.guidance_scale:g},"
            f" {config.steps} steps, seed {config.seed}" + (f", motion {m + 1} of {count}" if count > 1 else ""),
            controls={label: clips[m] for label, clips in controls.items()},
            render_frames=render_frames,
        )
        summary = {
            "prompt": job.prompts[m],
            "action": job.actions[m],
            "steps": int(state.step),
            "skipped_steps": int(state.skipped[m]),
            "final": {name: value[m] for name, value in last.items() if isinstance(value, list)},
            "movement": movement(job.body, motion),
            "controls": {label: {"mean_vertex_speed": _speed(clips[m], job.fps)} for label, clips in controls.items()},
            "mean_vertex_speed": _speed(verts[m], job.fps),
            "peak_memory_mib": peak_memory(),
            **job.measured,
        }
        write_json(target / "summary.json", summary)
        folders.append(target)
    return folders


def write_preview(
    path: Path, job: Job, shown: Float[Array, "M F V 3"], caption: str, render_frames: export.RenderFrames
) -> None:
    """Write a small picture of the motions as they are."""
    pictures.write_preview(path, np.asarray(shown), render_frames, caption)


def motion_of(job: Job, pose: posefield.Poses, m: int) -> Motion:
    """Motion m of the poses as the files store it."""
    frames = pose.body.shape[1]

    def axis_angle(x: Any) -> np.ndarray:
        return np.asarray(matrix_to_axis_angle(x) if x.shape[-2:] == (3, 3) else x)

    zeros = np.zeros((frames, 3), np.float32)
    return Motion(
        body_pose=axis_angle(pose.body[m]),
        root_orient=zeros if pose.root is None else axis_angle(pose.root[m]),
        transl=zeros if pose.transl is None else np.asarray(pose.transl[m]),
        fps=job.fps,
        betas=np.asarray(job.config.betas, np.float32) if job.config.betas else np.zeros(16, np.float32),
        gender=job.config.gender,
        prompt=job.prompts[m],
    )


def movement(body: Body, motion: Motion) -> dict[str, float]:
    """How much a motion moves: mean joint speed (m/s), and the mean over joints of how far each turns (degrees)."""
    baked = lbs.bake(body)
    pose, root = jnp.asarray(motion.body_pose), jnp.asarray(motion.root_orient)
    joints = np.asarray(lbs.joints_of(baked, pose, root, jnp.asarray(motion.transl)))[:, :22]
    spread = np.ptp(motion.body_pose, axis=0).max(axis=-1)
    return {
        "mean_joint_speed": _speed(joints, motion.fps),
        "mean_range_of_motion_degrees": round(float(np.degrees(spread.mean())), 2),
    }


def _speed(points: Float[np.ndarray, "F P 3"], fps: float) -> float:
    """Mean speed of points in m/s."""
    return round(float(np.linalg.norm(np.diff(points, axis=0), axis=-1).mean() * fps), 4)
