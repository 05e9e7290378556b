"""Orbit cameras: where they stand, and their matrices.

Conventions: y is up, the body faces +z, lengths are metres, angles radians. Azimuth 0 looks at the body's
face from +z; azimuth +90° stands at +x, on the body's left side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.errors import BridgeError

__all__ = ["Camera", "clip_matrix", "eye_position", "framing_distance"]


@dataclass(frozen=True)
class Camera:
    """N perspective cameras that orbit a target.

    Args:
        azimuth: (N,) radians, any value; 0 = in front of the body, +π/2 = at its left side.
        elevation: (N,) radians in [-π/2, π/2]; positive looks down from above.
        distance: metres from the target, positive; one number or (N,).
        fov_y: full vertical field of view in radians, in (0, π); one number or (N,).
        target: the point looked at, (3,) or (N,3) metres.
    """

    azimuth: Float[Tensor, "N"]
    elevation: Float[Tensor, "N"]
    distance: float | Float[Tensor, "N"]
    fov_y: float | Float[Tensor, "N"]
    target: Float[Tensor, "3"] | Float[Tensor, "N 3"]

    def __post_init__(self) -> None:
        count = self.azimuth.shape
        if self.azimuth.ndim != 1 or self.elevation.shape != count:
            raise BridgeError(
                "Camera expects azimuth and elevation of one shape (N,), got "
                f"{tuple(self.azimuth.shape)} and {tuple(self.elevation.shape)}"
            )
        for name in ("distance", "fov_y"):
            value = getattr(self, name)
            if isinstance(value, Tensor) and value.ndim != 0 and value.shape != count:
                raise BridgeError(f"Camera expects {name} as a number or {tuple(count)}, got {tuple(value.shape)}")
        if tuple(self.target.shape) not in ((3,), (*count, 3)):
            raise BridgeError(f"Camera expects target (3,) or {(*count, 3)}, got {tuple(self.target.shape)}")

    def __len__(self) -> int:
        return self.azimuth.shape[0]


def _axes(camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Right, up and backward unit vectors, (N,3) each; `right` needs no cross product, so ±90° is no pole."""
    sin_a, cos_a = torch.sin(camera.azimuth), torch.cos(camera.azimuth)
    sin_e, cos_e = torch.sin(camera.elevation), torch.cos(camera.elevation)
    zero = torch.zeros_like(sin_a)
    right = torch.stack([cos_a, zero, -sin_a], -1)
    backward = torch.stack([sin_a * cos_e, sin_e, cos_a * cos_e], -1)
    up = torch.stack([-sin_a * sin_e, cos_e, -cos_a * sin_e], -1)
    return right, up, backward


def eye_position(camera: Camera) -> Float[Tensor, "N 3"]:
    """Where each camera stands.

    Returns:
        (N,3) metres in the world.
    """
    return camera.target.to(camera.azimuth) + _each(camera, camera.distance)[:, None] * _axes(camera)[2]


def _each(camera: Camera, value: float | Tensor) -> Float[Tensor, "N"]:
    """A value of each camera, where they live; a number is filled in there, which on CUDA waits for nothing."""
    like = camera.azimuth
    if isinstance(value, Tensor):
        return value.to(like).expand(len(camera))
    return torch.full_like(like, float(value))


def clip_matrix(
    camera: Camera, height: int, width: int, near: float = 0.05, far: float = 100.0
) -> Float[Tensor, "N 4 4"]:
    """World to clip space, OpenGL convention: x right, y up, z in [-w, w], w the depth in metres.

    Args:
        camera: N cameras.
        height: image height in pixels (only the ratio width / height matters).
        width: image width in pixels.
        near: depth of the near plane in metres, positive.
        far: depth of the far plane in metres, beyond `near`.

    Returns:
        (N,4,4) matrices that multiply column vectors (x, y, z, 1).

    Source: OpenGL 4.6 specification, glFrustum (appendix of the compatibility profile).
    """
    right, up, backward = _axes(camera)
    eye = eye_position(camera)
    rotation = torch.stack([right, up, backward], 1)
    view = torch.cat([rotation, -(rotation @ eye[:, :, None])], -1)
    focal = (1 / torch.tan(_each(camera, camera.fov_y) / 2))[:, None]
    depth = -view[:, 2]
    z = depth * ((far + near) / (far - near))
    z[:, 3] -= 2 * far * near / (far - near)
    return torch.stack([view[:, 0] * focal * (height / width), view[:, 1] * focal, z, depth], 1)


def framing_distance(body_height: float, fov_y: float, fill: float = 0.7) -> float:
    """Distance at which something `body_height` metres tall fills the fraction `fill` of the image's height.

    Args:
        body_height: metres, positive.
        fov_y: full vertical field of view in radians, in (0, π).
        fill: fraction of the image's height, in (0, 1].

    Returns:
        Metres from the camera to the body's centre (level camera, thin body).
    """
    if not (body_height > 0 and 0 < fov_y < math.pi and 0 < fill <= 1):
        raise BridgeError(
            "framing_distance expects body_height > 0, fov_y in (0, π) and fill in (0, 1], got "
            f"{body_height}, {fov_y}, {fill}"
        )
    return body_height / (2 * fill * math.tan(fov_y / 2))
