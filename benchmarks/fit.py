"""Where does a fit to a clip end? On renders of real motion, whose truth is known, and on samples of the prior.

    python -m benchmarks.fit --what=real,samples --actions=walking,running --count=3

`real`: held-out motion, filmed from one camera at the prior's size, with all of the body's triangles, and fitted from
pooled statistics: the joints' mean error. `samples`: clips that the prior samples under the action's sentence, fitted
alike. Both are judged by md_jax.evaluate's distance to held-out motion. Nothing is refined by distillation here.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from md_jax.options.command import parse_simple, stop
from md_jax.run.torch_side import run_program

if TYPE_CHECKING:
    from bridge.build import TorchSide

MAIN = ["walking", "running", "jumping", "punching", "swordplay"]
WHAT = ("real", "samples")
SEED = 3  # of the held-out windows
ELEVATION = 0.2  # radians


def videos_of(built: TorchSide, poses: Float[np.ndarray, "M F 21 3"], azimuth: float) -> Float[np.ndarray, "M F H W 3"]:
    """Renders of poses as the prior's clips look: with all of the body's triangles."""
    import jax.numpy as jnp

    from bridge.distill.critic import film
    from bridge.exchange import to_torch
    from bridge.render.mesh import make_mesh
    from md_jax.body import lbs
    from md_jax.evaluate.measures import free_body

    body, baked = free_body()
    mesh = make_mesh(body.triangles, body.vertex_colors)
    around, above = (to_torch(jnp.full(1, angle, jnp.float32)) for angle in (azimuth, ELEVATION))
    height, width = built.height, built.width
    verts = [to_torch(lbs.pose(baked, pose))[None] for pose in poses]
    return np.concatenate([film(v, around, above, mesh, built.settings, height, width).numpy() for v in verts])


def measure(args: SimpleNamespace) -> None:
    """Fit and judge, a line an action."""
    import jax
    import jax.numpy as jnp

    from md_jax.body import lbs
    from md_jax.config import Config
    from md_jax.evaluate import measures
    from md_jax.evaluate.scores import Entry, score, summarise
    from md_jax.evaluate.yardstick import load_yardstick
    from md_jax.fit.match import fit_clips
    from md_jax.fit.starts import SIDE
    from md_jax.mocap.poseprior import pose_prior, prior_clips
    from md_jax.mocap.statistics import load_statistics
    from md_jax.mocap.windows import sample_windows
    from md_jax.prompts.vocabulary import prompt_of_action
    from md_jax.run import torch_side

    torch_side.start("cpu")
    body, baked = measures.free_body()
    count, yardstick = args.count, load_yardstick()
    prior = pose_prior(prior_clips(), load_statistics(), baked)
    sentences = [prompt_of_action(action) for action in args.actions for _ in range(count)]
    built, surface = torch_side.build(Config(action="generic", mode="fit"), "cpu", sentences, body)
    drawn = lbs.select(baked, surface.vertices)

    def fit(video: np.ndarray) -> Float[np.ndarray, "M F 21 3"]:
        around, above = (jnp.full(len(video), angle, jnp.float32) for angle in (SIDE, ELEVATION))
        clips = jnp.asarray(video)
        poses = fit_clips([prior] * len(video), drawn, around, above, clips, built, args.steps)
        return np.asarray(poses)

    def tell(title: str, action: str, poses: np.ndarray, more: str = "") -> None:
        windows = [Entry(action, measures.joints(pose)[None], action) for pose in poses]
        row = summarise(score(yardstick, windows))
        print(
            f"| {title} | {action} | {len(poses)} | {more} | {row['nn_ratio']:.2f} | {row['cosine']:.2f} |"
            f" {row['ankles_sideways_ratio']:.2f} | {row['ankles_fore_aft_ratio']:.2f} | {row['speed_ratio']:.2f} |"
            f" {row['copying']:.2f} | {row['motion_only']['right']} |",
            flush=True,
        )

    if "samples" in args.what:
        noise = jax.random.normal(jax.random.key(args.seed), (len(sentences), *built.latent_shape))
        samples = np.asarray(built.sample(jnp.full(len(sentences), SIDE), noise, 25, args.scale))
    print("| clip | action | n | joint error, cm | NN ratio | cosine | sideways | fore-aft | speed | copying | right |")
    print("|" + "---|" * 11, flush=True)
    for a, action in enumerate(args.actions):
        if "real" in args.what:
            clips = [clip for clip in yardstick.split.held_out if clip.action == action]
            truth = sample_windows(np.random.default_rng(SEED), clips, count, frames=10, fps=10.0).body_pose
            found = fit(videos_of(built, truth, SIDE))
            away = np.linalg.norm(measures.joints(found) - measures.joints(truth), axis=-1)
            tell("real", action, found, f"{100 * away.mean():.1f}")
        if "samples" in args.what:
            tell(f"sample, guidance {args.scale:g}", action, fit(samples[a * count : (a + 1) * count]))


def main() -> None:
    """Parse and do."""
    args = parse_simple(
        __doc__, "benchmarks.fit",
        what=(list(WHAT), "real, samples or both"),
        actions=(MAIN, "what the clips show"),
        count=(3, "clips an action"),
        steps=(60, "of the descent"),
        scale=(3.0, "of guidance, for samples"),
        seed=(0, "of the samples' noise"),
    )  # fmt: skip
    if not set(args.what) <= set(WHAT):
        stop(f"--what is one of {', '.join(WHAT)}, or both; got {', '.join(args.what)}.")
    measure(args)


if __name__ == "__main__":
    run_program(main)
