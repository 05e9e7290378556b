"""From the final parameters to the files of a finished run: each motion beside the controls that it has to beat."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from md_jax.body import lbs
from md_jax.body.arguments import relaxed_hands
from md_jax.body.model import Body
from md_jax.body.rotations import matrix_to_axis_angle
from md_jax.files import make_folder
from md_jax.fit import posefield
from md_jax.fit.problems import Params, PoseProblem
from md_jax.fit.train import TrainState
from md_jax.ground.floor import on_floor
from md_jax.mocap.motion import Motion, resample
from md_jax.options.flags import as_command
from md_jax.output import export, pictures
from md_jax.page.page import Made, curves_of, previews_in, write_page
from md_jax.page.scene import Shown
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
        "motion.npz    AMASS SMPL-X keys, z up unless --up=y",
        "motion.glb    animated, skinned mesh;  motion.bvh  the skeleton's rotations",
        f"{'../' * several}motion.html   the motion in the browser, and how it was made",
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
    problem = dataclasses.replace(problem, baked=job.baked)  # the whole body, not what was drawn of it
    verts = np.asarray(problem.vertices(state.params))
    controls = {STILL: np.asarray(problem.vertices(job.params))}
    if control is not None:
        controls[UNGUIDED] = np.asarray(problem.vertices(control.params))
    poses = posefield.poses(problem.fields, state.params)
    params = {STILL: job.params} if control is None else {STILL: job.params, UNGUIDED: control.params}
    fine = sampled(job, state.params)
    beside = {label: sampled(job, each) for label, each in params.items()}
    metrics = read_metrics(folder)
    last = (metrics or [{}])[-1]

    folders: list[Path] = []
    shown = []
    exported: list[Future[dict[str, Path]]] = []
    # Encoding a video leaves Python's lock: while one motion's is written, the next one's pictures are drawn.
    several = ThreadPoolExecutor(max_workers=os.cpu_count() if count > 1 else 1)
    for m in range(count):
        target = folder if count == 1 else folder / f"motion-{m:02d}"
        make_folder(target)
        motion = motion_of(job, poses, m)
        standing = {label: on_floor(clips[m], job.body) for label, clips in beside.items()}
        shown.append(Shown(job.prompts[m], on_floor(fine[m], job.body), standing))
        exported.append(several.submit(
            export.export_motion,
            target,
            shown[-1].motion,
            job.body,
            subtitle=f"{config.prior} prior, {config.distillation}, guidance {config.guidance_scale:g},"
            f" {config.steps} steps, seed {config.seed}" + (f", motion {m + 1} of {count}" if count > 1 else ""),
            controls=standing,
            up=config.up,
            render_frames=render_frames,
        ))  # fmt: skip
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
    with several:
        written = [each.result() for each in exported]
    links = tuple(written[0]) if count == 1 else ()  # of several motions the files lie in folders of their own
    made = made_of(job, metrics, previews_in(folder), links)
    write_page(folder / "motion.html", title_of(job.prompts), job.body, shown, made)
    return folders


def title_of(sentences: Sequence[str]) -> str:
    """The head line of a run's page."""
    if len(set(sentences)) == 1:
        return sentences[0]
    return f"{len(sentences)} motions"


def made_of(job: Job, metrics: Sequence[Mapping[str, Any]], previews: Mapping[str, Path], files: Sequence[str]) -> Made:
    """How a run's motions were made, for its page."""
    config = job.config
    actions = {"action": job.actions[0]} if len(set(job.actions)) == 1 else {}
    facts = {**actions, "prior": config.prior, "guidance": f"{config.guidance_scale:g}", "steps": str(config.steps),
             "seed": str(config.seed)}  # fmt: skip
    return Made(facts, as_command(config), curves_of(metrics), previews, files)


def write_preview(
    path: Path, job: Job, shown: Float[Array, "M F V 3"], caption: str, render_frames: export.RenderFrames
) -> None:
    """Write a small picture of the motions as they are."""
    pictures.write_preview(path, np.asarray(shown), render_frames, caption)


def export_times(frames: int, fps: float, export_fps: float) -> Float[Array, "E"]:
    """Frame indices, whole and in between, of a motion's files: from its first frame to the last that it holds.

    Args:
        frames, fps: F and the rate of the clip that is optimised.
        export_fps: frames a second of the files; a whole multiple of `fps` keeps every frame of the clip.
    """
    count = math.floor((frames - 1) * export_fps / fps + 1e-6) + 1
    return jnp.asarray(np.minimum(np.arange(count) * fps / export_fps, frames - 1), jnp.float32)


def sampled(job: Job, params: Params) -> list[Motion]:
    """Every motion at the rate of the files.

    Frames in between are the PoseField's own, as long as the clip's frames decide what it does there: a field with a
    frequency above half a cycle a frame (the paper's, or five octaves over ten frames) swings freely between them, and
    frames are turned into each other instead.
    """
    assert isinstance(job.problem, PoseProblem)
    fields, rate = job.problem.fields, job.config.export_fps
    if fields.highest_frequency >= math.pi:
        keys = posefield.poses(fields, params)
        return [resample(motion_of(job, keys, m), rate) for m in range(len(job.prompts))]
    poses = posefield.poses(fields, params, export_times(fields.frames, job.fps, rate))
    return [motion_of(job, poses, m, rate) for m in range(len(job.prompts))]


def motion_of(job: Job, pose: posefield.Poses, m: int, fps: float | None = None) -> Motion:
    """Motion m of poses at `fps` frames a second (default: the clip's)."""
    frames = pose.body.shape[1]

    def axis_angle(x: Any) -> np.ndarray:
        return np.asarray(matrix_to_axis_angle(x) if x.shape[-2:] == (3, 3) else x)

    zeros = np.zeros((frames, 3), np.float32)
    fingers = relaxed_hands(job.body) if job.config.hands == "relaxed" else np.zeros((30, 3))
    face_and_hands = np.concatenate([np.zeros((3, 3)), fingers]).astype(np.float32)
    return Motion(
        body_pose=axis_angle(pose.body[m]),
        root_orient=zeros if pose.root is None else axis_angle(pose.root[m]),
        transl=zeros if pose.transl is None else np.asarray(pose.transl[m]),
        fps=job.fps if fps is None else fps,
        face_and_hands=np.broadcast_to(face_and_hands, (frames, 33, 3)),
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
