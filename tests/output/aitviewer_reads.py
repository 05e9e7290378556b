"""Runs in a Python that has aitviewer: `SCRIPT MODELS MOTION.npz OUT.npz` writes what it makes of a motion.

It imports nothing of ours, and opens no window.
"""

import sys

import numpy as np
from aitviewer.configuration import CONFIG

models, motion, out = sys.argv[1:]
CONFIG.update_conf({"smplx_models": models, "device": "cpu"})

from aitviewer.models.smpl import SMPLLayer  # noqa: E402  # they read the configuration when they are imported
from aitviewer.renderables.smpl import SMPLSequence  # noqa: E402

layer = SMPLLayer("smplx", gender="neutral", num_betas=16)
sequence = SMPLSequence.from_amass(motion, layer)
faster = SMPLSequence.from_amass(motion, layer, fps_out=60)
turn = np.asarray(sequence.rotation).T
place = np.asarray(sequence.position)
np.savez(
    out, vertices=sequence.vertices @ turn + place, joints=sequence.joints @ turn + place, frames_at_60=faster.n_frames
)
