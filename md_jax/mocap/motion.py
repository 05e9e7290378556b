"""A motion and its file: AMASS SMPL-X "stageii" npz, resampled on the sphere of rotations."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from md_jax.body import rotations
from md_jax.errors import UserError
from md_jax.files import MIB, replacing
from md_jax.outside.npz import described, number_in, numbers_in, read_npz, text_in

Up = Literal["y", "z"]
LOWEST_FPS, HIGHEST_FPS = 0.01, 100_000.0  # frames a second of a file
MOST_BETAS = 1000
LARGEST_ANGLE = 1000.0  # radians: what is larger is no rotation that anybody captured
FARTHEST = 1e5  # metres
MOST_FRAMES, LONGEST = 100_000, 3600.0  # of a file; seconds
LIMIT = 512 * MIB  # bytes of a motion's arrays
# fmt: off
READ = ("poses", "root_orient", "pose_body", "pose_jaw", "pose_eye", "pose_hand", "trans", "betas", "gender", "prompt",
        "mocap_frame_rate", "mocap_framerate", "fps", "up_axis", "pelvis")
# fmt: on
_AXIS_CHANGE = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # a z-up world seen as a y-up one


@dataclass(frozen=True)
class Motion:
    """A motion of the SMPL-X skeleton, y up, facing +z at rest; angles in radians, lengths in metres.

    Attributes:
        body_pose: rotation vectors of the 21 body joints, each relative to its parent.
        root_orient: rotation vectors of the whole body about the pelvis.
        transl: translation added after posing.
        fps: frames a second.
        face_and_hands: rotation vectors of jaw, left eye, right eye, 15 left and 15 right finger joints.
        betas: shape coefficients of the body that it was made with.
        gender: neutral, male or female.
        prompt: the sentence that it was made from, if any.
    """

    body_pose: Float[np.ndarray, "F 21 3"]
    root_orient: Float[np.ndarray, "F 3"]
    transl: Float[np.ndarray, "F 3"]
    fps: float
    face_and_hands: Float[np.ndarray, "F 33 3"] = None  # type: ignore[assignment]  # None: zeros
    betas: Float[np.ndarray, "S"] = None  # type: ignore[assignment]  # None: 16 zeros
    gender: str = "neutral"
    prompt: str = ""

    def __post_init__(self) -> None:
        frames = np.shape(self.body_pose)[0] if np.ndim(self.body_pose) else 0
        defaults = {"face_and_hands": np.zeros((frames, 33, 3)), "betas": np.zeros(16)}
        shapes = {
            "body_pose": (frames, 21, 3),
            "root_orient": (frames, 3),
            "transl": (frames, 3),
            "face_and_hands": (frames, 33, 3),
        }
        for name in (*shapes, "betas"):
            value = getattr(self, name)
            value = np.asarray(defaults[name] if value is None else value, np.float32)
            if name in shapes and value.shape != shapes[name]:
                raise UserError(
                    f"a motion's {name} has the shape (frames, {', '.join(map(str, shapes[name][1:]))});"
                    f" got {value.shape} beside {frames} frames of body_pose."
                )
            if not np.all(np.isfinite(value)):
                raise UserError(f"a motion's {name} must be finite; found NaN or infinity.")
            object.__setattr__(self, name, value)
        if frames < 1:
            raise UserError("a motion needs at least one frame; got none.")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise UserError(f"a motion's frame rate must be a positive number of frames a second; got {self.fps}.")

    @property
    def poses(self) -> Float[np.ndarray, "F 55 3"]:
        """All 55 rotation vectors in SMPL-X order: root, body, jaw, eyes, left hand, right hand."""
        return np.concatenate([self.root_orient[:, None], self.body_pose, self.face_and_hands], axis=1)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return (len(self.body_pose) - 1) / self.fps


def slerp_rotvecs(
    start: Float[Array, "*batch 3"], end: Float[Array, "*batch 3"], fraction: Float[Array, "*batch"]
) -> Float[Array, "*batch 3"]:
    """Rotation vectors at `fraction` of the shorter way from `start` to `end`, continuous with `start`."""
    first, second = rotations.axis_angle_to_quaternion(start), rotations.axis_angle_to_quaternion(end)
    between = rotations.quaternion_to_axis_angle(rotations.quaternion_slerp(first, second, fraction))
    return rotations.nearest_axis_angle(between, start)


def resample(motion: Motion, fps: float) -> Motion:
    """The motion at another rate, from the same first frame on: rotations by slerp, translation linearly.

    Args:
        motion: the motion.
        fps: new frames a second. The last new frame is the last one that lies within the old motion.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise UserError(f"the new frame rate must be a positive number of frames a second; got {fps}.")
    count = math.floor(motion.duration * fps + 1e-6) + 1
    position = np.clip(np.arange(count) * (motion.fps / fps), 0, len(motion.body_pose) - 1)
    low = np.floor(position + 1e-6).astype(int)
    high = np.minimum(low + 1, len(motion.body_pose) - 1)
    share = np.clip(position - low, 0, 1).astype(np.float32)
    fraction = np.broadcast_to(share[:, None], (count, 55))
    poses = rotations.on_host(slerp_rotvecs, motion.poses[low], motion.poses[high], fraction, rows=256)
    exact = share < 1e-5  # frames that exist already stay as they are
    poses[exact] = motion.poses[low[exact]]
    transl = motion.transl[low] * (1 - share[:, None]) + motion.transl[high] * share[:, None]
    return replace(
        motion,
        root_orient=poses[:, 0],
        body_pose=poses[:, 1:22],
        face_and_hands=poses[:, 22:],
        transl=transl,
        fps=fps,
    )


def save_motion(
    path: str | os.PathLike, motion: Motion, *, up: Up = "y", pelvis: Float[np.ndarray, "3"] | None = None
) -> None:
    """Write an AMASS SMPL-X "stageii" npz; the file appears complete or not at all.

    AMASS files are z up: with up="z" the body is turned upright in such a world, facing −y. The turn is about the
    world's origin while `root_orient` turns about the pelvis, so `trans` makes up for the difference, and readers that
    pose the same body get every vertex right.

    Args:
        path: the file.
        motion: F frames at the rate of the file. The Blender add-on wants 30 a second or a whole multiple.
        up: the file's up axis.
        pelvis: of the body in its rest pose, metres; zeros by default. The file keeps it as `pelvis`.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    pelvis = np.zeros(3) if pelvis is None else np.asarray(pelvis, np.float64)
    poses, transl = motion.poses.reshape(-1, 165), motion.transl
    if up == "z":
        root, transl = _turned(poses[:, :3], transl, _AXIS_CHANGE.T, pelvis)
        poses = np.concatenate([root, poses[:, 3:]], axis=1)
    with replacing(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            np.savez_compressed(
                file,
                poses=poses,
                trans=transl,
                betas=motion.betas,
                num_betas=np.int64(len(motion.betas)),
                gender=np.str_(motion.gender),
                surface_model_type=np.str_("smplx"),
                mocap_frame_rate=np.float64(motion.fps),
                mocap_framerate=np.float64(motion.fps),  # the name in AMASS's SMPL-H files, which aitviewer reads
                mocap_time_length=np.float64(motion.duration),
                root_orient=poses[:, :3],
                pose_body=poses[:, 3:66],
                pose_jaw=poses[:, 66:69],
                pose_eye=poses[:, 69:75],
                pose_hand=poses[:, 75:],
                up_axis=np.str_(up),
                pelvis=pelvis,
                prompt=np.str_(motion.prompt),
            )


def _turned(
    root: Float[np.ndarray, "F 3"],
    transl: Float[np.ndarray, "F 3"],
    axes: Float[np.ndarray, "3 3"],
    pelvis: Float[np.ndarray, "3"],
) -> tuple[Float[np.ndarray, "F 3"], Float[np.ndarray, "F 3"]]:
    """Root orientation and translation that move every vertex from v to axes·v.

    A vertex is R (v̄ − p) + p + t with the pelvis p, so the new translation is axes·(p + t) − p.
    """
    turned = axes @ np.asarray(rotations.axis_angle_to_matrix(jnp.asarray(root, jnp.float32)), np.float64)
    turned_root = np.asarray(rotations.matrix_to_axis_angle(jnp.asarray(turned, jnp.float32)))
    return turned_root, ((np.asarray(transl, np.float64) + pelvis) @ axes.T - pelvis).astype(np.float32)


def load_motion(path: str | os.PathLike, up: Literal["auto", "y", "z"] = "auto") -> Motion:
    """Read a motion: ours, AMASS SMPL-X "stageii", AMASS SMPL-H (T, 156), or just root_orient and pose_body.

    Args:
        path: the npz file; nothing in it is unpickled.
        up: the file's up axis. "auto": what the file says (`up_axis`); else y for files without translation,
            and for the others the axis along which the pelvis points on average (give it for motions on the
            floor). A z-up motion is turned to y up about the origin: exactly where the file says where the body's
            `pelvis` lies, as ours do, else up to a constant.

    Raises:
        UserError: the file is missing or not a motion.
    """
    if up not in ("auto", "y", "z"):
        raise UserError(f"the up axis of a motion file is 'auto', 'y' or 'z'; got {up!r}.")
    data = read_npz(path, READ, LIMIT)
    poses = _poses_in(path, data)
    rate_name = next((key for key in ("mocap_frame_rate", "mocap_framerate", "fps") if key in data), None)
    if rate_name is None:
        raise UserError(f"{path} has no mocap_frame_rate: add the frames a second under that name.")
    rate = number_in(path, rate_name, data[rate_name])
    if not LOWEST_FPS <= rate <= HIGHEST_FPS:
        raise UserError(f"{path}: expected {rate_name} from {LOWEST_FPS:g} to {HIGHEST_FPS:g} frames a second; found"
                        f" {rate:g}.")  # fmt: skip
    check_length(path, len(poses), rate)
    transl = numbers_in(path, "trans", data.get("trans", np.zeros((len(poses), 3))), (len(poses), 3), FARTHEST)
    betas = data.get("betas", np.zeros(16))
    if betas.ndim == 2 and len(betas) == 1:  # as some programs write them
        betas = betas[0]
    betas = numbers_in(path, "betas", betas, (None,))
    if len(betas) > MOST_BETAS:
        raise UserError(f"{path}: expected at most {MOST_BETAS} betas; found {len(betas)}.")
    root = poses[:, 0]
    if _is_z_up(path, data, root, up):
        pelvis = numbers_in(path, "pelvis", data.get("pelvis", np.zeros(3)), (3,), FARTHEST)
        root, transl = _turned(root, transl, _AXIS_CHANGE, pelvis)
    return Motion(
        body_pose=poses[:, 1:22],
        root_orient=root,
        transl=transl,
        fps=rate,
        face_and_hands=poses[:, 22:],
        betas=betas,
        gender=text_in(path, data, "gender", "neutral"),
        prompt=text_in(path, data, "prompt"),
    )


def check_length(path: str | os.PathLike, frames: int, fps: float) -> None:
    """Refuse a motion that would take minutes and gigabytes to go through.

    Raises:
        UserError: it has more than MOST_FRAMES, or lasts longer than LONGEST.
    """
    if frames > MOST_FRAMES or frames > LONGEST * fps:
        raise UserError(f"{path}: expected at most {MOST_FRAMES:,} frames and {LONGEST:g} s; found {frames:,} frames at"
                        f" {fps:g} a second: cut it into pieces.")  # fmt: skip


def _poses_in(path: str | os.PathLike, data: dict[str, np.ndarray]) -> Float[np.ndarray, "F 55 3"]:
    """The 55 rotation vectors of a file, zeros where it has none."""
    expected: tuple[int, ...]
    if "pose_body" in data and "root_orient" in data:
        body, root = data["pose_body"], data["root_orient"]
        rest = [("pose_jaw", 3), ("pose_eye", 6), ("pose_hand", 90)]
        frames = root.shape[0] if root.ndim else 0
        parts = [root, body, *(data.get(key, np.zeros((frames, width))) for key, width in rest)]
        expected = (3, 63, 3, 6, 90)
    elif "poses" in data and data["poses"].ndim == 2 and data["poses"].shape[1] in (165, 156):
        poses = data["poses"]
        face = poses[:, 66:75] if poses.shape[1] == 165 else np.zeros((len(poses), 9))  # SMPL-H has no face
        expected = (66, 9, 90)
        parts = [poses[:, :66], face, poses[:, -90:]]
    else:
        raise UserError(
            f"{path} is no motion: expected pose_body (T, 63) and root_orient (T, 3), or poses (T, 165) or"
            f" (T, 156); found {described(path)}."
        )
    shapes = [(parts[0].shape[0] if parts[0].ndim else 0, width) for width in expected]
    if [part.shape for part in parts] != shapes or any(part.dtype.kind not in "fiu" for part in parts):
        found = ", ".join(f"{part.shape} {part.dtype}" for part in parts)
        raise UserError(f"{path}: expected pose arrays of numbers, shapes {shapes}; got {found}.")
    poses = np.concatenate(parts, axis=1).reshape(-1, 55, 3)
    if not len(poses) or not np.isfinite(poses).all() or np.abs(poses).max() > LARGEST_ANGLE:
        found = "no frames" if not len(poses) else f"up to {np.abs(poses).max():g}"
        raise UserError(f"{path}: expected at least one frame of rotation vectors in radians, at most"
                        f" {LARGEST_ANGLE:g}; found {found}.")  # fmt: skip
    return poses


def _is_z_up(path: str | os.PathLike, data: dict[str, np.ndarray], root: Float[np.ndarray, "F 3"], up: str) -> bool:
    if up == "auto" and "up_axis" in data:
        up = text_in(path, data, "up_axis").lower()
        if up not in ("y", "z"):
            raise UserError(f"{path}: expected up_axis 'y' or 'z'; found {up[:20]!r}.")
    if up == "auto" and "trans" in data:
        pelvis_up = np.asarray(rotations.axis_angle_to_matrix(jnp.asarray(root, jnp.float32)))[..., 1].mean(axis=0)
        return bool(pelvis_up[2] > pelvis_up[1])
    return up == "z"
