"""What coarser meshes cost the gradient: python -m benchmarks.detail [--quick] [--json PATH].

The main job's own gradient in the joint angles, by its prior, at states along a run and with the draws of their steps:
the cosine of each level of detail with the full mesh, and how far the silhouettes are apart in pixels. Then the same
for the way in which other bodies are decimated, when they are loaded.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import timing
from bridge.build import TorchSide
from bridge.distill.critic import film
from bridge.render.mesh import make_mesh
from md_jax.body import detail, lbs
from md_jax.fit import posefield
from md_jax.fit.problems import Params, PoseProblem
from md_jax.fit.train import draws_at, init_state, steps
from md_jax.options.command import parse_simple
from md_jax.options.flags import from_flagfile
from md_jax.run import torch_side
from md_jax.run.build import Job, make_job
from md_jax.run.torch_side import run_program

ROOT = Path(__file__).parents[1]


def main() -> None:
    args = parse_simple(
        __doc__, "benchmarks.detail",
        quick=(False, "the main job's own level alone, at three states"),
        states=(9, "how many, evenly spread over the run"),
        json=("", "also write the figures here"),
    )  # fmt: skip
    environment = timing.environment("jax", "torch", "warp-lang")
    results = measure(3 if args.quick else args.states, args.quick)
    rows = [[name, f"{r['triangles']:,}", f"{r['cosine']:.4f}", f"{r['lowest']:.4f}", f"{r['silhouette']:.3f}"]
            for name, r in results.items()]  # fmt: skip
    print(timing.table(["mesh", "triangles", "cosine, mean", "lowest", "silhouette, pixels"], rows))
    print("\n" + "; ".join(f"{name} {value}" for name, value in environment.items()))
    if args.json:
        timing.write_json(args.json, {"environment": environment, **results})


def measure(states: int, quick: bool) -> dict[str, dict[str, float]]:
    """Figures by mesh; "auto" is what the main job draws."""
    config = from_flagfile(ROOT / "configs" / "run.flags")
    job = make_job(dataclasses.replace(config, detail="full"))
    surfaces = {"auto": make_job(config).surface}
    if not quick:
        surfaces |= {f"shipped, {count}": detail.choose(job.body, str(count), 0.0) for count in detail.LEVELS}
        for count in detail.LEVELS:
            corners = detail.decimated(np.asarray(job.body.v_template), job.body.triangles, count)
            surfaces[f"at load, {count}"] = detail.surface(job.body, corners)
    places = states_of(job, states)
    full = [look(job, detail.whole(job.body), *place) for place in places]
    found = {}
    for name, surface in surfaces.items():
        looks = [look(job, surface, *place) for place in places]
        cosines = [cosine(a, b) for (a, _), (b, _) in zip(looks, full, strict=True)]
        edges = sum(int(((outline > 0.02) & (outline < 0.98)).sum()) for _, outline in full)
        apart = sum(float((a - b).abs().sum()) for (_, a), (_, b) in zip(looks, full, strict=True))
        found[name] = {"triangles": len(surface.triangles), "cosine": float(np.mean(cosines)),
                       "lowest": float(np.min(cosines)), "silhouette": apart / edges}  # fmt: skip
    return found


def states_of(job: Job, count: int) -> list[tuple[int, Params]]:
    """(step, parameters) at `count` states of a run, from the first to the last but one."""
    wanted = np.linspace(0, job.config.steps - 2, count).round().astype(int).tolist()
    found: list[tuple[int, Params]] = [(0, job.params)]
    for n, (state, _) in enumerate(steps(job.config, job.problem, init_state(job.config, job.params), job.op), 1):
        if n in wanted:
            found.append((n, state.params))
    return found[: len(wanted)]


def look(job: Job, surface: detail.Surface, step: int, params: Params) -> tuple[np.ndarray, torch.Tensor]:
    """The gradient in the joint angles, and the silhouettes, with one mesh."""
    problem = job.problem
    assert isinstance(problem, PoseProblem)
    baked, config = lbs.select(job.baked, surface.vertices), job.config
    angles = posefield.poses(problem.fields, params).body
    verts, pull = jax.vjp(lambda pose: lbs.pose(baked, pose), angles)
    draws = draws_at(config, problem, 1, jnp.asarray(step), problem.key)
    built = sides(job, surface)
    _, grad, _ = built.guided.loss_and_grad(verts, draws)
    white = make_mesh(surface.triangles, np.ones_like(surface.vertex_colors), ambient=1.0, diffuse=0.0)
    azimuth, elevation = (torch.tensor(np.asarray(angle)) for angle in (draws.azimuth, draws.elevation))
    clips = torch.tensor(np.asarray(verts)).repeat_interleave(config.views, 0)
    black = dataclasses.replace(built.settings, background=(0.0, 0.0, 0.0))
    with torch.no_grad():
        outline = film(clips, azimuth, elevation, white, black, built.height, built.width)[..., 0]
    return np.asarray(pull(grad)[0]), outline


_SIDES: dict[str, TorchSide] = {}


def sides(job: Job, surface: detail.Surface) -> TorchSide:
    """The torch side that draws a surface; made once."""
    name = detail.surface_digest(surface)
    if name not in _SIDES:
        _SIDES[name], _ = torch_side.build(job.config, job.device, job.prompts, job.body, surface)
    return _SIDES[name]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Between two gradients."""
    return float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


if __name__ == "__main__":
    run_program(main)
