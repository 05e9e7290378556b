"""Is it the action? ``python -m md_jax.evaluate runs/0001-a-person-is-walking [more motions ...]``.

Compares motions with real motion capture that no prior of ours was trained on, and puts real motion, a pose held
still, random motion and the previous release beside them. Takes run folders and any AMASS-style motion.npz.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from md_jax.errors import UserError
from md_jax.files import output_file, to_json
from md_jax.options.command import parse_simple
from md_jax.outside.environment import keep_compiled

if TYPE_CHECKING:
    from md_jax.evaluate.reference import Root
    from md_jax.mocap.motion import Motion

MAIN_ACTIONS = (
    "walking", "running", "jumping", "punching", "swordplay", "washwindow", "directing_traffic", "cartwheel",
)  # fmt: skip


PICTURES = (".png", ".pdf", ".svg")


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
    nowhere (None).

    Raises:
        UserError: a path names no file, or the figure's no kind of picture.
    """
    if figure and Path(figure).suffix.lower() not in PICTURES:
        raise UserError(f"--figure={figure}: expected a name that ends with {', '.join(PICTURES)}.")
    if len(paths) == 1 and Path(paths[0]).is_dir():
        home = Path(paths[0])
        return output_file(out or home / "evaluation.json"), output_file(figure or home / "evaluation.png")
    result, picture = output_file(out) if out else None, output_file(figure) if figure else None
    return result, picture or (result and result.with_suffix(".png"))


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
    action: str = "",
    root: str = "auto",
    prior: str = "",
    prior_path: str = "",
) -> dict[str, Any]:
    """Evaluate motions; the result is what evaluation.json holds.

    Args:
        paths: motion files and run folders.
        reference_source: None for the shipped clips, or a folder of AMASS-style clips sorted by action.
        action: what every motion should show; empty: read off each.
        root: "fixed" compares the body alone; "turning" its tilt and turning, too; "auto": turning if any motion turns.
        prior: the prior that is asked as well; "" or "none": none.
        prior_path: its folder; empty: the shipped one.

    Raises:
        UserError: a file is missing or malformed, or there is too little to compare with.
    """
    from md_jax.evaluate import scores
    from md_jax.evaluate.measures import reference_free
    from md_jax.evaluate.reference import turns, windows_of
    from md_jax.evaluate.yardstick import load_yardstick
    from md_jax.mocap.motion import load_motion

    files = find_motions(paths)
    motions = [load_motion(file) for file in files]
    expected = [expected_action(motion, file, action) for motion, file in zip(motions, files, strict=True)]
    yardstick = load_yardstick(reference_source)
    chosen: Root = "turning" if root == "turning" or (root == "auto" and any(map(turns, motions))) else "fixed"
    cut: dict[str, Any] = {"frames": yardstick.frames, "fps": yardstick.fps}
    entries = [
        scores.Entry(str(file), windows_of(motion, **cut, root=chosen), own)
        for file, motion, own in zip(files, motions, expected, strict=True)
    ]
    limbs = [windows_of(motion, **cut) for motion in motions] if chosen == "turning" else None
    rows = scores.score(yardstick, entries, chosen, limbs)
    for row, motion in zip(rows, motions, strict=True):
        row["prompt"], row["reference_free"] = motion.prompt, reference_free(motion)
    summary, together = scores.summarise(rows), scores.compare(yardstick, entries, chosen)
    result: dict[str, Any] = {
        "reference": {
            "source": reference_source or "shipped motion capture (CMU), held-out part",
            "clips": yardstick.digests,
            "actions": list(yardstick.actions),
            "window_seconds": (yardstick.frames - 1) / yardstick.fps,
            "root": chosen,
        },
        "motions": rows,
        "summary": summary,
        "together": together,
        "verdicts": [v._asdict() for v in scores.verdicts(yardstick, summary, together, chosen)],
        "controls": scores.controls_for(yardstick, chosen),
        "real": {
            action: vars(yardstick.norms[chosen, action]) | {"motion_only": yardstick.real[action]}
            for action in summary["by_action"]
        },
    }
    if prior not in ("", "none"):
        result["prior"] = ask_prior(motions, yardstick.actions, prior, prior_path)
    return result


def ask_prior(motions: Sequence[Motion], actions: Sequence[str], name: str, path: str) -> dict[str, Any]:
    """The prior's denoising loss of each motion under the prompt of each action that it knows."""
    import numpy as np

    from md_jax.evaluate.measures import prompt_losses
    from md_jax.evaluate.reference import FPS, FRAMES
    from md_jax.mocap.motion import resample
    from md_jax.prompts.vocabulary import actions_of_prior, prompt_of_action, shipped

    understood = shipped().entries.keys() & (actions_of_prior(name, path) or shipped().entries)
    known = [action for action in actions if action in understood]
    poses = [resample(motion, FPS).body_pose[:FRAMES] for motion in motions]
    losses = prompt_losses(np.stack(poses), list(map(prompt_of_action, known)), name=name, path=path)
    best = [known[i] for i in losses.argmin(axis=1)]
    return {"name": name, "actions": known, "losses": losses.round(6).tolist(), "label": best}


FLAGS: dict[str, Any] = {
    "action": ("", "What every motion should show; empty: read off its prompt or folder."),
    "reference": ("", "Folder of AMASS-style clips, one sub-folder an action; empty: the shipped ones."),
    "root": (("auto", "fixed", "turning"), "fixed: compare the body alone; turning: its tilt and turning, too."),
    "prior": ("", "A prior to be asked as well: embedded, modelscope ...; empty: none."),
    "prior_path": ("", "Its folder; empty: the shipped one."),
    "out": ("", "Write the result as JSON there, and a figure beside it; one run's folder gets both unasked."),
    "figure": ("", "Write the figure there."),
    "json": (False, "Print the result as JSON instead of tables."),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, evaluate, write and tell, inside `md_jax.options.command.program`.

    Args:
        argv: what follows the program's name; default: the command line.

    Raises:
        UserError: what the user can put right.
    """
    options = parse_simple(__doc__, "md_jax.evaluate", argv, rest="motions", **FLAGS)
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=110)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)  # it lists accelerators that are not there
    if not options.motions:
        raise UserError("name at least one motion: python -m md_jax.evaluate runs/0001-a-person-is-walking")
    if options.reference and console.is_terminal and not options.json:
        console.print("measuring the real motion first; some minutes ...")
    outputs = output_files(options.motions, options.out, options.figure)  # before minutes of work
    keep_compiled()
    result = evaluate(
        options.motions,
        reference_source=options.reference or None,
        action=options.action,
        root=options.root,
        prior=options.prior,
        prior_path=options.prior_path,
    )
    wrote = write(result, *outputs)
    if options.json:
        print(to_json(result))
        return
    from md_jax.evaluate.report import print_evaluation

    print_evaluation(console, result)
    console.print(
        f"wrote {' and '.join(wrote)}" if wrote else "nothing written: --out=FILE keeps it",
        markup=False,
        soft_wrap=True,
    )


def write(result: dict[str, Any], out: Path | None, figure: Path | None) -> list[str]:
    """Write the result and its figure, each where a path says so; returns the paths."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it announces the fonts that it finds
    if out is not None:
        from md_jax.run.workdir import write_json

        write_json(out, result)
    if figure is not None:
        from md_jax.evaluate.report import draw

        draw(result, figure)
    return [str(path) for path in (out, figure) if path is not None]
