"""The table that the benchmarks are told by: its rows, where it is written, and when a ratio has got worse."""

import json

import pytest

from benchmarks import all as everything
from benchmarks import check


def lbs(ours, smplx, torch):
    names = {"md_jax, baked": ours, "smplx (torch)": smplx, "our baked algorithm in torch": torch}
    return {name: {"times": {"median": seconds}} for name, seconds in names.items()}


def arms(**seconds):
    return {name.replace("_", " "): {"median": value} for name, value in seconds.items()}


def drawn(size, antialias, ms, inflation):
    return {"size": size, "supersample": 2, "antialias": antialias, "forward_ms": ms, "backward_ms": ms,
            "inflation": inflation}  # fmt: skip


FOUND = {
    "lbs": {"shipped body": lbs(0.004, 0.08, 0.008), "dense correctives": lbs(0.01, 0.05, 0.02)},
    "render": {"rows": [drawn(64, "edge", 1, 1), drawn(256, "edge", 2, 1.04), drawn(256, "visible", 1.5, 0.24)]},
    "bridge": {"arms": [{"step": "staged (two jits)", "copied": 0}, {"step": "peer: pure_callback", "copied": 2e6}]},
    "detail": {"auto": {"cosine": 0.9917}},
    "step_time": {"results": {case: {
        **arms(jax_staged=0.04, jax_jit=0.05, torch_smplx_foreach=0.12, torch_ours_foreach=0.06),
        "torch ours coarse": {"median": 0.044},
        "torch ours compiled": {"failed": "no compiler"},
    } for case in ("kernel", "null", "full")}},
    "startup": {"seconds": {"filled cache: first step done": [4.0, 3.0, 5.0], "empty cache: first step done": [9.0]}},
    "motions 1": 0.04,
    "motions 8": 0.2,
}  # fmt: skip


def test_every_figure_has_its_row():
    rows = {(row.name, everything._peer_of(row)): row for row in everything.rows_of(FOUND)}
    full = rows["full step", "torch + our skinning"]
    assert (full.ours, full.ratio, full.floor) == ("40.00 ms", pytest.approx(1.5), "1.5×")
    assert rows["full step", "the same with our coarser mesh"].ratio == pytest.approx(1.1)
    assert rows["a step and motion, 8 motions at once", "one at a time"].ratio == pytest.approx(0.04 / 0.025)
    assert rows["render + gradient, 27k triangles, 256² ss2, a frame", "nvdiffrast's rule"].ratio == pytest.approx(0.75)
    assert rows["first step after the command, caches filled / empty", ""].ours == "4.0 s / 9.0 s"
    kept = everything.kept(everything.rows_of(FOUND))
    assert kept["full step | torch + `smplx`"] == 3.0 and len(kept) == sum(r.ratio is not None for r in rows.values())


def test_the_committed_ratios_are_ones_that_are_measured():
    before = json.loads(everything.RATIOS.read_text())
    assert before and before.keys() <= everything.kept(everything.rows_of(FOUND)).keys()


def test_the_table_goes_between_the_marks_and_names_the_day():
    text = everything.table(everything.rows_of(FOUND), "2026-12-01", "cpu of a kind")
    page = everything.put(f"# Head\n{everything.BEGIN}\nold\n{everything.END}\ntail\n", text)
    assert page.startswith("# Head\n") and page.endswith(f"{everything.END}\ntail\n") and "old" not in page
    assert "Measured on 2026-12-01; cpu of a kind." in page
    assert "| full step | 40.00 ms | 120 ms torch + `smplx` | 3.0× | 1.5× |\n| | " in page.replace("|  |", "| |")
    assert everything.put(page, text) == page
    with pytest.raises(ValueError, match="expected a page with"):
        everything.put("# Head\n", text)
    for each in everything.PAGES:
        everything.put(each.read_text(encoding="utf-8"), text)


def test_what_got_worse_by_more_than_the_limit_is_named():
    before = {"skinning": 10.0, "step": 2.0, "gone": 1.0}
    now = {"skinning": 8.6, "step": 1.69, "new": 0.1}
    assert check.lost(before, now) == [
        "step: was 2.00×, is 1.69× (-16%)",
        "gone: was 1.00×, and is not measured any more",
    ]
    assert check.lost(before, {**before, "step": 9.0}) == []


@pytest.mark.parametrize(("full_step", "code"), [(0.04, 0), (0.08, 1)])
def test_the_check_ends_with_the_verdict(tmp_path, monkeypatch, capsys, full_step, code):
    kept = tmp_path / "ratios.json"
    kept.write_text(json.dumps(everything.kept(everything.rows_of(FOUND))))
    now = json.loads(json.dumps(FOUND))
    now["step_time"]["results"]["full"]["jax staged"]["median"] = full_step
    now["step_time"]["results"]["full"]["jax jit"]["median"] = full_step
    monkeypatch.setattr(check, "RATIOS", kept)
    monkeypatch.setattr(check, "measured", lambda: now)
    monkeypatch.setattr("sys.argv", ["check"])
    assert check.main() == code
    assert ("full step" in capsys.readouterr().out) == bool(code)
