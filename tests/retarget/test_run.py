"""--character: a run puts its motion on a character, and refuses one that it cannot use before anything heavy."""

import dataclasses

import pytest
from rich.console import Console

from md_jax import main as main_job
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.mocap.motion import load_motion
from tests.retarget.characters import NAMINGS, Played, worst_angle, write_character

ONE_STEP = Config(steps=1, views=1, preview_every=0, control_run=False, device="cpu", prompt="a person is running")


def test_a_run_moves_the_character(tmp_path):
    figure = write_character(tmp_path / "hero.glb", NAMINGS["unreal"], axes=1)
    config = dataclasses.replace(ONE_STEP, character=str(figure))
    (tmp_path / "run").mkdir()
    console = Console(record=True, quiet=False, width=200)
    (folder,) = main_job.run_job(config, tmp_path / "run", console)
    assert "character.glb hero.glb with the motion" in console.export_text()
    played = Played(folder / "character.glb")
    assert played.name == "a person is running"
    assert worst_angle(played, load_motion(folder / "motion.npz"), NAMINGS["unreal"])[0] < 0.02


@pytest.mark.parametrize(("name", "said"), [("nowhere.glb", "No such file"), ("hero.fbx", "it is FBX")])
def test_a_character_that_cannot_be_used_is_refused_at_once(name, said, tmp_path, monkeypatch):
    (tmp_path / "hero.fbx").write_bytes(b"Kaydara FBX Binary")
    monkeypatch.setattr(main_job, "_run", lambda *_: pytest.fail("it went on"))
    config = dataclasses.replace(ONE_STEP, character=str(tmp_path / name))
    with pytest.raises(UserError, match=said):
        main_job.run_job(config, tmp_path / "run", Console(quiet=True))
