"""Motion-capture clips: loading, packing, mirroring, and splits that do not leak."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from md_jax.errors import UserError
from md_jax.files import files_under, is_file, is_folder
from md_jax.mocap.motion import HIGHEST_FPS, LOWEST_FPS, check_length, load_motion
from md_jax.outside.npz import numbers_in, read_npz, text_in

# Body joint k of the mirrored person is joint _SWAP[k] of the original (SMPL-X order without the pelvis).
_SWAP = np.array([1, 0, 2, 4, 3, 5, 7, 6, 8, 10, 9, 11, 13, 12, 14, 16, 15, 18, 17, 20, 19])
REFLECT = np.array([-1, 1, 1], np.float32)  # of positions, at x = 0
FLIP = np.array([1, -1, -1], np.float32)  # which negates the y and z of a rotation vector


@dataclass(frozen=True)
class Clip:
    """One piece of motion capture, y up; rotation vectors in radians, continuous in time (they may exceed π).

    Attributes:
        name: the file's stem.
        action: what the person does (the folder's name).
        recording: pieces of one recording share it, and stay on one side of a split.
        source: where it comes from.
        fps: frames a second.
        body_pose, root_orient: as in `Motion`.
        transl: metres, or None where the capture has none.
    """

    name: str
    action: str
    recording: str
    source: str
    fps: float
    body_pose: Float[np.ndarray, "T 21 3"]
    root_orient: Float[np.ndarray, "T 3"]
    transl: Float[np.ndarray, "T 3"] | None = None

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return (len(self.body_pose) - 1) / self.fps


# --- loading ------------------------------------------------------------------------------------------------


def load_clips(source: str | os.PathLike | None = None, actions: Sequence[str] | None = None) -> list[Clip]:
    """Clips of the shipped motion capture (CMU), of another file of that format, or of a folder.

    Args:
        source: None for the shipped clips; a packed .npz (tools.pack_mocap); or a folder of AMASS-style .npz
            files, each in a sub-folder named after its action (files right in the folder get the folder's
            name).
        actions: only these; None for all.

    Raises:
        UserError: there is nothing to load, or an action is not there.
    """
    if source is None:
        clips = unpack_clips(read_npz(str(resources.files("md_jax") / "assets" / "mocap.npz"), READ))
    elif is_file(source):
        clips = unpack_clips(read_npz(source, READ), source)
    else:
        clips = _load_folder(Path(source))
    known = sorted({clip.action for clip in clips})
    for action in actions or ():
        if action not in known:
            raise UserError(f"no clips of {action!r}; there are clips of: {', '.join(known)}.")
    return [clip for clip in clips if actions is None or clip.action in actions]


def _load_folder(folder: Path) -> list[Clip]:
    files = files_under(folder, ".npz") if is_folder(folder) else []
    files = [file for file in files if not file.name.endswith(("shape.npz", "_stagei.npz"))]  # AMASS: bodies only
    if not files:
        raise UserError(
            f"{folder} holds no clips: expected a folder of AMASS-style .npz files, one sub-folder an action."
        )
    clips = []
    for file in files:
        motion, data = load_motion(file), read_npz(file, ("action", "source", "trans"))
        clips.append(
            Clip(
                name=file.stem,
                action=text_in(file, data, "action", file.parent.name),
                recording=recording_of(file.stem),
                source=text_in(file, data, "source", str(file.relative_to(folder))),
                fps=motion.fps,
                body_pose=motion.body_pose,
                root_orient=motion.root_orient,
                transl=motion.transl if "trans" in data else None,
            )
        )
    return clips


def recording_of(name: str) -> str:
    """The recording that a clip's name belongs to: `cmu_005_13_1` is piece 1 of `cmu_005_13`."""
    return re.sub(r"(_\d+)_\d$", r"\1", name)


# Packed clips: rotation vectors as multiples of 1/4096 rad (error at most 1.3e-4 rad each), and of those the
# differences in time, which deflate to half the size. int16 wraps around exactly in both directions.
# Translation likewise, in 1/2048 m.
_STEPS_PER_RADIAN, _STEPS_PER_METRE = 4096, 2048


def pack_clips(clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Clips as a few small plain arrays; `unpack_clips` reverses it. Translation is kept if every clip has it."""
    poses = [np.concatenate([clip.root_orient[:, None], clip.body_pose], axis=1) for clip in clips]
    steps = np.round(np.concatenate(poses).reshape(-1, 66) * _STEPS_PER_RADIAN)
    if np.abs(steps).max() > np.iinfo(np.int16).max:
        raise ValueError(f"rotation vectors must stay below 8 rad; got {np.abs(steps).max() / _STEPS_PER_RADIAN}.")
    places = {}
    if all(clip.transl is not None for clip in clips):
        metres = np.concatenate([np.asarray(clip.transl) for clip in clips])
        if np.abs(metres).max() * _STEPS_PER_METRE > np.iinfo(np.int16).max:
            raise ValueError(f"translation must stay below 16 m; got {np.abs(metres).max()}.")
        whole = np.round(metres * _STEPS_PER_METRE).astype(np.int16)
        places = {"place_steps": np.diff(whole, axis=0, prepend=np.zeros((1, 3), np.int16))}
    return {
        **places,
        "pose_steps": np.diff(steps.astype(np.int16), axis=0, prepend=np.zeros((1, 66), np.int16)),
        "lengths": np.array([len(pose) for pose in poses], np.int32),
        "fps": np.array([clip.fps for clip in clips], np.float32),
        **{key: np.array([getattr(c, key) for c in clips]) for key in ("name", "action", "recording", "source")},
    }


PACKED = ("pose_steps", "lengths", "fps", "name", "action", "recording", "source")
READ = (*PACKED, "place_steps")


def unpack_clips(data: Mapping[str, np.ndarray], path: str | os.PathLike = "packed clips") -> list[Clip]:
    """Clips from the arrays of `pack_clips`; `path` is named where they are wrong.

    Raises:
        UserError: arrays are missing, or do not fit together.
    """
    if missing := [key for key in PACKED if key not in data]:
        raise UserError(
            f"{path}: expected packed clips with the arrays {', '.join(PACKED)}; {', '.join(missing)} not found."
        )
    numbers_in(path, "pose_steps", data["pose_steps"], (None, 66))
    lengths = numbers_in(path, "lengths", data["lengths"], (None,))
    rates = numbers_in(path, "fps", data["fps"], (len(lengths),))
    whole = data["pose_steps"].dtype == np.int16 and lengths.dtype.kind in "iu" and len(lengths) > 0
    if (
        not whole
        or lengths.min() < 1
        or lengths.sum() != len(data["pose_steps"])
        or not LOWEST_FPS <= rates.min() <= rates.max() <= HIGHEST_FPS
    ):
        raise UserError(
            f"{path}: expected pose_steps (int16) in as many frames as lengths add up to, and fps from {LOWEST_FPS:g}"
            f" to {HIGHEST_FPS:g}; found {data['pose_steps'].dtype} {data['pose_steps'].shape}, {len(lengths)} lengths."
        )
    for count, rate in zip(lengths.tolist(), rates.tolist(), strict=True):
        check_length(path, count, rate)
    for key in PACKED[3:]:
        if data[key].shape != lengths.shape or data[key].dtype.kind != "U":
            raise UserError(f"{path}: expected {key} as {len(lengths)} texts; found {data[key].dtype} of shape"
                            f" {data[key].shape}.")  # fmt: skip
    steps = np.cumsum(data["pose_steps"], axis=0, dtype=np.int16)
    poses = steps.astype(np.float32).reshape(-1, 22, 3) / _STEPS_PER_RADIAN
    pieces = np.split(poses, np.cumsum(lengths)[:-1])
    ways: Sequence[np.ndarray | None] = [None] * len(pieces)
    if "place_steps" in data:
        numbers_in(path, "place_steps", data["place_steps"], (len(poses), 3))
        places = np.cumsum(data["place_steps"], axis=0, dtype=np.int16).astype(np.float32) / _STEPS_PER_METRE
        ways = np.split(places, np.cumsum(lengths)[:-1])
    texts = zip(*(data[key] for key in PACKED[3:]), strict=True)
    return [
        Clip(str(name), str(action), str(recording), str(source), float(fps), pose[:, 1:], pose[:, 0], way)
        for (name, action, recording, source), fps, pose, way in zip(texts, rates, pieces, ways, strict=True)
    ]


def moving_clips() -> list[Clip]:
    """The shipped clips with translation (CMU): more actions, known to the statistics and the embedded prior.

    The yardstick was made from `load_clips()` alone.
    """
    return load_clips(str(resources.files("md_jax") / "assets" / "mocap_moving.npz"))


# --- splitting ----------------------------------------------------------------------------------------------


class Split(NamedTuple):
    """Clips to train on and to hold out, and how each action was split: "recording", "time" or "none"."""

    train: list[Clip]
    held_out: list[Clip]
    how: dict[str, str]


def split_clips(
    clips: Sequence[Clip], fraction: float = 0.2, seed: int = 0, gap: float = 1.0, min_seconds: float = 1.5
) -> Split:
    """Hold out whole recordings; or, where an action has fewer than three, the end of each after a gap.

    Args:
        clips: what to split.
        fraction: share of an action's frames to hold out, about.
        seed: which recordings are drawn.
        gap: seconds left out between the two sides of a split in time.
        min_seconds: least length of either side of a split in time; shorter recordings stay whole in
            training, and an action of only such recordings is marked "none".
    """
    rng = np.random.default_rng(seed)
    train: list[Clip] = []
    held_out: list[Clip] = []
    how = {}
    for action in sorted({clip.action for clip in clips}):
        groups: dict[str, list[Clip]] = {}
        for clip in sorted((c for c in clips if c.action == action), key=lambda c: c.name):
            groups.setdefault(clip.recording, []).append(clip)
        if len(groups) >= 3:
            how[action] = "recording"
            seconds = {name: sum(clip.duration for clip in group) for name, group in groups.items()}
            left = fraction * sum(seconds.values())
            for i, name in enumerate(rng.permutation(sorted(groups))):
                out = i < len(groups) - 1 and (i == 0 or seconds[name] <= left)
                left -= seconds[name] if out else 0
                (held_out if out else train).extend(groups[name])
            continue
        how[action] = "none"
        for group in groups.values():
            before, after = _split_in_time(group, fraction, gap, min_seconds)
            how[action] = "time" if after else how[action]
            train.extend(before)
            held_out.extend(after)
    return Split(train, held_out, how)


def split_source(
    source: str | os.PathLike | None, actions: Sequence[str] | None = None, fraction: float = 0.2
) -> Split:
    """Split all clips of a source as `split_clips` does, then keep some actions.

    The order matters: what is held out of an action must not depend on which others are asked for, or an evaluation
    would judge by clips that a prior was trained on.

    Raises:
        UserError: there is nothing to load, or an action is not there.
    """
    load_clips(source, actions)  # names an unknown action
    split = split_clips(load_clips(source), fraction)
    kept = split.how if actions is None else actions
    train, held_out = ([clip for clip in side if clip.action in kept] for side in (split.train, split.held_out))
    return Split(train, held_out, {action: how for action, how in split.how.items() if action in kept})


def _split_in_time(group: list[Clip], fraction: float, gap: float, least: float) -> tuple[list[Clip], list[Clip]]:
    """(before, after) of one recording's pieces, as if they followed each other without a pause."""
    total = sum(len(clip.body_pose) / clip.fps for clip in group)
    length = max(fraction * total, least)
    cut = total - length  # the held-out side begins here
    if cut - gap < least:
        return group, []
    before, after, start = [], [], 0.0
    for clip in group:
        first, last = round((cut - gap - start) * clip.fps), round((cut - start) * clip.fps)
        before += [_slice(clip, 0, first)] if first > 1 else []
        after += [_slice(clip, max(last, 0), None)] if len(clip.body_pose) - last > 1 else []
        start += len(clip.body_pose) / clip.fps
    return before, after


def _slice(clip: Clip, start: int, stop: int | None) -> Clip:
    part = slice(start, stop)
    transl = None if clip.transl is None else clip.transl[part]
    return replace(clip, body_pose=clip.body_pose[part], root_orient=clip.root_orient[part], transl=transl)


# --- mirroring ----------------------------------------------------------------------------------------------


def mirror_pose(body_pose: Float[np.ndarray, "*batch 21 3"]) -> Float[np.ndarray, "*batch 21 3"]:
    """Body poses seen in a mirror: left and right change places."""
    return body_pose[..., _SWAP, :] * FLIP


def mirror_clip(clip: Clip) -> Clip:
    """The clip seen in a mirror."""
    return replace(
        clip,
        body_pose=mirror_pose(clip.body_pose),
        root_orient=clip.root_orient * FLIP,
        transl=None if clip.transl is None else clip.transl * REFLECT,
    )
