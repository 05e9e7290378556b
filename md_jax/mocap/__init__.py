"""Motions and motion capture: files, clips, windows, and the pose statistics that start and bound a PoseField."""

from md_jax.lazy import exports

_HOME = {
    "Motion": "md_jax.mocap.motion",
    "load_motion": "md_jax.mocap.motion",
    "save_motion": "md_jax.mocap.motion",
    "resample": "md_jax.mocap.motion",
    "load_clips": "md_jax.mocap.clips",
    "load_statistics": "md_jax.mocap.statistics",
}

__all__ = list(_HOME)
__getattr__, __dir__ = exports(__name__, _HOME)
