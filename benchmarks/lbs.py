"""Skinning against its peers: forward + backward with respect to body_pose, on one CPU core.

    python -m benchmarks.lbs [--quick] [--frames 10] [--rounds 40] [--core N] [--json PATH]

Two bodies: the shipped one, and a stand-in for the official file (V = 10,475, dense pose correctives). All cases get
the same shape, the same poses and the same dL/dvertices; every result is compared with that of the smplx package
before it is timed (hands relaxed: the tests do that). `smplx` multiplies the shipped body's zero correctives and we
drop them, hence the row of our own algorithm in torch: it separates what is owed to the algorithm from what is owed to
XLA.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

# Every case is a function without arguments that returns vertices and dL/dbody_pose.
Case = Callable[[], tuple[Any, Any]]
OURS, SMPLX, PEER = "md_jax, baked", "smplx (torch)", "body-models (JAX, identity prepared)"
RELAXED = "md_jax, baked, hands relaxed"  # the same work on other hands, so its vertices differ
TARGETS = {"shipped body": {SMPLX: 5.0, PEER: 2.0}, "dense correctives": {SMPLX: 2.5, PEER: 2.0}}


def main() -> None:
    args = parse_simple(
        __doc__, "benchmarks.lbs",
        quick=(False, "few rounds: is it working?"),
        frames=(10, "frames posed at once"),
        rounds=(40, "timed calls of each case"),
        core=(int, "which CPU core; default: the last"),
        json=("", "also write the figures here"),
    )  # fmt: skip
    rounds = 5 if args.quick else args.rounds
    pinned = timing.pin_to_one_core(args.core)

    import torch

    from benchmarks import synthetic
    from md_jax.body import model as body

    torch.set_num_threads(1)  # as many as there are cores to it

    environment = timing.environment("jax", "torch", "numpy", "smplx", "body-models")
    print(
        f"Skinning, {args.frames} frames, forward + backward w.r.t. body_pose; {pinned}, {rounds} rounds interleaved."
    )
    print("; ".join(f"{key} {value}" for key, value in environment.items()), "\n", sep="")
    results: dict[str, Any] = {"environment": environment, "frames": args.frames, "rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "shipped body": body.FREE_BODY,
            "dense correctives": synthetic.write(Path(folder) / "SMPLX_NEUTRAL.npz", synthetic.smplx_arrays()),
        }
        for name, path in files.items():
            results[name] = compare(name, path, args.frames, rounds)
    if args.json:
        timing.write_json(args.json, results)


def compare(name: str, path: Path, frames: int, rounds: int) -> dict[str, Any]:
    """Check, time and print all cases of one body."""
    rng = np.random.default_rng(0)
    with contextlib.redirect_stdout(io.StringIO()):
        cases = make_cases(path, frames, rng)
    vertices, gradient = (np.asarray(x) for x in cases[SMPLX]())
    errors = {}
    for case, run in cases.items():
        ours = [np.asarray(x).reshape(y.shape) for x, y in zip(run(), (vertices, gradient), strict=True)]
        errors[case] = (np.abs(ours[0] - vertices).max(), np.abs(ours[1] - gradient).max() / np.abs(gradient).max())
    times = timing.interleave(cases, rounds)
    base = times[SMPLX]
    rows = [
        [case, timing.milliseconds(t.median), timing.milliseconds(t.minimum), f"{base.median / t.median:.1f}×",
         f"{base.minimum / t.minimum:.1f}×", *("–" if case == RELAXED else f"{x:.1e}" for x in errors[case])]
        for case, t in times.items()
    ]  # fmt: skip
    print(f"### {name} (V = {vertices.shape[1]:,})\n")
    columns = ["", "median ms", "min ms", "vs smplx, median", "by min", "max Δv, m", "rel. Δgradient"]
    print(timing.table(columns, rows))
    for peer, target in TARGETS[name].items():
        ratio = times[peer].median / times[OURS].median
        print(f"\n{OURS}: {ratio:.1f}× faster than {peer} (asked: ≥ {target}×)", end="")
    print("\n")
    return {case: {"times": times[case]._asdict(), "errors": [float(x) for x in errors[case]]} for case in cases}


def make_cases(path: Path, frames: int, rng: np.random.Generator) -> dict[str, Case]:
    """All implementations on one file, with the same numbers."""

    betas = rng.normal(size=10).astype(np.float32)
    pose = (0.3 * rng.normal(size=(frames, 21, 3))).astype(np.float32)
    with np.load(path) as archive:
        v = len(archive["v_template"])
    grad = rng.normal(size=(frames, v, 3)).astype(np.float32)
    return {
        SMPLX: _smplx(path, betas, pose, grad),
        PEER: _body_models(path, betas, pose, grad),
        **_ours(path, betas, pose, grad),
    }


def _smplx(path: Path, betas: np.ndarray, pose: np.ndarray, grad: np.ndarray) -> Case:
    import smplx
    import torch

    frames = len(pose)
    model = smplx.SMPLX(str(path), use_pca=False, flat_hand_mean=True, batch_size=frames).requires_grad_(False)
    body_pose = torch.tensor(pose.reshape(frames, 63), requires_grad=True)
    shape, target = torch.tensor(np.tile(betas, (frames, 1))), torch.tensor(grad)

    def run() -> tuple[Any, Any]:
        vertices = model(betas=shape, body_pose=body_pose).vertices
        return vertices.detach(), torch.autograd.grad(vertices, body_pose, target)[0]

    return run


def _body_models(path: Path, betas: np.ndarray, pose: np.ndarray, grad: np.ndarray) -> Case:
    import jax
    import jax.numpy as jnp
    from body_models.smplx.jax import SMPLX

    model = SMPLX(model_path=path, flat_hand_mean=True)
    shape = jnp.zeros((1, model.NUM_SHAPE_COEFFS)).at[0, : len(betas)].set(betas)
    identity = model.prepare_identity(shape, jnp.zeros((1, model.NUM_EXPR_COEFFS)))
    head, hands = jnp.zeros((len(pose), 3, 3)), jnp.zeros((len(pose), 30, 3))

    def vertices(pose: jax.Array, model: Any, identity: Any) -> jax.Array:
        return model.forward_vertices(pose, head, hands, identity=identity)

    return _jax_case(vertices, pose, grad, model, identity)


def _ours(path: Path, betas: np.ndarray, pose: np.ndarray, grad: np.ndarray) -> dict[str, Case]:
    from md_jax.body import lbs
    from md_jax.body.model import load_body

    body = load_body(path)
    hands = {f"{side}_hand_pose": lbs.expand_hand_pca(body, np.zeros(0), side) for side in ("left", "right")}
    baked, relaxed = lbs.bake(body, betas=betas), lbs.bake(body, betas=betas, **hands)

    def full(pose: Any, body: Any) -> Any:
        return lbs.forward(body, betas=betas, body_pose=pose)[0]

    def fast(pose: Any, baked: Any) -> Any:
        return lbs.pose(baked, pose)

    return {
        "md_jax, everything recomputed": _jax_case(full, pose, grad, body),
        OURS: _jax_case(fast, pose, grad, baked),
        RELAXED: _jax_case(fast, pose, grad, relaxed),
        "our baked algorithm in torch": _torch_twin(baked, pose, grad),
    }


def _jax_case(vertices: Callable[..., Any], pose: np.ndarray, grad: np.ndarray, *models: Any) -> Case:
    """A jitted forward and backward pass; models are arguments, so that nothing is folded as a constant."""
    import jax

    @jax.jit
    def both(pose: jax.Array, grad: jax.Array, *models: Any) -> tuple[jax.Array, jax.Array]:
        value, pullback = jax.vjp(lambda x: vertices(x, *models), pose)
        return value, pullback(grad)[0]

    arguments = (*jax.device_put((pose, grad)), *models)
    return lambda: jax.block_until_ready(both(*arguments))


def _torch_twin(baked: Any, pose: np.ndarray, grad: np.ndarray) -> Case:
    """`lbs.pose` line by line in torch."""
    import torch

    from benchmarks import lbs_torch

    arrays = lbs_torch.from_baked(baked)
    body_pose, target = torch.tensor(pose, requires_grad=True), torch.tensor(grad)

    def run() -> tuple[Any, Any]:
        vertices = lbs_torch.pose(arrays, body_pose)
        return vertices.detach(), torch.autograd.grad(vertices, body_pose, target)[0]

    return run


if __name__ == "__main__":
    run_program(main)
