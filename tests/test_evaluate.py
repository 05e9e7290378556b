"""The entry point: run folders and foreign files, what each should show, errors in one line, and the prior's word."""

import json
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import BridgeError
from md_jax import evaluate, prior_score
from md_jax.clips import split_source
from md_jax.errors import UserError
from md_jax.evaluation_figure import draw
from md_jax.motion import Motion, save_motion

ACTIONS = ("walking", "punching")


def clip_as_motion(action, prompt="", seconds=2.0):
    """A held-out piece of motion capture."""
    clips = split_source(None, [action]).held_out
    clip = max(clips, key=lambda c: c.duration)
    frames = int(seconds * clip.fps)
    zeros = np.zeros((frames, 3))
    return Motion(clip.body_pose[:frames], zeros, zeros, clip.fps, prompt=prompt)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder of one motion, one of two motions, and a foreign file in a folder named after its action."""
    root = tmp_path_factory.mktemp("motions")
    save_motion(root / "one" / "motion.npz", clip_as_motion("walking", "a man walks"))
    save_motion(root / "two" / "motion-00" / "motion.npz", clip_as_motion("punching", "someone is punching"))
    save_motion(root / "two" / "motion-01" / "motion.npz", clip_as_motion("walking", "a zebra"))
    save_motion(root / "punching" / "clip.npz", clip_as_motion("punching"))
    return root


@pytest.fixture(scope="module")
def result(folder):
    paths = [str(folder / name) for name in ("one", "two")] + [str(folder / "punching" / "clip.npz")]
    return evaluate.evaluate(paths, actions=ACTIONS)


def test_what_a_motion_should_show_is_read_off_its_prompt_or_folder(result):
    assert [row["expected"] for row in result["motions"]] == ["walking", "punching", "", "punching"]


def test_held_out_clips_are_called_what_they_are(result):
    for row in result["motions"]:
        if row["expected"]:
            assert row["with_pose"]["label"] == row["expected"]
            assert 0.6 < row["speed_ratio"] < 1.7
    assert result["summary"]["count"] == 3


def test_the_prior_denoises_real_walking_best_under_its_own_prompt(result):
    assert result["prior"]["label"][0] == "walking"
    losses = np.array(result["prior"]["losses"])
    assert losses.shape == (4, 2) and np.all(losses > 0)


def test_result_is_json_and_draws(result, tmp_path):
    assert json.loads(json.dumps(result)) == result
    draw(result, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_tables_tell_every_motion_and_control(result, capsys):
    from rich.console import Console

    evaluate.print_tables(Console(width=110, highlight=False), result)
    said = capsys.readouterr().out
    for words in ("should be: walking", "real motion", "pooled mean, still", "chance", "embedded prior"):
        assert words in said


def test_results_go_into_the_one_folder_named_or_here(tmp_path):
    out, figure = evaluate.output_files([str(tmp_path)], "", "mine.png")
    assert (out, figure) == (tmp_path / "evaluation.json", Path("mine.png"))
    assert evaluate.output_files([str(tmp_path), str(tmp_path)], "", "")[0] == Path("evaluation.json")


def test_a_path_without_a_motion_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        evaluate.find_motions([str(tmp_path / "nowhere")])


def test_a_prior_of_other_length_refuses():
    with pytest.raises(BridgeError, match="10 frames"):
        prior_score.prompt_losses(np.zeros((1, 7, 21, 3), np.float32), ["a person is walking"])


def test_a_folder_of_clips_can_be_the_reference(tmp_path):
    for action in ACTIONS:
        for i, clip in enumerate(split_source(None, [action]).train[:3]):
            zeros = np.zeros((len(clip.body_pose), 3))
            save_motion(tmp_path / action / f"take{i}.npz", Motion(clip.body_pose, zeros, zeros, clip.fps))
    save_motion(tmp_path / "judged" / "motion.npz", clip_as_motion("walking", "a man walks"))
    reference = tmp_path / "reference"
    reference.mkdir()
    for action in ACTIONS:
        (tmp_path / action).rename(reference / action)
    found = evaluate.evaluate([str(tmp_path / "judged")], reference_source=str(reference), prior="none")
    assert set(found["reference"]["actions"]) == set(ACTIONS)
    assert found["motions"][0]["motion_only"]["label"] == "walking"
    assert "prior" not in found
