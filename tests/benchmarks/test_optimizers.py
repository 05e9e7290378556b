"""The optimiser benchmark: its plan fits the time, noise is called a tie, and a run goes on where it was left."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import halving, optimizers, optimizers_grid
from benchmarks.halving import Cost, make_plan, promote, stand
from md_jax.fit.optimizers import OPTIMIZERS
from md_jax.run.torch_side import run_program
from tests.pictures import assert_drawn


@pytest.mark.parametrize(("candidates", "minutes"), [(12, 20), (63, 110), (120, 300)])
def test_the_plan_fits_the_time_and_its_rungs_grow(candidates, minutes):
    plan = make_plan(Cost(0.1, 0.06, 5.0), candidates, actions=8, steps=400, seconds=60 * minutes)
    assert sum(rung.candidates * rung.seconds for rung in plan) <= 60 * minutes
    steps, motions = [rung.steps for rung in plan], [rung.candidates * rung.most_each for rung in plan]
    assert steps == sorted(steps) and steps[-1] == 400 and motions == sorted(motions, reverse=True)
    assert plan[0].candidates == candidates and plan[-1].copies >= 1


def test_too_many_candidates_for_the_time_are_refused_with_what_would_do():
    with pytest.raises(ValueError, match=r"200 candidates need at least \d+ minutes.*got 10.*--minutes"):
        make_plan(Cost(0.1, 0.06, 5.0), 200, actions=8, steps=400, seconds=600)


def test_the_better_go_on_but_few_of_one_family_and_the_baseline_always():
    scores = {f"{family}-{i}": np.full(4, value) for family, i, value in [
        ("a", 0, 0.9), ("a", 1, 0.8), ("a", 2, 0.7), ("b", 0, 0.6), ("b", 1, np.nan), ("c", 0, 0.1), ("d", 0, 0.5),
    ]}  # fmt: skip
    kept = promote(scores, 4, 2, family=lambda name: name[0], always="c-0")
    assert kept == ["a-0", "a-1", "b-0", "c-0"]
    assert promote(scores, 2, 1, family=lambda name: name[0], always="b-1") == ["a-0", "b-0"]


def test_the_interval_is_the_normal_one_for_many_motions():
    values = np.random.default_rng(0).normal(0.4, 0.2, size=400)
    low, high = halving.interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.003)


def test_a_difference_within_the_noise_is_a_tie_and_pairing_sees_a_small_steady_one():
    rng = np.random.default_rng(1)
    motion = rng.uniform(size=24)  # how easy each motion is: what pairing removes
    scores = {
        "best": motion,
        "noise": motion - 0.02 + rng.normal(0, 0.2, size=24),
        "steady": motion - 0.05 + rng.normal(0, 0.01, size=24),
        "failed": np.full(24, np.nan),
    }
    standings = {s.name: s for s in stand(scores)}
    assert next(iter(standings)) == "best" and set(standings) == {"best", "noise", "steady"}
    assert standings["best"].tied and standings["noise"].tied and not standings["steady"].tied
    low, high = standings["steady"].interval
    assert low < standings["best"].mean < high  # unpaired, it could not be told


def test_every_optimiser_has_rates_and_the_default_ones_exist():
    assert set(optimizers_grid.GRIDS) <= set(OPTIMIZERS) and set(optimizers_grid.OPTIMIZERS) <= set(OPTIMIZERS)
    grid = optimizers_grid.candidates_of(optimizers_grid.OPTIMIZERS, [], [])
    assert len({c.name for c in grid}) == len(grid) == 3 * (18 + 3)
    assert optimizers_grid.candidates_of(["lion"], [0.1], ["linear"]) == [("lion", 0.1, "linear")]
    assert {c.optimizer for c in optimizers_grid.candidates_of(list(OPTIMIZERS), [], ["cosine"], 1)} == {*OPTIMIZERS}
    for most, expected in ((1, [0.003]), (2, [0.001, 0.003]), (3, [0.001, 0.003, 0.01])):
        own = optimizers_grid.candidates_of(["lion"], [], ["cosine"], most)
        assert sorted(c.learning_rate for c in own) == expected and own[0].learning_rate == 0.003


@pytest.fixture
def toy(monkeypatch):
    """Runs that take no time: a candidate's poses are its rate r, its own p 0.2 / (1 + r), or half that."""
    ran = []

    def run_cell(config, job):
        if config.optimizer == "yogi":
            raise ValueError("no such thing")
        ran.append((config.optimizer, config.learning_rate, config.steps, config.seed, len(job.prompts)))
        poses = np.full((len(job.prompts), 10, 21, 3), config.learning_rate, np.float32)
        return poses, {"seconds": 1.0, "seconds_a_step": 0.1, "skipped_steps": 0, "loss": [1.0 / config.learning_rate]}

    def score(reference, entries):
        return [{"motion_only": {"own": 0.2 / (1 + float(e.windows.mean()))}} for e in entries]

    rate = {"right": 1, "rate": 0.5, "interval": [0.0, 1.0]}
    numbers = {"motion_only": rate, "static": 0, "nn_ratio": 1.0, "speed_ratio": 1.0, "jerk_ratio": 2.0}
    monkeypatch.setattr(optimizers, "run_cell", run_cell)
    monkeypatch.setattr(
        "md_jax.run.build.make_job", lambda config: SimpleNamespace(prompts=["x"] * 2 * config.num_motions)
    )
    controls = {"real motion": {"motion_only_own_probability": 0.7}}
    monkeypatch.setattr("md_jax.evaluate.yardstick.load_yardstick", lambda: SimpleNamespace(controls=controls))
    monkeypatch.setattr("md_jax.evaluate.reference.joint_windows", lambda poses: poses)
    monkeypatch.setattr("md_jax.evaluate.scores.score", score)
    monkeypatch.setattr("md_jax.evaluate.scores.summarise", lambda rows: numbers)
    return ran


def test_a_run_ranks_by_the_score_tells_ties_and_goes_on_where_it_was_left(toy, tmp_path, capsys):
    arguments = ["--quick", f"--out={tmp_path / 'out'}", f"--json={tmp_path / 'r.json'}",
                 f"--figure={tmp_path / 'r.png'}", "--schedules=cosine",
                 "--optimizers=adam,sgd,yogi", f"--job={tmp_path / 'job.flags'}"]  # fmt: skip
    (tmp_path / "job.flags").write_text("--mode=pose\n--learning_rate=0.01\n")
    result = optimizers.main(arguments)
    assert len(toy) == 4 + 2 + 2  # the main job's own candidate is adam at 0.01 with a cosine; yogi fails
    assert [len({row["name"] for row in rows}) for rows in result["rungs"]] == [6, 2, 2]
    best = result["rungs"][-1][0]
    assert best["learning_rate"] == 0.01 and best["tied"] and best["mean"] == pytest.approx(0.2 / 1.01)
    assert {seed for *_, seed, _ in toy} == {0, 1, 2}  # every rung has its own
    assert {row["optimizer"] for row in result["optimizers"]} == {"adam", "sgd"}
    text = capsys.readouterr().out
    assert "adam-0.01-cosine (the main job's)" in text and "failed: yogi-0.01-cosine: ValueError" in text
    assert json.loads((tmp_path / "r.json").read_text())["rungs"]
    assert_drawn(tmp_path / "r.png")
    done = len(toy)
    (tmp_path / "out" / "rung-2" / "sgd-0.01-cosine.npz").unlink()
    again = optimizers.main(arguments[:2] + arguments[4:])
    assert again["rungs"][0] == result["rungs"][0] and len(toy) == done + 1
    assert again["minutes"] == result["minutes"] == pytest.approx(done / 60, abs=0.051)  # each toy run takes a second
    for other in (["--optimizers=adam"], ["--actions=running,walking", *arguments[4:]]):
        with pytest.raises(SystemExit, match="made for other candidates"):
            optimizers.main([*arguments[:2], *other])


def test_a_wrong_name_ends_it_before_anything_runs(toy, tmp_path):
    with pytest.raises(ValueError, match="line search"):
        optimizers.main(["--quick", f"--out={tmp_path}", "--optimizers=lbfgs"])
    assert not toy


def test_ctrl_c_says_that_the_same_command_goes_on(toy, tmp_path, monkeypatch, capsys):
    def interrupted(config, job):
        raise KeyboardInterrupt

    monkeypatch.setattr(optimizers, "run_cell", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run_program(lambda: optimizers.main(["--quick", f"--out={tmp_path}"]), "stopped; the same command goes on")
    assert stopped.value.code == 130 and capsys.readouterr().err == "stopped; the same command goes on\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--actions=flying,walking"], "unknown action 'flying': the actions are walking, running"),
        (["--optimizers=sophia"], "needs the Hessian's diagonal"),
        (["--nosuch=3"], "unknown flag --nosuch"),
        (["--steps=some"], "steps"),
        (["stray"], "not understood: stray"),
        (["--rates=0.1,-1"], "--rates must be positive, got -1"),
    ],
)
def test_what_the_caller_can_put_right_is_one_line(toy, tmp_path, capsys, wrong, said):
    with pytest.raises(SystemExit) as stopped:
        run_program(lambda: optimizers.main(["--quick", f"--out={tmp_path}", *wrong]))
    line = capsys.readouterr().err
    assert stopped.value.code == 2 and line.startswith("error: ") and line.count("\n") == 1 and said in line
    assert not toy
