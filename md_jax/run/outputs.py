"""From the final parameters to the files of a finished run: each motion beside the controls that it has to beat."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from md_jax.body import lbs
from md_jax.body.arguments import relaxed_hands
from md_jax.body.model import Body
from md_jax.body.rotations import matrix_to_axis_angle
from md_jax.config import Config
from md_jax.files import make_folder
from md_jax.fit import posefield
from md_jax.fit.problems import Params, PoseProblem, posed_vertices
from md_jax.fit.train import TrainState
from md_jax.ground.floor import on_floor
from md_jax.ground.place import Ground, on_ground, rounded, travels
from md_jax.ground.points import stander_of
from md_jax.mocap.motion import Motion, resample
from md_jax.mocap.posing import Posed, vertices_of
from md_jax.options.flags import as_command
from md_jax.output import export, pictures
from md_jax.page.page import PAGE, Made, curves_of, previews_in, write_page
from md_jax.page.scene import Shown
from md_jax.retarget.animate import read_character, write_retargeted
from md_jax.run.build import Job
from md_jax.run.logs import read_metrics
from md_jax.run.torch_side import peak_memory
from md_jax.run.workdir import motion_number, write_json

STILL, FITTED, UNGUIDED = "mean pose, held still", "fitted to a sample, not refined", "guidance 0"


class Source(Protocol):
    """What motions are sampled for: a `Job`, or a run that is looked at from outside."""

    @property
    def config(self) -> Config: ...
    @property
    def prompts(self) -> list[str]: ...
    @property
    def body(self) -> Body: ...
    @property
    def fps(self) -> float:
        """Of the clip that is optimised."""
        ...


def files(config: Config, several: bool) -> tuple[str, ...]:
    """A line for each file that a run leaves (see `md_jax.run.results.Results`)."""
    start = "the fit that it began with" if config.mode == "fit" else "the mean pose held still"
    beside = start + (", and guidance 0" if config.control_run else "")
    return (
        f"sheet.png     the motion, beside {beside}",
        "motion.mp4    the motion from four sides",
        "motion.npz    AMASS SMPL-X keys, z up unless --up=y",
        "motion.glb    animated, skinned mesh;  motion.bvh  the skeleton's rotations",
        *((f"{on_character(config):<13} {Path(config.character).name} with the motion",) if config.character else ()),
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
    filmed = functools.partial(posed_vertices, problem.fields, baked=job.baked, follow=True)  # all of the body
    verts = np.asarray(filmed(state.params))
    start = FITTED if config.mode == "fit" else STILL
    controls = {start: np.asarray(filmed(job.params))}
    if control is not None:
        controls[UNGUIDED] = np.asarray(filmed(control.params))
    poses = posefield.poses(problem.fields, state.params)
    params = {start: job.params} if control is None else {start: job.params, UNGUIDED: control.params}
    fine = sampled(job, state.params)
    beside = {label: sampled(job, each) for label, each in params.items()}
    metrics = read_metrics(folder)
    last = (metrics or [{}])[-1]

    stander = stander_of(job.body, fine[0])
    character = read_character(config.character, config.character_map) if config.character else None
    folders, shown, exported = list[Path](), list[Shown](), list[Future[dict[str, Path]]]()
    links: tuple[str, ...] = ()  # of several motions the files lie in folders of their own
    # Encoding a video leaves Python's lock: while one motion's is written, the next one's pictures are drawn.
    at_once = min(count, os.cpu_count() or 1)
    with ThreadPoolExecutor(at_once) as several:
        for m in range(count):
            target = folder if count == 1 else folder / f"motion-{config.first_motion + m:02d}"
            make_folder(target)
            if m >= at_once:
                exported[m - at_once].result()  # no more motions' vertices than these are held at a time
            motion = motion_of(job, poses, m)
            note = "" if count == 1 else target.name
            grounded = on_ground(fine[m], stander, ground_of(job, m), loop=config.loop)
            standing = {label: on_floor(clips[m], job.body) for label, clips in beside.items()}
            made = Posed(grounded.motion, vertices_of(job.body, grounded.motion))
            controls_of = {label: clip.motion for label, clip in standing.items()}
            shown.append(Shown(job.prompts[m], made.motion, controls_of, note=note))
            write_files = functools.partial(
                export.export_motion,
                target,
                made,
                job.body,
                subtitle=f"{config.prior} prior, {config.distillation}, guidance {config.guidance_scale:g},"
                f" {config.steps} steps, seed {config.seed}" + motion_number(config, m, count),
                controls=standing,
                up=config.up,
                render_frames=render_frames,
            )
            if count == 1:
                links = tuple(write_files())
            else:
                exported.append(several.submit(write_files))
            if character is not None:
                write_retargeted(target / on_character(config), made.motion, job.body, character)
                links = (*links, on_character(config)) if count == 1 else ()
            summary = {
                "prompt": job.prompts[m],
                "action": job.actions[m],
                "steps": int(state.step),
                "skipped_steps": int(state.skipped[m]),
                "final": {name: value[m] for name, value in last.items() if isinstance(value, list)},
                "movement": movement(job.body, as_filmed(motion)),
                "controls": {
                    label: {"mean_vertex_speed": _speed(clips[m], job.fps)} for label, clips in controls.items()
                },
                "mean_vertex_speed": _speed(verts[m], job.fps),
                "ground": rounded(grounded),
                "peak_memory_mib": peak_memory(),
                **job.measured,
            }
            write_json(target / "summary.json", summary)
            folders.append(target)
    for each in exported:
        each.result()  # raises what went wrong there
    recipe = made_of(config, job.actions, metrics, previews_in(folder), links)
    write_page(folder / PAGE, title_of(job.prompts), job.body, shown, recipe)
    return folders


def ground_of(job: Job, m: int) -> Ground:
    """How motion m stands on the floor: as asked for, else by the statistics of its parts, else (auto) by its poses: it
    travels if one of them does.

    Where places are asked for, they are places in the files: nothing moves the body from there.
    """
    config, targets = job.config, job.problem.targets if isinstance(job.problem, PoseProblem) else None
    if config.ground == "auto" and targets is not None and (targets.pins is not None or targets.path is not None):
        return "none"
    moves = [travels(part) for part in job.statistics[m]] if config.ground == "auto" else [None]
    if True in moves:
        return "travel"
    return config.ground if None in moves else "inplace"


def on_character(config: Config) -> str:
    """The file of the --character with the motion."""
    return f"character{Path(config.character).suffix.lower()}"


def title_of(sentences: Sequence[str]) -> str:
    """The head line of a run's page."""
    if len(set(sentences)) == 1:
        return sentences[0]
    return f"{len(sentences)} motions"


def made_of(
    config: Config,
    actions: Sequence[str],
    metrics: Sequence[Mapping[str, Any]],
    previews: Mapping[str, Path],
    files: Sequence[str],
) -> Made:
    """How a run's motions were made, for its page."""
    one_action = {"action": actions[0]} if len(set(actions)) == 1 else {}
    facts = {**one_action, "prior": config.prior, "guidance": f"{config.guidance_scale:g}", "steps": str(config.steps),
             "seed": str(config.seed)}  # fmt: skip
    return Made(facts, as_command(config), curves_of(metrics), previews, files)


def write_preview(
    path: Path, job: Job, shown: Float[Array, "M F V 3"], caption: str, render_frames: export.RenderFrames
) -> None:
    """Write a small picture of the motions as they are."""
    pictures.write_preview(path, np.asarray(shown), render_frames, caption, prompts=job.prompts)


def export_times(frames: int, fps: float, export_fps: float, loop: bool = False) -> Float[Array, "E"]:
    """Frame indices, whole and in between, of a motion's files: from its first frame to the last that it holds.

    Args:
        frames, fps: F and the rate of the motion that is optimised.
        export_fps: frames a second of the files; a whole multiple of `fps` keeps every frame of the motion.
        loop: the motion goes round: the last frame lies one step before the first comes again.
    """
    if loop:
        count = max(round(frames * export_fps / fps), 1)
        return jnp.asarray(np.arange(count) * (frames / count), jnp.float32)
    count = math.floor((frames - 1) * export_fps / fps + 1e-6) + 1
    return jnp.asarray(np.minimum(np.arange(count) * fps / export_fps, frames - 1), jnp.float32)


def sampled(job: Job, params: Params) -> list[Motion]:
    """Every motion of a run at the rate of the files (`motions_at`)."""
    assert isinstance(job.problem, PoseProblem)
    return motions_at(job, job.problem.fields, params)


def motions_at(source: Source, fields: posefield.Fields, params: Params) -> list[Motion]:
    """Every motion at the rate of the files; above the origin, unless a path is asked for: what --root=full does along
    the floor without one, no camera has seen.

    Frames in between are the PoseField's own, as long as the clip's frames decide what it does there: a field with a
    frequency above half a cycle a frame (the paper's, or five octaves over ten frames) swings freely between them, and
    frames are turned into each other instead.
    """
    rate = source.config.export_fps
    if fields.highest_frequency >= math.pi:
        keys = posefield.poses(fields, params)
        motions = [resample(motion_of(source, keys, m), rate) for m in range(len(source.prompts))]
    else:
        poses = posefield.poses(fields, params, export_times(fields.frames, source.fps, rate, source.config.loop))
        motions = [motion_of(source, poses, m, rate) for m in range(len(source.prompts))]
    return motions if source.config.path else [as_filmed(motion) for motion in motions]


def motion_of(job: Source, pose: posefield.Poses, m: int, fps: float | None = None) -> Motion:
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


def as_filmed(motion: Motion) -> Motion:
    """The motion as a camera sees it that goes along with the root: what --root=full does along the floor is unseen."""
    return dataclasses.replace(motion, transl=motion.transl * np.array([0, 1, 0], np.float32))


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
