"""Real clips whose translation is withheld, and distilled motions, put on the floor: how far they go, how they stand.

    python -m benchmarks.ground [--seconds=2.1]

Writes a table in Markdown. Real clips stand on a floor at the median of their lowest vertex with the capture's own
translation; "before" has the root at one place; "after" is `md_jax.ground.place.on_ground`. The distilled motions are
made here, seed 0, and their "before" is the way that was optimised.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from md_jax.body.model import load_body
from md_jax.ground.contacts import Standing
from md_jax.ground.place import measure, on_ground
from md_jax.ground.points import heights, stander
from md_jax.mocap.clips import moving_clips
from md_jax.mocap.motion import Motion
from md_jax.options.command import parse_simple
from md_jax.prompts.vocabulary import prompt_of_action
from md_jax.run.torch_side import run_program

CLIPS = ("cmu_008_01", "cmu_008_04", "cmu_008_07", "cmu_009_12_2", "cmu_009_01", "cmu_009_09", "cmu_001_01_0",
         "cmu_013_13", "cmu_013_40", "cmu_013_31_5")  # fmt: skip
DISTILLED = ("walking", "running", "jumping", "punching")
AIR = 0.08  # metres: a real clip flies where its lowest vertex is higher


def line(name: str, kind: str, found: Standing, turned: float | None = None) -> str:
    """A row of the table."""
    bend = "" if turned is None else f"{turned:.1f}"
    cells = (f"{found.way:.2f}", f"{found.foot_skate:.2f}", f"{found.slip:.2f}", f"{100 * found.penetration:.1f}",
             f"{100 * found.mean_penetration:.1f}", f"{100 * found.float:.1f}", f"{found.airborne:.2f}",
             bend)  # fmt: skip
    return f"| {name} | {kind} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    args = parse_simple(__doc__, "benchmarks.ground", seconds=(2.1, "of each real clip, from its start"))
    body = load_body()
    feet = stander(body)
    pelvis = np.asarray(body.J_regressor @ body.v_template)[0]
    print("| motion | | way m | skate m/s | slip m/s | deepest cm | penetration cm | float cm | airborne | turned ° |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    named = {clip.name: clip for clip in moving_clips()}
    for clip in (named[name] for name in CLIPS):
        part = slice(0, round(args.seconds * clip.fps) + 1)
        assert clip.transl is not None
        real = Motion(clip.body_pose[part], clip.root_orient[part], clip.transl[part] - pelvis, clip.fps)
        lowest = heights(feet, real) - np.median(heights(feet, real))
        placed = dataclasses.replace(real, transl=real.transl - np.array([0, np.median(heights(feet, real)), 0]))
        found = on_ground(dataclasses.replace(real, transl=np.zeros_like(real.transl)), feet, "travel")
        name = f"{clip.action}, {clip.name}"
        print(line(name, "real", measure(placed, feet, lowest > AIR)))
        print(line(name, "before", found.before))
        print(line(name, "after", found.after, found.turned), flush=True)
    from md_jax.library import make_motions

    for action, made in zip(
        DISTILLED, make_motions([prompt_of_action(a) for a in DISTILLED], ground="none"), strict=True
    ):
        found = on_ground(made, feet, "auto")
        print(line(f"{action}, distilled", "before", found.before))
        print(line(f"{action}, distilled", f"after, {found.how}", found.after, found.turned), flush=True)


if __name__ == "__main__":
    run_program(main)
