"""Is it the action? ``python -m md_jax.evaluate runs/0001-a-person-is-walking [more motions ...]``.

Compares motions with real motion capture that no prior of ours was trained on, with the mean pose and without it,
and puts controls beside them. Takes run folders and any AMASS-style motion.npz, ours or others'.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from md_jax.errors import UserError
from md_jax.options.command import parse_simple

if TYPE_CHECKING:
    from md_jax.evaluate.reference import Reference
    from md_jax.mocap.motion import Motion

MAIN_ACTIONS = (
    "walking", "running", "jumping", "punching", "swordplay", "washwindow", "directing_traffic", "cartwheel",
)  # fmt: skip


def find_motions(paths: Sequence[str]) -> list[Path]:
    """Motion files among files and run folders (whose motion.npz, or motion-NN/motion.npz, they are).

    Raises:
        UserError: there is none at one of the paths.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = [path] if path.is_file() else sorted([*path.glob("motion.npz"), *path.glob("motion-*/motion.npz")])
        if not inside:
            raise UserError(f"{path} is neither a motion (.npz) nor a folder that holds motion.npz.")
        found += inside
    return found


def output_files(paths: Sequence[str], out: str, figure: str) -> tuple[Path | None, Path | None]:
    """Where result and figure go: where that is said, else into the run's folder if one folder alone is named, else
    nowhere (None)."""
    if len(paths) == 1 and Path(paths[0]).is_dir():
        home = Path(paths[0])
        return Path(out or home / "evaluation.json"), Path(figure or home / "evaluation.png")
    beside = Path(out).with_suffix(".png") if out else None
    return Path(out) if out else None, Path(figure) if figure else beside


def expected_action(motion: Motion, path: Path, asked: str) -> str:
    """What a motion should show: as asked for, else what its prompt says, else the name of its folder if that is an
    action; "" where nothing tells."""
    from md_jax.prompts.reading import read_prompt
    from md_jax.prompts.vocabulary import shipped

    if asked:
        return asked
    heard = read_prompt(motion.prompt).action
    if heard is not None:
        return heard.action
    return path.parent.name if path.parent.name in shipped().entries else ""


def evaluate(
    paths: Sequence[str],
    *,
    reference_source: str | None = None,
    actions: Sequence[str] = (),
    action: str = "",
    prior: str = "embedded",
    prior_path: str = "",
) -> dict[str, Any]:
    """Evaluate motions; the result is what evaluation.json holds.

    Args:
        paths: motion files and run folders.
        reference_source: None for the shipped clips, or a folder of AMASS-style clips sorted by action.
        actions: the classes; empty: the eight main actions and those that the motions should show (of a folder of
            clips: all).
        action: what every motion should show; empty: read off each.
        prior: the prior that is asked as well; "" or "none": none.
        prior_path: its folder; empty: the shipped one.

    Raises:
        UserError: a file is missing or malformed, or there is no reference of an action.
    """
    from md_jax.evaluate import scores
    from md_jax.evaluate.reference import make_reference
    from md_jax.mocap.motion import load_motion

    files = find_motions(paths)
    motions = [load_motion(file) for file in files]
    expected = [expected_action(motion, file, action) for motion, file in zip(motions, files, strict=True)]
    classes = tuple(actions)
    if not classes and reference_source is None:
        classes = tuple(dict.fromkeys([*MAIN_ACTIONS, *filter(None, expected)]))
    reference = make_reference(reference_source, classes)
    names = [str(file) for file in files]
    entries = [
        scores.entry_of(reference, name, motion, own)
        for name, motion, own in zip(names, motions, expected, strict=True)
    ]
    rows = scores.score(reference, entries)
    for row, motion in zip(rows, motions, strict=True):
        row["prompt"], row["reference_free"] = motion.prompt, scores.reference_free(motion)
    result: dict[str, Any] = {
        "reference": {
            "source": reference_source or "shipped motion capture (CMU), held-out part",
            "actions": list(reference.actions),
            "window_seconds": (reference.frames - 1) / reference.fps,
            "split": reference.split,
            "speed": dict(zip(reference.actions, reference.speed.round(3).tolist(), strict=True)),
        },
        "motions": rows,
        "summary": scores.summarise(rows),
        "baselines": scores.baselines(reference) if set(reference.actions) <= _with_statistics() else {},
    }
    if prior not in ("", "none"):
        result["prior"] = ask_prior(reference, motions, prior, prior_path)
    return result


def ask_prior(reference: Reference, motions: Sequence[Motion], name: str, path: str) -> dict[str, Any]:
    """The prior's denoising loss of each motion under the prompt of each action, less the row's mean."""
    import numpy as np

    from md_jax.evaluate.prior_score import prompt_losses
    from md_jax.mocap.motion import resample
    from md_jax.prompts.vocabulary import actions_of_prior, prompt_of_action, shipped

    understood = shipped().entries.keys() & (actions_of_prior(name, path) or shipped().entries)
    known = [action for action in reference.actions if action in understood]
    poses = [resample(motion, reference.fps).body_pose[: reference.frames] for motion in motions]
    losses = prompt_losses(np.stack(poses), list(map(prompt_of_action, known)), name=name, path=path)
    best = [known[i] for i in losses.argmin(axis=1)]
    return {"name": name, "actions": known, "losses": losses.round(6).tolist(), "label": best}


def _with_statistics() -> set[str]:
    from md_jax.mocap.statistics import known_actions

    return set(known_actions())


# --- telling ----------------------------------------------------------------------------------------------------


MEASURES = {
    "with_pose": "classifier",
    "motion_only": "motion only",
    "position": "nearest pose",
    "position_motion_only": "nearest motion",
    "velocity": "nearest velocity",
}


def print_tables(console: Console, result: dict[str, Any]) -> None:
    """The terminal's text: a few lines a motion, then the shares that are right beside the controls."""
    for row in result["motions"]:
        free = row["reference_free"]
        console.print(f"[bold]{row['name']}[/]  should be: {row['expected'] or 'unknown'}", soft_wrap=True)
        marks = (f"{words} {_mark(row, by)}" for by, words in MEASURES.items())
        console.print("  " + " · ".join(marks), soft_wrap=True)
        speed = f"{row['speed_ratio']:.2f}x real" if "speed_ratio" in row else f"{row['speed']:.2f} m/s"
        jerk = f"{row['jerk_ratio']:.1f}x real" if "jerk_ratio" in row else f"{row['jerk']:.0f} m/s³"
        skate, depth = free["foot_skate_metres_per_second"], free["ground_penetration_metres"]
        console.print(
            f"  speed {speed} · jerk {jerk} · joints turn {free['range_of_motion_degrees']:.0f}° · tilts"
            f" {free['tilt_degrees']:.0f}° · limbs overlap"
            f" {1000 * free['self_penetration_metres']:.0f} mm · repeats {free['periodicity']:.2f} · pose"
            f" {free['pose_deviation']:.1f} σ · foot skate {'n/a' if skate is None else f'{skate:.2f} m/s'} · below"
            f" ground {'n/a' if depth is None else f'{1000 * depth:.0f} mm'}",
            soft_wrap=True,
        )
    title = "Share right in % with its 95 % interval; speed and jerk over real motion"
    rates = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in ("", "n", *MEASURES.values(), "speed", "jerk"):
        rates.add_column(name.replace(" ", "\n"), justify="right" if name else "left", no_wrap=True)
    for name, summary in {"these motions": result["summary"], **result["baselines"]}.items():
        ratios = [summary.get("speed_ratio"), summary.get("jerk_ratio")]
        cells = [_rate(summary[by]) for by in MEASURES]
        ratio_cells = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        rates.add_row(name, str(summary["count"] or ""), *cells, *ratio_cells)
    console.print(rates)
    if "prior" in result:
        asked = result["prior"]
        right = sum(a == row["expected"] for a, row in zip(asked["label"], result["motions"], strict=True))
        said = ", ".join(dict.fromkeys(asked["label"]))
        console.print(f"The {asked['name']} prior denoises {right} of {len(asked['label'])} best under their own prompt"
                      f" (it says: {said}).", soft_wrap=True)  # fmt: skip


def _mark(row: dict[str, Any], by: str) -> str:
    label = row[by]["label"]
    colour = "" if not row["expected"] else "green" if label == row["expected"] else "red"
    return f"[{colour}]{label}[/]" if colour else label


def _rate(cell: dict[str, Any]) -> str:
    if "interval" not in cell:
        return f"{100 * cell['rate']:.0f}"
    low, high = (round(100 * x) for x in cell["interval"])
    return f"{100 * cell['rate']:.0f} [dim]{low}-{high}[/]"


FLAGS: dict[str, tuple[Any, str]] = {
    "action": ("", "What every motion should show; empty: read off its prompt or folder."),
    "actions": ([], "The classes; empty: the eight main actions and those of the motions."),
    "reference": ("", "Folder of AMASS-style clips, one sub-folder an action; empty: the shipped ones."),
    "prior": ("embedded", "The prior that is asked as well; 'none': none."),
    "prior_path": ("", "Its folder; empty: the shipped one."),
    "out": ("", "Write the result as JSON there, and a figure beside it; one run's folder gets both unasked."),
    "figure": ("", "Write the figure there."),
    "json": (False, "Print the result as JSON instead of tables."),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, evaluate, write and tell.

    Args:
        argv: what follows the program's name; default: the command line.
    """
    options = parse_simple(__doc__, "md_jax.evaluate", argv, rest="motions", **FLAGS)
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=110)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in md_jax.main
    logging.getLogger("jax._src.xla_bridge").setLevel(
        logging.WARNING
    )  # it tells of the accelerators that are not there
    try:
        if not options.motions:
            raise UserError("name at least one motion: python -m md_jax.evaluate runs/0001-a-person-is-walking")
        if console.is_terminal and not options.json:
            console.print("training the classifiers and comparing; half a minute or so ...")
        result = evaluate(
            options.motions,
            reference_source=options.reference or None,
            actions=options.actions,
            action=options.action,
            prior=options.prior,
            prior_path=options.prior_path,
        )
        wrote = write(result, *output_files(options.motions, options.out, options.figure))
    except UserError as error:
        console.print(f"error: {error}", markup=False, soft_wrap=True, style="red")
        sys.exit(2)
    if options.json:
        print(json.dumps(result))
        return
    print_tables(console, result)
    console.print(f"wrote {' and '.join(wrote)}" if wrote else "nothing written: --out=FILE keeps it", soft_wrap=True)


def write(result: dict[str, Any], out: Path | None, figure: Path | None) -> list[str]:
    """Write the result and its figure, each where a path says so; returns the paths."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it announces the fonts that it finds
    if out is not None:
        from md_jax.run.workdir import write_json

        write_json(out, result)
    if figure is not None:
        from md_jax.evaluate.figure import draw

        draw(result, figure)
    return [str(path) for path in (out, figure) if path is not None]


def run() -> None:
    """Entry point of ``python -m md_jax.evaluate``."""
    main()
