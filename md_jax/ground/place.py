"""A motion on its feet: the floor at y = 0, standing feet that stay, flights that fall, and how well that went."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import maximum_filter1d

from md_jax.body import lbs
from md_jax.ground import contacts, flight, gait, travel
from md_jax.ground.points import SOLE_POINTS, Stander, heights, in_place
from md_jax.ground.polish import polish, scene
from md_jax.mocap.motion import Motion
from md_jax.mocap.statistics import PoseStatistics

Ground = Literal["auto", "travel", "inplace", "none"]
TRAVELS = 0.3  # m/s: what is faster on average goes somewhere
SECONDS = 0.9  # of the windows that statistics of translation are of: on average half of them from the first frame
LOOP_SECONDS = 1.0  # of a loop that are looked at before its start and after its end
ON_SOLES = 0.02  # metres: a body whose lowest vertex is further below its soles rests on something else
LIFT_SECONDS = 0.1  # how long before and after a deep frame the body is lifted


class Grounded(NamedTuple):
    """A motion on the floor.

    Attributes:
        motion: y up, the floor at y = 0, the first frame's root above the origin unless `how` is "none".
        how: "travel", "inplace" or "none".
        before: how the motion stood where its root was, on a floor at the lowest point of all frames.
        after: how it stands now, measured before "inplace" takes the travel out.
        turned: most degrees by which a hip, a knee or an ankle was turned; toes aside, which captures keep stiff.
    """

    motion: Motion
    how: Ground
    before: contacts.Standing
    after: contacts.Standing
    turned: float


def on_ground(motion: Motion, body: Stander, how: Ground = "auto", *, loop: bool = False) -> Grounded:
    """Put a motion on the floor.

    Heights come from the poses: the centre of mass follows the lowest point, or falls (`md_jax.ground.flight`). The way
    along the floor comes from the gait and from the feet that stand (`md_jax.ground.travel`); the motion's own
    translation is not read, for the camera goes along with the root, and no prior has seen it. Then legs give way by a
    few degrees until standing feet stay where they are (`md_jax.ground.polish`).

    Args:
        motion: F frames of any rate.
        body: from `md_jax.ground.points.stander_of`.
        how: "travel": the body goes where its feet take it; "inplace": the mean velocity is taken out again, as on a
            treadmill; "auto": the first for what goes faster than `TRAVELS`, else the second; "none": the lowest point
            of all frames on the floor, and nothing else.
        loop: the motion goes round, and still does so afterwards: each turn goes on where the one before has ended.
    """
    lowest = heights(body, motion)
    flat = _moved(motion, np.array([0, -lowest.min(), 0]))
    unknown = np.zeros(len(lowest), bool)
    before = measure(flat, body, unknown)
    if how == "none" or len(lowest) < 3:
        return Grounded(flat, "none", before, before, 0.0)
    frames = len(lowest)
    margin = min(frames, round(LOOP_SECONDS * motion.fps)) if loop else 0
    placed, flies = place(_frames(motion, np.arange(-margin, frames + margin) % frames), body)
    polished = _polished(placed, body, flies)
    turn = frames if loop else frames - 1  # frames from the start to where the way is measured
    gone = (polished.transl[margin + turn] - polished.transl[margin]) * (1, 0, 1)
    own = np.arange(margin, margin + frames)
    polished, flies = _frames(polished, own), flies[own]
    polished = _moved(polished, -polished.transl[:1] * (1, 0, 1))
    after = measure(polished, body, flies)
    turned = np.degrees(np.abs(polished.body_pose - motion.body_pose)[:, :9].max())
    if how == "auto":
        how = "travel" if np.linalg.norm(gone) > TRAVELS * turn / motion.fps else "inplace"
    if how == "inplace":
        polished = _moved(polished, -np.arange(frames)[:, None] / turn * gone)
    return Grounded(polished, how, before, after, float(turned))


def place(motion: Motion, body: Stander) -> tuple[Motion, Bool[np.ndarray, "F"]]:
    """The motion at its height and along its way, its poses as they are; and the frames in flight."""
    still = in_place(body, motion)
    standing = still.mass[:, 1] - still.lowest
    expected = gait.velocity(motion)
    footing = travel.footing(still.points, still.lowest, expected, motion.fps)
    known = flight.flights(standing, motion.fps, footing)
    mass = flight.ballistic(standing, motion.fps, known)
    clearance = still.points[..., 1] + (mass.height - still.mass[:, 1])[:, None]
    goes = travel.velocity(still.points, clearance, still.mass, mass.flies, motion.fps, expected)
    way = travel.path(goes, motion.fps)
    bearing = travel.bearing(still.points + way[:, None], clearance, motion.fps)
    lowest = np.where(bearing, still.points[..., 1], np.inf).min(axis=1)
    lowest = np.where(np.isfinite(lowest), lowest, still.lowest)
    mass = flight.ballistic(still.mass[:, 1] - lowest, motion.fps, known)
    way[:, 1] = mass.height - still.mass[:, 1]
    return dataclasses.replace(motion, transl=way), mass.flies


def measure(motion: Motion, body: Stander, flies: Bool[np.ndarray, "F"]) -> contacts.Standing:
    """How well a motion stands on the floor y = 0; `flies` are its frames in flight."""
    return contacts.standing(heights(body, motion), _soles(motion, body), motion.transl, flies, motion.fps)


def travels(statistics: PoseStatistics) -> bool | None:
    """Whether an action goes anywhere, by its statistics; None where they have no translation."""
    if statistics.transl_mean is None:
        return None
    return bool(np.hypot(statistics.transl_mean[0], statistics.transl_mean[2]) > TRAVELS * SECONDS / 2)


def rounded(found: Grounded) -> dict[str, Any]:
    """What a summary says of a motion on the floor: measures before and after, None for what is not there."""

    def numbers(measured: contacts.Standing) -> dict[str, float | None]:
        return {k: round(v, 4) if np.isfinite(v) else None for k, v in dataclasses.asdict(measured).items()}

    return {
        "how": found.how,
        "before": numbers(found.before),
        "after": numbers(found.after),
        "turned_degrees": round(found.turned, 2),
    }


def _polished(motion: Motion, body: Stander, flies: Bool[np.ndarray, "F"]) -> Motion:
    """The motion with planted feet, and nothing under the floor."""
    soles = lbs.select(body.points, np.arange(2 * SOLE_POINTS))
    points = _soles(motion, body)
    stands = contacts.standing_points(points, flies, motion.fps)
    pace = np.linalg.norm(np.gradient(motion.transl[:, [0, 2]], axis=0), axis=1) * motion.fps
    walks = 1 - flight.running(pace, motion.fps)  # a runner that hovers may fly
    rests = walks * ~flies * (points[..., 1].min(axis=1) < heights(body, motion) + ON_SOLES)
    setting = scene(soles, motion.body_pose, motion.root_orient, motion.transl, stands, rests, motion.fps)
    pose, transl = polish(setting)
    better = dataclasses.replace(motion, body_pose=pose, transl=transl)
    deep = np.maximum(-heights(body, better), 0)
    reach = max(1, round(LIFT_SECONDS * motion.fps))
    lift = flight.smooth(maximum_filter1d(deep, 2 * reach + 1, mode="nearest"), reach / 3)
    return _moved(better, np.maximum(lift, deep)[:, None] * (0, 1, 0))


def _soles(motion: Motion, body: Stander) -> Float[np.ndarray, "F 2*S 3"]:
    posed = np.asarray(lbs.pose(body.points, motion.body_pose, motion.root_orient, motion.transl))
    return posed[:, : 2 * SOLE_POINTS].astype(np.float64)


def _moved(motion: Motion, by: np.ndarray) -> Motion:
    return dataclasses.replace(motion, transl=motion.transl + by)


def _frames(motion: Motion, which: Int[np.ndarray, "n"]) -> Motion:
    """Some of a motion's frames, in any order."""
    arrays = {name: getattr(motion, name)[which] for name in ("body_pose", "root_orient", "transl", "face_and_hands")}
    return dataclasses.replace(motion, **arrays)
