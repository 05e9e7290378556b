"""`md_jax.body.lbs.pose` written in torch: the same products on the same arrays, for comparison."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from md_jax.body.model import PARENTS

_PARENTS = PARENTS[:22]


class Arrays(NamedTuple):
    """A BakedBody of flat hands and a resting face."""

    joints: Float[Tensor, "22 3"]
    skin: Float[Tensor, "88 V"] | None
    template: Float[Tensor, "3 V"] | None
    dirs: Float[Tensor, "189 3*V"] | None
    weights: Float[Tensor, "22 V"] | None


def from_baked(baked: Any, device: str = "cpu") -> Arrays:
    """Copy the arrays of a `md_jax.body.lbs.BakedBody`."""

    def tensor(array: Any) -> Tensor:
        return torch.tensor(np.array(array), device=device)

    joints = tensor(baked.joints[:22])
    if baked.correctives is None:
        return Arrays(joints, tensor(baked.skin), None, None, None)
    fold = baked.correctives
    return Arrays(joints, None, tensor(fold.template), tensor(fold.dirs), tensor(fold.weights))


def pose(body: Arrays, body_pose: Float[Tensor, "F 21 3"]) -> Float[Tensor, "F V 3"]:
    """Vertices, in metres."""
    frames = len(body_pose)
    eye = torch.eye(3, device=body_pose.device)
    root = eye.expand(frames, 1, 3, 3)
    rotations = torch.cat([root, axis_angle_to_matrix(body_pose)], dim=1)
    transforms = _kinematics(rotations, body.joints)
    if body.skin is not None:
        rows = transforms.transpose(1, 2).reshape(frames * 3, 88)
        return (rows @ body.skin).reshape(frames, 3, -1).transpose(1, 2).contiguous()
    assert body.template is not None and body.dirs is not None and body.weights is not None
    features = (rotations[:, 1:] - eye).reshape(frames, 189)
    x, y, z = ((features @ body.dirs).reshape(frames, 3, -1) + body.template)[:, None].unbind(dim=2)
    blended = (transforms.movedim(1, -1).reshape(frames * 12, 22) @ body.weights).reshape(frames, 3, 4, -1)
    posed = blended[:, :, 0] * x + blended[:, :, 1] * y + blended[:, :, 2] * z + blended[:, :, 3]
    return posed.transpose(1, 2).contiguous()


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rodrigues' formula; radians."""
    angle = torch.linalg.vector_norm(axis_angle, dim=-1).clamp_min(1e-8)[..., None, None]
    x, y, z = (axis_angle / angle[..., 0]).unbind(dim=-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*x.shape, 3, 3)
    return torch.eye(3, device=skew.device) + torch.sin(angle) * skew + (1 - torch.cos(angle)) * (skew @ skew)


def _kinematics(rotations: Float[Tensor, "F J 3 3"], joints: Float[Tensor, "J 3"]) -> Float[Tensor, "F J 3 4"]:
    """Pointer jumping, as in `md_jax.body.skinning.kinematics`."""
    transforms = torch.cat([rotations, joints[..., None] - rotations @ joints[..., None]], dim=-1)
    for ends, jumps in _rounds(joints.device):
        carrier = transforms[:, ends]
        product = carrier[..., :3] @ transforms
        product = torch.cat([product[..., :3], product[..., 3:] + carrier[..., 3:]], dim=-1)
        transforms = torch.where(jumps, product, transforms)
    return transforms


@functools.cache
def _rounds(device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """(where each bone's product ends, whether it goes on) in each round; kept, for copying to a GPU would wait."""
    ends, rounds = np.array(_PARENTS), []
    while (ends >= 0).any():
        jumps = torch.tensor(ends >= 0, device=device)[:, None, None]
        rounds.append((torch.tensor(np.maximum(ends, 0), device=device), jumps))
        ends = np.where(ends >= 0, ends[np.maximum(ends, 0)], -1)
    return rounds
