"""Motion capture that stands on the floor: clips without translation get one from their feet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from md_jax.body.model import load_body
from md_jax.ground.place import place
from md_jax.ground.points import stander
from md_jax.mocap.clips import Clip
from md_jax.mocap.motion import Motion

SHORTEST = 5  # frames; flights and standing feet cannot be found in less


def on_their_feet(clips: Sequence[Clip]) -> list[Clip]:
    """The clips, each with a translation: its own, or where its feet take it (`md_jax.ground.place.place`)."""
    body = stander(load_body("free"))

    def placed(clip: Clip) -> Clip:
        if clip.transl is not None:
            return clip
        still = np.zeros((len(clip.body_pose), 3), np.float32)
        if len(still) < SHORTEST:
            return dataclasses.replace(clip, transl=still)
        motion = Motion(clip.body_pose, clip.root_orient, still, clip.fps)
        return dataclasses.replace(clip, transl=place(motion, body)[0].transl.astype(np.float32))

    return [placed(clip) for clip in clips]
