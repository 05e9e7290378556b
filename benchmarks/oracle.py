"""The critic that knows the answer: true renders of a held-out clip in place of the prior.

What remains between its result and that clip is the renderer's, the PoseField's and the optimiser's doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bridge.critic import FunctionCritic, Judgement
from bridge.op import TorchLoss, torch_loss
from bridge.render import render
from bridge.render.camera import Camera
from bridge.render.mesh import make_mesh
from md_jax.body import lbs
from md_jax.evaluate.reference import HELD_OUT
from md_jax.fit.problems import PoseProblem
from md_jax.mocap.clips import split_source
from md_jax.mocap.windows import every_window
from md_jax.run.build import Job
from md_jax.run.torch_side import body_centre

METRICS = ("vertex_grad_norm",)


def held_out_poses(actions: Sequence[str], frames: int, fps: float) -> np.ndarray:
    """Body poses (A, F, 21, 3) of the window in the middle of each action's held-out clips."""
    held_out = split_source(None, actions, HELD_OUT).held_out
    poses = []
    for action in actions:
        own = [clip for clip in held_out if clip.action == action]
        windows = every_window(own, frames=frames, fps=fps, stride=1 / fps).body_pose
        poses.append(windows[len(windows) // 2])
    return np.stack(poses)


def oracle_op(job: Job, actions: Sequence[str]) -> TorchLoss:
    """The op of a job with the loss ½‖z - z*‖², z* the same view of a held-out clip of the motion's action."""
    from bridge.priors import load_prior

    spec = load_prior(job.config.prior, job.config.prior_path).spec
    mesh = make_mesh(job.surface.triangles, job.surface.vertex_colors)
    problem = job.problem
    assert isinstance(problem, PoseProblem)
    poses = held_out_poses(actions, problem.fields.frames, job.fps)
    truth = torch.from_numpy(np.array(lbs.pose(problem.baked, poses)))
    target = torch.tensor(body_centre(job.body))

    def judge(verts: Tensor, draws: Any, grad_out: Tensor | None) -> Judgement:
        motions, frames = verts.shape[:2]
        views = len(draws.azimuth) // motions
        motion = torch.arange(len(draws.azimuth)) // views
        camera = Camera(
            draws.azimuth.repeat_interleave(frames), draws.elevation.repeat_interleave(frames), spec.distance, spec.fov,
            target,
        )  # fmt: skip
        with torch.enable_grad():
            leaf = verts.detach().requires_grad_()
            seen, wanted = (
                2 * render(x[motion].flatten(0, 1), camera, mesh, spec.height, spec.width, 2, spec.background) - 1
                for x in (leaf, truth)
            )
            loss = 0.5 * (seen - wanted.detach()).square().unflatten(0, (motions, -1)).flatten(1).sum(dim=1) / views
            (grad,) = torch.autograd.grad(loss.sum(), leaf)
        return loss.detach(), grad, {"vertex_grad_norm": grad.flatten(1).norm(dim=1)}

    return torch_loss(FunctionCritic(judge, METRICS), job.config.transport)
