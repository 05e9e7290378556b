"""What a page shows in three dimensions, as plain JSON: one skinned body, and the clips that move it."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from md_jax.body.model import Body
from md_jax.body.rotations import axis_angle_to_quaternion
from md_jax.mocap.motion import Motion
from md_jax.mocap.posing import rest_of
from md_jax.output.gltf import largest_weights

MOST_MOTIONS = 200  # that a page holds; it moves 25 at once
MOST_COMPARED = 25  # motions of a page that still have their controls


@dataclasses.dataclass(frozen=True)
class Shown:
    """One motion of a page, and what stands beside it.

    Args:
        title: such as the prompt.
        motion: y up, on the floor at y = 0.
        controls: by label; shown beside the motion when it stands alone.
        page: address of its own page, if it has another than this one.
        note: what else it is called: its run, its number.
    """

    title: str
    motion: Motion
    controls: dict[str, Motion] = dataclasses.field(default_factory=dict)
    page: str = ""
    note: str = ""


def body_of(body: Body, motion: Motion) -> dict[str, Any]:
    """The body in its rest pose for the page's skinning; arrays are base64 of little-endian numbers.

    `positions` are int16 of `unit` metres, `weights` uint16 of 65535, `joints` uint8 indices of the four joints that
    move a vertex most, `colors` uint8 sRGB, `triangles` uint32.
    """
    vertices, joints = rest_of(body, motion)
    unit = float(np.abs(vertices).max()) / 32767
    indices, weights = (each[:, :4] for each in largest_weights(np.asarray(body.weights)))
    weights = weights / weights.sum(axis=1, keepdims=True)
    offsets = joints - np.where(np.asarray(body.parents)[:, None] >= 0, joints[np.asarray(body.parents)], 0)
    return {
        "unit": unit,
        "positions": _packed(vertices / unit, "<i2"),
        "triangles": _packed(np.asarray(body.triangles), "<u4"),
        "colors": _packed(np.asarray(body.vertex_colors) * 255, "u1"),
        "joints": _packed(indices, "u1"),
        "weights": _packed(weights * 65535, "<u2"),
        "parents": np.asarray(body.parents).tolist(),
        "offsets": np.round(offsets, 5).tolist(),
    }


def clip_of(label: str, motion: Motion) -> dict[str, Any]:
    """A motion for the page: `rotations` int16 of 32767, quaternions x, y, z, w of 55 joints a frame; `path` metres."""
    wxyz = np.asarray(axis_angle_to_quaternion(jnp.asarray(motion.poses)))
    return {
        "label": label,
        "fps": motion.fps,
        "frames": len(wxyz),
        "rotations": _packed(np.roll(wxyz, -1, axis=-1) * 32767, "<i2"),
        "path": _packed(motion.transl, "<f4"),
    }


def scene_of(body: Body, shown: Sequence[Shown]) -> dict[str, Any]:
    """Body and clips of a page; of very many motions the first `MOST_MOTIONS`."""
    left_out = max(len(shown) - MOST_MOTIONS, 0)
    return {"body": body_of(body, shown[0].motion), "motions": motions_of(shown), "left_out": left_out}


def motions_of(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """The motions of a page: of each its clips, itself first and then its controls."""
    return [
        {
            "title": each.title,
            "note": each.note,
            "page": each.page,
            "clips": [clip_of("this run", each.motion)]
            + [clip_of(label, motion) for label, motion in each.controls.items() if len(shown) <= MOST_COMPARED],
        }
        for each in shown[:MOST_MOTIONS]
    ]


def _packed(values: np.ndarray, kind: str) -> str:
    whole = np.dtype(kind).kind in "iu"
    return base64.b64encode((np.round(values) if whole else values).astype(kind).tobytes()).decode()
