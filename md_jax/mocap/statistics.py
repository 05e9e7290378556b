"""Pose statistics: where a motion starts and how far each joint may go from there.

Per action, and "generic" for all actions pooled with equal weight. The shipped file is written by
`tools.build_statistics` from the shipped motion capture.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import resources

import numpy as np
from jaxtyping import Array, Float

from md_jax.body import rotations
from md_jax.errors import UserError
from md_jax.files import is_folder
from md_jax.mocap.clips import Clip, load_clips, mirror_clip
from md_jax.mocap.windows import every_window
from md_jax.outside.npz import numbers_in, read_npz
from md_jax.prompts.reading import read_prompt
from md_jax.prompts.vocabulary import shipped

GENERIC = "generic"
# A joint that never moves in the capture (a wrist of a coarse rig) may still move by k of these: radians; for
# 6D entries the same number, which is about the same turn; metres for translation.
MIN_STD = 0.01
# Root orientation and translation are taken from windows as long as a clip of the embedded prior, because the
# heading is removed from each window.
WINDOW_FRAMES, WINDOW_FPS = 10, 10.0


@dataclass(frozen=True)
class PoseStatistics:
    """Mean and standard deviation of poses; rotation vectors in radians, translation in metres.

    Attributes:
        action: what the statistics are of.
        source: where the clips come from.
        frames: frames of motion capture used.
        body_mean, body_std: rotation vectors of the 21 body joints.
        body_mean_6d, body_std_6d: the same in 6D (the mean's columns are not orthonormal).
        root_mean, root_std, root_mean_6d, root_std_6d: root orientation after the first frame's yaw is
        removed. transl_mean, transl_std: translation from the first frame's place; None if the clips have
            none.
    """

    action: str
    source: str
    frames: int
    body_mean: Float[np.ndarray, "21 3"]
    body_std: Float[np.ndarray, "21 3"]
    body_mean_6d: Float[np.ndarray, "21 6"]
    body_std_6d: Float[np.ndarray, "21 6"]
    root_mean: Float[np.ndarray, "3"]
    root_std: Float[np.ndarray, "3"]
    root_mean_6d: Float[np.ndarray, "6"]
    root_std_6d: Float[np.ndarray, "6"]
    transl_mean: Float[np.ndarray, "3"] | None = None
    transl_std: Float[np.ndarray, "3"] | None = None


# --- computing ----------------------------------------------------------------------------------------------


def compute_statistics(clips: Sequence[Clip], action: str | None = None) -> PoseStatistics:
    """Statistics of an action's clips, or of all of them pooled.

    An action's statistics keep the side on which it was recorded (a right-handed punch stays one), so that
    the mean pose is not torn between left and right. Pooled ones count every action the same, however long
    its clips are, and each clip also mirrored, so that they favour neither an action nor a side.

    Rotation vectors are averaged after each has been replaced by its equivalent (whole turns added) nearest
    to the mean, for the same pose must not count as two; standard deviations have a floor of 0.01 rad.

    Args:
        clips: motion capture.
        action: one of its actions, or None or "generic" for all.

    Raises:
        UserError: there are no such clips.
    """
    pooled = action in (None, GENERIC)
    chosen = [clip for clip in clips if pooled or clip.action == action]
    if not chosen:
        known = ", ".join(sorted({clip.action for clip in clips})) or "none"
        raise UserError(f"no clips of the action {action!r} to take statistics of; there are: {known}.")
    actions = [clip.action for clip in chosen]
    if pooled:
        chosen, actions = chosen + [mirror_clip(clip) for clip in chosen], actions * 2

    body = np.concatenate([clip.body_pose for clip in chosen])
    weight = _equal_shares(np.repeat(actions, [len(clip.body_pose) for clip in chosen]))
    body_mean, body_std = _rotvec_moments(body, weight)
    body_mean_6d, body_std_6d = _moments(rotations.on_host(_sixd, body), weight)

    root, transl, clip_index = _root_windows(chosen)
    weight = _equal_shares(np.repeat(np.array(actions)[clip_index], root.shape[1]))
    root, transl = root.reshape(-1, 3), transl.reshape(-1, 3)
    root_mean, root_std = _moments(root, weight)
    root_mean_6d, root_std_6d = _moments(rotations.on_host(_sixd, root), weight)
    moves = all(clip.transl is not None for clip in chosen)
    transl_mean, transl_std = _moments(transl, weight)
    return PoseStatistics(
        action=GENERIC if pooled else str(action),
        source="; ".join(sorted({c.source for c in chosen})) if len(chosen) < 4 else f"{len(chosen)} clips",
        frames=len(body),
        body_mean=body_mean,
        body_std=body_std,
        body_mean_6d=body_mean_6d,
        body_std_6d=body_std_6d,
        root_mean=root_mean,
        root_std=root_std,
        root_mean_6d=root_mean_6d,
        root_std_6d=root_std_6d,
        transl_mean=transl_mean if moves else None,
        transl_std=transl_std if moves else None,
    )


def _equal_shares(labels: np.ndarray) -> Float[np.ndarray, "N"]:
    """Weights that sum to one, the same for every label."""
    _, label, count = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / (len(count) * count[label])


def _moments(
    values: Float[np.ndarray, "N *shape"], weight: Float[np.ndarray, "N"]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Weighted mean and standard deviation, the latter at least MIN_STD."""
    values = values.astype(np.float64)
    mean = np.tensordot(weight, values, axes=1)
    std = np.sqrt(np.tensordot(weight, (values - mean) ** 2, axes=1))
    return mean.astype(np.float32), np.maximum(std, MIN_STD).astype(np.float32)


def _rotvec_moments(
    rotvecs: Float[np.ndarray, "N 21 3"], weight: Float[np.ndarray, "N"]
) -> tuple[Float[np.ndarray, "21 3"], Float[np.ndarray, "21 3"]]:
    """Moments of rotation vectors, each taken as its equivalent nearest to the mean."""
    matrices = rotations.on_host(rotations.axis_angle_to_matrix, rotvecs)
    u, _, vt = np.linalg.svd(np.tensordot(weight, matrices, axes=1))
    u[..., :, -1] *= np.linalg.det(u @ vt)[..., None]  # the rotation closest to the mean matrix
    mean = rotations.on_host(rotations.matrix_to_axis_angle, (u @ vt).astype(np.float32), rows=21)
    for _ in range(3):
        near = np.broadcast_to(mean, rotvecs.shape)
        mean, std = _moments(rotations.on_host(rotations.nearest_axis_angle, rotvecs, near), weight)
    return mean, std


def _sixd(rotvecs: Float[Array, "*batch 3"]) -> Float[Array, "*batch 6"]:
    return rotations.matrix_to_6d(rotations.axis_angle_to_matrix(rotvecs))


def _root_windows(
    clips: Sequence[Clip],
) -> tuple[Float[np.ndarray, "N F 3"], Float[np.ndarray, "N F 3"], np.ndarray]:
    """Root orientation (continuous in time) and translation of all windows, and the clip of each."""
    longest = max(clip.duration for clip in clips)
    frames = min(WINDOW_FRAMES, int(longest * WINDOW_FPS + 1e-6) + 1)
    windows = every_window(clips, frames=frames, fps=WINDOW_FPS, stride=1 / WINDOW_FPS, root="full")
    root = np.array(windows.root_orient)
    for i in range(1, frames):
        root[:, i] = rotations.on_host(rotations.nearest_axis_angle, root[:, i], root[:, i - 1])
    return root, windows.transl, windows.clip


# --- files --------------------------------------------------------------------------------------------------


def save_statistics(path: str | os.PathLike, statistics: Sequence[PoseStatistics]) -> None:
    """Write statistics to an npz: each array stacked over the actions; `moves` says which have translation."""
    moves = [each.transl_mean is not None for each in statistics]
    columns = {f.name: [getattr(each, f.name) for each in statistics] for f in fields(PoseStatistics)}
    arrays: dict = {k: np.array([np.zeros(3) if x is None else x for x in v]) for k, v in columns.items()}
    if not any(moves):
        arrays = {k: v for k, v in arrays.items() if not k.startswith("transl")}
    elif not all(moves):
        arrays["moves"] = np.array(moves, np.int8)
        arrays["transl_std"][~np.array(moves)] = 1.0  # never read
    np.savez(path, **arrays)


@functools.lru_cache(maxsize=8)
def _table(source: str) -> dict[str, PoseStatistics]:
    """All statistics of a file or folder, by action."""
    if source and is_folder(source):
        clips = load_clips(source)
        actions = sorted({clip.action for clip in clips})
        return {action: compute_statistics(clips, action) for action in [*actions, GENERIC]}
    path = source or str(resources.files("md_jax") / "assets" / "statistics.npz")
    names = [field.name for field in fields(PoseStatistics)]
    data = read_npz(path, [*names, "moves"])
    moves = data.pop("moves", None)
    if missing := [name for name in names if name not in data and not name.startswith("transl")]:
        raise UserError(
            f"{path} holds no pose statistics: {', '.join(missing)} not found. Expected a file written by"
            " tools.build_statistics, or a folder of AMASS-style clips."
        )
    _check_table(path, data)
    rows = zip(*(data[name] for name in names if name in data), strict=True)
    found = [dict(zip((name for name in names if name in data), row, strict=True)) for row in rows]
    if moves is not None:
        numbers_in(path, "moves", moves, (len(found),))
    for i, row in enumerate(found):
        if moves is not None and not moves[i]:
            row.update(transl_mean=None, transl_std=None)
        row.update(action=str(row["action"]), source=str(row["source"]), frames=int(row["frames"]))
    return {row["action"]: PoseStatistics(**row) for row in found}


def _check_table(path: str, data: dict[str, np.ndarray]) -> None:
    """Refuse arrays of statistics that do not fit together, or are no means and spreads of poses."""
    count = data["action"].shape[0] if data["action"].ndim == 1 else 0
    if not count:
        raise UserError(f"{path}: expected action as a list of names; found the shape {data['action'].shape}.")
    for name in ("action", "source"):
        if data[name].shape != (count,) or data[name].dtype.kind != "U":
            raise UserError(f"{path}: expected {name} as {count} texts; found {data[name].dtype} {data[name].shape}.")
    for name, value in data.items():
        if name in ("action", "source"):
            continue
        joints = (21,) if name.startswith("body") else ()
        width = () if name == "frames" else (6 if name.endswith("6d") else 3,)
        numbers_in(path, name, value, (count, *joints, *width))
        if "std" in name and value.min() <= 0:
            raise UserError(f"{path}: expected {name} above 0; found {value.min():g}.")
        if np.abs(value).max() > 1000 and name != "frames":
            raise UserError(f"{path}: expected {name} in radians or metres; found {np.abs(value).max():g}.")


def known_actions(source: str | os.PathLike = "") -> tuple[str, ...]:
    """Actions that have statistics, "generic" aside.

    Args:
        source: "" for the shipped ones, else a file of `save_statistics` or a folder of AMASS-style clips.
    """
    return tuple(sorted(set(_table(str(source))) - {GENERIC}))


def load_statistics(action: str = GENERIC, source: str | os.PathLike = "") -> PoseStatistics:
    """The statistics of an action.

    Args:
        action: one of `known_actions(source)`, or "generic".
        source: as in `known_actions`.

    Raises:
        UserError: the source cannot be read, or knows no such action.
    """
    table = _table(str(source))
    if action not in table:
        raise UserError(
            f"no pose statistics of {action!r}; there are {', '.join(known_actions(source))}, and generic."
            " Others: --statistics=FOLDER, a folder of AMASS-style .npz clips in one sub-folder an action."
        )
    return table[action]


def resolve_action(action: str, prompt: str, source: str = "") -> tuple[str, str]:
    """The action whose statistics a run takes, and one sentence that says why.

    Args:
        action: "auto" (read the prompt), "generic", or an action.
        prompt: the sentence.
        source: the statistics, as in `load_statistics`.

    Raises:
        UserError: there are no statistics of the action asked for.
    """
    known = known_actions(source)
    if action == GENERIC:
        return GENERIC, "pose statistics: all actions pooled, as asked for."
    if action != "auto":
        if action not in known:
            raise UserError(f"--action={action} is not known: choose auto, generic, {', '.join(known)}.")
        return action, f"pose statistics: {action}, as asked for."
    heard = read_prompt(prompt, shipped().only(known)).action
    if heard is not None:
        return heard.action, f"pose statistics: {heard.action}, for the prompt says '{' '.join(heard.words)}'."
    if source and len(known) == 1:
        return known[0], f"pose statistics: {known[0]}, the only action in {source}."
    other = read_prompt(prompt).action
    if other is None:
        entries = shipped().only(known).entries.values()
        phrases = ", ".join(entry.phrase for entry in entries)
        return GENERIC, f"pose statistics: all actions pooled; the prompt names none of {phrases}."
    said = f"the prompt says '{' '.join(other.words)}'"
    return GENERIC, f"pose statistics: all actions pooled; there are none of {other.action} ({said})."
