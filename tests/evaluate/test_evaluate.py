"""The entry point: run folders and foreign files, what each should show, errors in one line, and the prior's word."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from md_jax.errors import UserError
from md_jax.evaluate import command as evaluate
from md_jax.evaluate import measures
from md_jax.evaluate.report import draw, print_evaluation
from md_jax.mocap.clips import split_source
from md_jax.mocap.motion import Motion, save_motion
from tests.pictures import assert_drawn

ACTIONS = ("walking", "punching")


def clip_as_motion(action, prompt="", seconds=2.0):
    """A held-out piece of motion capture."""
    clips = split_source(None, [action]).held_out
    clip = max(clips, key=lambda c: c.duration)
    frames = int(seconds * clip.fps)
    zeros = np.zeros((frames, 3))
    return Motion(clip.body_pose[:frames], zeros, zeros, clip.fps, prompt=prompt)


def turning(motion):
    """The same with the pelvis leaning."""
    lean = np.linspace(0, 0.3, len(motion.body_pose))[:, None] * [1, 0, 0]
    return replace(motion, root_orient=motion.root_orient + lean)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder of one motion, one of two motions, and a foreign file in a folder named after its action."""
    root = tmp_path_factory.mktemp("motions")
    save_motion(root / "one" / "motion.npz", clip_as_motion("walking", "a man walks"))
    save_motion(root / "two" / "motion-00" / "motion.npz", clip_as_motion("punching", "someone is boxing"))
    save_motion(root / "two" / "motion-01" / "motion.npz", clip_as_motion("walking", "a zebra"))
    save_motion(root / "punching" / "clip.npz", clip_as_motion("punching"))
    return root


@pytest.fixture(scope="module")
def result(folder):
    paths = [str(folder / name) for name in ("one", "two")] + [str(folder / "punching" / "clip.npz")]
    return evaluate.evaluate(paths, prior="embedded")


def test_what_a_motion_should_show_is_read_off_its_prompt_or_folder(result):
    assert [row["expected"] for row in result["motions"]] == ["walking", "punching", "", "punching"]


def test_held_out_clips_are_called_what_they_are_and_are_their_own_neighbours(result):
    for row in result["motions"]:
        if row["expected"]:
            assert row["motion_only"]["label"] == row["expected"]
            assert row["nn"] < 0.005 and row["cosine"] > 0.95 and 0.6 < row["speed_ratio"] < 1.7
    assert result["summary"]["count"] == 3 and result["reference"]["root"] == "fixed"
    verdict = next(v for v in result["verdicts"] if v["measure"] == "nearest real window")
    assert not verdict["good"] and "too near" in verdict["words"]


def test_the_prior_denoises_real_walking_best_under_its_own_prompt(result):
    assert result["prior"]["label"][0] == "walking"
    losses = np.array(result["prior"]["losses"])
    assert losses.shape == (4, len(result["prior"]["actions"])) and np.all(losses > 0)


def test_result_is_json_and_draws(result, tmp_path):
    assert json.loads(json.dumps(result)) == result
    draw(result, tmp_path / "figure.png")
    assert_drawn(tmp_path / "figure.png")


def test_tables_tell_every_motion_and_control(result, capsys):
    from rich.console import Console

    print_evaluation(Console(width=160, highlight=False), result)
    said = capsys.readouterr().out
    for words in ("should be: walking", "real motion", "pooled mean pose", "random", "previous", "embedded prior",
                  "no  nearest real window", "yes ankles sideways", "fewer than three recordings"):  # fmt: skip
        assert words in said


def test_a_motion_without_an_action_says_how_to_name_one(folder, capsys):
    from rich.console import Console

    result = evaluate.evaluate([str(folder / "two" / "motion-01" / "motion.npz")])
    print_evaluation(Console(width=160, highlight=False), result)
    assert "--action=NAME" in capsys.readouterr().out
    assert "prior" not in result  # it is asked only if that is asked for


def test_a_turning_root_is_compared_with_turning_ones(folder, tmp_path):
    save_motion(tmp_path / "leaning" / "motion.npz", turning(clip_as_motion("walking", "a man walks")))
    leaning = evaluate.evaluate([str(tmp_path / "leaning")])
    assert leaning["reference"]["root"] == "turning"
    assert leaning["motions"][0]["motion_only"]["label"] == "walking"  # the classifier sees no root
    assert evaluate.evaluate([str(tmp_path / "leaning")], root="fixed")["motions"][0]["nn"] < 0.005
    assert leaning["motions"][0]["nn"] > 0.02


def test_results_go_into_the_one_folder_named_or_where_that_is_said(tmp_path):
    out, figure = evaluate.output_files([str(tmp_path)], "", "mine.png")
    assert (out, figure) == (tmp_path / "evaluation.json", Path("mine.png"))
    two = [str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    assert evaluate.output_files(two, "", "") == (None, None)  # nothing in the current folder unasked
    assert evaluate.output_files(two[:1], "", "") == (None, None)
    assert evaluate.output_files(two, "x/r.json", "") == (Path("x/r.json"), Path("x/r.png"))
    for wrong, said in ((".", "is a folder"), ("/", "is a folder"), ("/dev/null", "a device or a pipe")):
        with pytest.raises(UserError, match=said):
            evaluate.output_files(two, wrong, "")
    for wrong in ("figure", "figure.zzz", "."):
        with pytest.raises(UserError, match="expected a name that ends with"):
            evaluate.output_files(two, "", wrong)


def test_a_path_without_a_motion_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        evaluate.find_motions([str(tmp_path / "nowhere")])


def test_a_prior_of_other_length_refuses():
    with pytest.raises(UserError, match="10 frames"):
        measures.prompt_losses(np.zeros((1, 7, 21, 3), np.float32), ["a person is walking"])


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
    found = evaluate.evaluate([str(tmp_path / "judged")], reference_source=str(reference))
    assert set(found["reference"]["actions"]) == set(ACTIONS)
    assert found["motions"][0]["motion_only"]["label"] == "walking" and found["summary"]["count"] == 1
    assert "prior" not in found
