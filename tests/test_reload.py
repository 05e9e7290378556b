"""Modules may be loaded anew, as notebooks do."""

import importlib

import pytest

MODULES = [
    "config", "files", "outside.npz", "outside.interrupts", "outside.environment", "options.flags", "options.command",
    "main", "body.model", "body.lbs", "mocap.motion", "mocap.statistics", "fit.checkpoint", "fit.train",
]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_loaded_anew(name):
    module = importlib.import_module(f"md_jax.{name}")
    before = dict(vars(module))
    try:
        importlib.reload(module)
    finally:
        vars(module).update(before)  # the other tests go on with the classes that they imported
