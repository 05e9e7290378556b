"""From the options that were given to a complete Config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from md_jax.config import FIELDS, Config
from md_jax.errors import UserError
from md_jax.options.combinations import refuse_unread
from md_jax.presets import own_values, preset_values


def resolve(given: Mapping[str, Any], *, refuse: bool = True) -> Config:
    """The Config of a run: what is given wins over the preset, that over the prior's recipe for the mode, that over the
    fields' own defaults.

    Args:
        given: options by name, only those that somebody gave.
        refuse: whether an option that the run would not read is an error; off for what a run has recorded itself.

    Raises:
        UserError: a value is out of its bounds, contradicts another, or would do nothing.
    """
    known = {name: given.get(name, FIELDS[name].default) for name in ("preset", "prior", "mode", "prior_path")}
    of_pose = known["mode"] in (None, "pose")
    if known["preset"] != "none" and not of_pose and refuse:
        raise UserError(f"--preset={known['preset']} is of pose mode: give --mode={known['mode']} alone.")
    preset = preset_values(known["preset"], known["prior"]) if of_pose else {}
    config = Config(**{**preset, **given})
    if refuse:
        defaults = {name: field.default for name, field in FIELDS.items()}
        own = own_values(known["prior"], config.mode, known["prior_path"])
        refuse_unread(config, given, {**defaults, **own, **preset})
    return config
