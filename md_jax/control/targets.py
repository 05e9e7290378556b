"""What is asked of a motion, as arrays for a step; and how far a motion is from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from md_jax.body import lbs
from md_jax.body.model import Body
from md_jax.control.losses import Keys, Path, Pins, inside_itself, on_path, pinned, posed, radii_of, soles_of
from md_jax.control.reading import Asked
from md_jax.errors import UserError


class Pose(Protocol):
    """Poses of M motions at some frames, as `lbs.pose` takes them (`md_jax.fit.posefield.Poses`)."""

    @property
    def body(self) -> Array: ...

    @property
    def root(self) -> Array | None: ...

    @property
    def transl(self) -> Array | None: ...


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["body", "soles", "radii", "pins", "keys", "path"],
    meta_fields=["avoid"],
)
@dataclasses.dataclass(frozen=True)
class Targets:
    """What is asked, in frames of a motion; None: nothing of that kind."""

    body: lbs.BakedBody  # a few of its vertices: only its joints are used
    soles: lbs.BakedBody  # the vertices that may touch the floor
    radii: Float[Array, "L"]  # of the limbs, metres
    pins: Pins | None
    keys: Keys | None
    path: Path | None
    avoid: bool


def make_targets(asked: Asked, body: Body, baked: lbs.BakedBody, *, frames: int, fps: float, loop: bool) -> Targets:
    """The targets of a motion of `frames` frames at `fps` frames a second.

    A pin that lasts is asked for at every half frame, and so is a path: a smooth way through its points, which the body
    passes at even intervals of time (Fritsch and Butland 1984).

    Args:
        asked: what the options say.
        body, baked: whose joints are meant.
        frames, fps: of the motion.
        loop: it goes round, and has no last frame.

    Raises:
        UserError: a time lies outside the motion.
    """
    last = float(frames if loop else frames - 1)

    def frame_of(seconds: float, what: str) -> float:
        if seconds == float("inf"):
            return last
        if seconds * fps > last + 1e-6:
            raise UserError(f"{what} asks for something at {seconds:g} s, and the motion ends at {last / fps:g} s.")
        return min(seconds * fps, last)

    tau, joint, place = [], [], []
    for pin in asked.pins:
        first, end = frame_of(pin.first, "a pin"), frame_of(pin.last, "a pin")
        times = np.linspace(first, end, max(1, int(2 * (end - first) + 1.5)))
        tau.append(times)
        joint += [pin.joint] * len(times)
        place += [pin.place] * len(times)
    pins = Pins(*map(jnp.asarray, (np.concatenate(tau).astype(np.float32), np.array(joint, np.int32),
                                   np.array(place, np.float32)))) if asked.pins else None  # fmt: skip
    keys = None
    if asked.keys:
        joints = lbs.joints_of(baked, jnp.asarray(np.stack([key.body_pose for key in asked.keys])))[:, :22]
        times = np.array([frame_of(key.time, "a keyframe") for key in asked.keys], np.float32)
        keys = Keys(jnp.asarray(times), joints - joints[:, :1])
    path = None
    if asked.path:
        when = np.linspace(0.0, last, int(2 * last + 1.5))
        from scipy.interpolate import PchipInterpolator  # half a second, for a run with a path alone

        way = PchipInterpolator(np.linspace(0.0, last, len(asked.path)), np.asarray(asked.path))(when)
        path = Path(jnp.asarray(when, jnp.float32), jnp.asarray(way, jnp.float32))
    soles = soles_of(body)
    return Targets(
        body=lbs.select(baked, soles[:1]),
        soles=lbs.select(baked, soles),
        radii=jnp.asarray(radii_of(body)),
        pins=pins,
        keys=keys,
        path=path,
        avoid=asked.avoid,
    )


def misses(targets: Targets, poses_at: Callable[[Float[Array, "T"] | None], Pose]) -> dict[str, Float[Array, "M"]]:
    """How far M motions are from what is asked, by kind: square centimetres, pure and differentiable.

    Args:
        targets: what is asked.
        poses_at: the poses at frame indices, or of all frames (None).
    """

    def joints_at(tau: Float[Array, "T"] | None) -> Float[Array, "M T 55 3"]:
        pose = poses_at(tau)
        transl = pose.transl
        if transl is not None and targets.path is None:  # as in the files: the body stays above the origin
            transl = transl * jnp.array([0.0, 1.0, 0.0])
        return lbs.joints_of(targets.body, pose.body, pose.root, transl)

    found = {}
    if targets.pins is not None:
        pose = poses_at(None)
        floor = lbs.pose(targets.soles, pose.body, pose.root, pose.transl)[..., 1].min(axis=(-1, -2))
        found["pin"] = pinned(joints_at(targets.pins.tau), floor, targets.pins)
    if targets.keys is not None:
        found["keyframe"] = posed(lbs.joints_of(targets.body, poses_at(targets.keys.tau).body), targets.keys)
    if targets.path is not None:
        found["path"] = on_path(joints_at(targets.path.tau), targets.path)
    if targets.avoid:
        found["avoid"] = inside_itself(joints_at(None), targets.radii)
    return found
