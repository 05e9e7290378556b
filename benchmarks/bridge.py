"""What one gradient crossing between JAX and torch costs: python -m benchmarks.bridge [--quick] [--json PATH].

A step is p → vertices = JAX(p) → loss and gradient from torch → back through JAX → p - lr·gradient, with almost no work
in it, so that what is left is the crossing. The arms take turns; each starts from the same parameters and must end at
the same ones. `pure_callback` is the usual way to call out of a jit, measured here as a peer and used nowhere else.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

from benchmarks import timing
from bridge.configure import configure
from bridge.critic import FunctionCritic
from bridge.exchange import ACCOUNT, Traffic, to_jax, to_torch
from bridge.op import torch_loss
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

SHAPE = (1, 10, 10475, 3)  # one motion of ten frames on SMPL-X
SCALE, RATE = 0.5, 1e-3
PEER = "peer: pure_callback"

Step = Callable[[Array], Array]


def half_square(verts: torch.Tensor, draws: Any, grad_out: torch.Tensor | None = None) -> tuple[Any, Any, dict]:
    """The torch side: loss ½‖v‖², whose gradient is v."""
    flat = verts.flatten()
    grad = verts.clone() if grad_out is None else grad_out.copy_(verts)
    return (flat.dot(flat) / 2).reshape(1), grad, {}


def forward(params: Array) -> Array:
    """Stands for PoseField and skinning."""
    return params * SCALE


def update(params: Array, grad: Array) -> Array:
    """Stands for the optimiser."""
    return params - RATE * grad


def make_steps() -> dict[str, Step]:
    """The ways to take a step, by name; the first is the one without torch."""
    staged, jitted = (torch_loss(FunctionCritic(half_square), transport) for transport in ("staged", "jit"))
    forward_jit = jax.jit(lambda p: jax.vjp(forward, p))
    backward_jit = jax.jit(lambda p, pullback, grad: update(p, pullback(grad)[0]))
    verts_jit, update_jit = jax.jit(forward), jax.jit(update)

    def staged_step(params: Array) -> Array:
        verts, pullback = forward_jit(params)
        _, grad, _ = staged.loss_and_grad(verts, ())
        return backward_jit(params, pullback, grad)

    def eager_step(params: Array) -> Array:
        _, grad = jax.value_and_grad(lambda p: staged(verts_jit(p), ())[0].sum())(params)
        return update_jit(params, grad)

    def whole(loss: Callable[[Array], Array]) -> Step:
        return jax.jit(lambda params: update(params, jax.grad(lambda p: loss(forward(p)).sum())(params)))

    return {
        "JAX alone (no torch)": whole(half_square_in_jax),
        "jit (buffer_callback)": whole(lambda verts: jitted(verts, ())[0]),
        "staged (two jits)": staged_step,
        "eager value_and_grad": eager_step,
        PEER: whole(half_square_by_pure_callback),
    }


@jax.custom_vjp
def half_square_in_jax(verts: Array) -> Array:
    """The same loss with the same rule, in JAX."""
    return jnp.sum(verts * verts).reshape(1) / 2


half_square_in_jax.defvjp(lambda v: (half_square_in_jax(v), v), lambda grad, ct: (ct[0] * grad,))


HOST_ADDRESSES: dict[str, int] = {}  # where pure_callback's function last saw its input and left its output


def _call_through_numpy(verts: Array) -> tuple[Array, Array]:
    def on_host(v: Any) -> tuple[np.ndarray, np.ndarray]:
        array = np.asarray(v)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is read-only, and only read
            loss, grad, _ = half_square(torch.from_numpy(array), ())
        HOST_ADDRESSES.update(verts=array.ctypes.data, grad=grad.data_ptr())
        return loss.numpy(), grad.numpy()

    shapes = jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct(verts.shape, verts.dtype)
    return jax.pure_callback(on_host, shapes, verts)


@jax.custom_vjp
def half_square_by_pure_callback(verts: Array) -> Array:
    """The same loss through `jax.pure_callback` and numpy."""
    return _call_through_numpy(verts)[0]


half_square_by_pure_callback.defvjp(_call_through_numpy, lambda grad, ct: (ct[0] * grad,))


def pure_callback_bytes(verts: Array) -> int:
    """Bytes that a `pure_callback` crossing copies, told by the addresses on both sides."""
    loss, grad = jax.block_until_ready(jax.jit(_call_through_numpy)(verts))
    copied_in = verts.nbytes * (HOST_ADDRESSES["verts"] != verts.unsafe_buffer_pointer())
    copied_out = grad.nbytes * (HOST_ADDRESSES["grad"] != grad.unsafe_buffer_pointer())
    return copied_in + copied_out + loss.nbytes


# --- measuring --------------------------------------------------------------------------------------------------


class Arm:
    """A way to take a step, with its own parameters, counting what crosses and what is compiled."""

    def __init__(self, step: Step, params: Array, compilations: list[str]) -> None:
        self.step, self.params, self.compilations = step, params, compilations
        self.traffic = Traffic()
        self.compiled: list[int] = []  # compilations in each step

    def __call__(self) -> None:
        ACCOUNT.reset()
        before = len(self.compilations)
        self.params = jax.block_until_ready(self.step(self.params))
        self.traffic = ACCOUNT.snapshot()
        self.compiled.append(len(self.compilations) - before)


def measure(steps: int, warm_up: int = 20) -> list[dict[str, Any]]:
    """One row for each arm: time of a step, what it is above JAX alone, and what crosses in a step."""
    start = jax.device_put(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), jax.devices()[0])
    compilations: list[str] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    arms = {name: Arm(step, start, compilations) for name, step in make_steps().items()}
    times = timing.interleave(arms, steps, warm_up)
    base = next(iter(arms))
    for name, arm in arms.items():
        np.testing.assert_allclose(arm.params, arms[base].params, rtol=1e-5, err_msg=name)
    arms[PEER].traffic = Traffic(calls=1, copied=pure_callback_bytes(start))
    return [
        {
            "step": name,
            "median_us": 1e6 * times[name].median,
            "minimum_us": 1e6 * times[name].minimum,
            "crossing_us": 1e6 * (times[name].median - times[base].median),
            **dataclasses.asdict(arm.traffic),
            "recompiles": sum(arm.compiled[warm_up:]),
        }
        for name, arm in arms.items()
    ]


def measure_parts(rounds: int) -> list[dict[str, Any]]:
    """One row for each direction of the bare exchange and for the torch function alone."""
    x = jax.block_until_ready(jnp.ones(SHAPE))
    tensor = to_torch(x)
    grad_out = torch.empty_like(tensor)

    def torch_alone() -> None:
        half_square(tensor, (), grad_out)
        if tensor.is_cuda:
            torch.cuda.synchronize()

    parts = {"to_torch": lambda: to_torch(x), "to_jax": lambda: to_jax(tensor), "torch function alone": torch_alone}
    times = timing.interleave(parts, rounds, warmup=20)
    return [{"part": n, "median_us": 1e6 * t.median, "minimum_us": 1e6 * t.minimum} for n, t in times.items()]


def report(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table, microseconds without decimals."""
    columns = [column.replace("_us", " µs").replace("_", " ") for column in rows[0]]
    cells = [[f"{v:,.0f}" if isinstance(v, float | int) else v for v in row.values()] for row in rows]
    return timing.table(columns, cells)


def main() -> None:
    """Measure, print the tables, and write JSON if asked to."""
    arguments = parse_simple(
        __doc__, "benchmarks.bridge",
        quick=(False, "30 steps in place of 300"),
        json=("", "also write the numbers there"),
        device=(("auto", "cpu", "cuda"), "where both frameworks run"),
    )  # fmt: skip
    device = configure(arguments.device)
    torch.set_num_threads(1)
    environment = timing.environment("jax", "jaxlib", "torch", "numpy")
    if device == "cuda":
        environment["gpu"] = torch.cuda.get_device_name()
    steps = 30 if arguments.quick else 300
    rows, parts = measure(steps), measure_parts(steps)
    print(f"One gradient crossing at {SHAPE[1:]} on {device}, {steps} steps taken in turns, torch on one thread.")
    print("The last five columns are a step's: torch calls, bytes, compilations after the warm-up.\n")
    print(report(rows), report(parts), sep="\n\n")
    print("\n" + "; ".join(f"{name} {value}" for name, value in environment.items()))
    if arguments.json:
        timing.write_json(
            arguments.json,
            {
                "shape": SHAPE,
                "steps": steps,
                "device": device,
                "environment": environment,
                "arms": rows,
                "parts": parts,
            },
        )


if __name__ == "__main__":
    run_program(main)
