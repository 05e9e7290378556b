"""The shipped prior's share of a step, beside what the processor could do: python -m benchmarks.embedded [--quick].

One prediction (a guidance pair) and one encoding with its gradient, in float32 and in bfloat16, on one core: with the
processor's caches as the call before left them, and flushed, as the renderer leaves them in a step. Beside them the
rate of a plain product of two 2048² matrices. bfloat16 is emulated on a processor that has no instructions for it. Its
error is that of the guidance direction c - u at the recipe's times, on a noised sample.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import timing

CORE = timing.pin_to_one_core()

import torch  # noqa: E402  (after the core is chosen)
from torch import Tensor  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from bridge.distill.objectives import add_noise  # noqa: E402
from bridge.distill.sample import alpha_sigma_of, ddim, denoiser, times_of  # noqa: E402
from bridge.priors import Prior, load_prior  # noqa: E402
from bridge.priors.spec import Text  # noqa: E402
from md_jax.options.command import parse_simple  # noqa: E402
from md_jax.run.torch_side import run_program  # noqa: E402

PRECISIONS = ("float32", "bfloat16")
SENTENCE = "a person is walking, side view"
TIMES, SCALE, STEPS = (0.1, 0.25, 0.4), 1.5, 25  # the recipe's
FLUSHED = 32 * 2**20  # numbers of 4 bytes: more than the caches hold
MATRIX = 2048


def main() -> None:
    """Measure, print, write."""
    args = parse_simple(
        __doc__, "benchmarks.embedded",
        quick=(False, "a few rounds"),
        json=("", "also write the figures here"),
    )  # fmt: skip
    environment = timing.environment("torch")
    rows = measure(3 if args.quick else 40)
    print(f"{CORE}; bfloat16 instructions: {'yes' if has_bfloat16() else 'no'}\n\n{report(rows)}")
    print("\n" + "; ".join(f"{name} {value}" for name, value in environment.items()))
    if args.json:
        timing.write_json(args.json, {"environment": environment, "rows": rows})


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself (AVX512-BF16 or AMX)."""
    known = Path("/proc/cpuinfo")
    flags = known.read_text(encoding="utf-8").split() if known.exists() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags


@torch.no_grad()
def measure(rounds: int) -> list[dict[str, Any]]:
    """A row a precision and part: milliseconds, FLOPs, and the error of c - u."""
    priors = {name: load_prior("embedded", "", "cpu", name) for name in PRECISIONS}
    texts = {name: prior.embed([SENTENCE]).pair(torch.zeros(1, dtype=torch.int64)) for name, prior in priors.items()}
    whole = priors["float32"]
    noise = torch.randn(1, *whole.spec.latent_shape, generator=torch.Generator().manual_seed(0))
    z = ddim(denoiser(whole, texts["float32"], SCALE), alpha_sigma_of(whole), noise, times_of(STEPS))
    video = whole.decode(z)
    g = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    square = torch.randn(MATRIX, MATRIX)
    rows = [timed("product of matrices", lambda: square @ square, rounds)]
    for name, prior in priors.items():
        predict = functools.partial(prior.predict, z, torch.tensor([TIMES[1]]), texts[name])
        encode = functools.partial(_encode, prior, video, g)
        for part, call in (("prediction", predict), ("encoding and its gradient", encode)):
            rows.append(timed(f"{name}: {part}", call, rounds))
            rows.append(timed(f"{name}: {part}, caches flushed", call, rounds, torch.zeros(FLUSHED)))
    found = {name: directions(prior, texts[name], z) for name, prior in priors.items()}
    error, size = (x.square().mean().sqrt() for x in (found["bfloat16"] - found["float32"], found["float32"]))
    return [*rows, {"case": "bfloat16: error of c - u", "relative": float(error / size)}]


def timed(case: str, call: Callable[[], Any], rounds: int, flushed: Tensor | None = None) -> dict[str, Any]:
    """The row of a call: its FLOPs, and the least time of some rounds; before each, `flushed` fills the caches."""
    with FlopCounterMode(display=False) as counter:
        call()
    flops, seconds = counter.get_total_flops(), []
    for _ in range(rounds):
        if flushed is not None:
            flushed.add_(1.0)
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    least = min(seconds)
    return {"case": case, "ms": 1e3 * least, "gflop": flops / 1e9, "gflop_a_second": flops / least / 1e9}


def directions(prior: Prior, texts: tuple[Text, ...], z: Tensor) -> Tensor:
    """c - u at each of TIMES, of a clip noised alike."""
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(2))
    found = []
    for t in torch.tensor(TIMES)[:, None]:
        conditional, unconditional = prior.predict(add_noise(z, noise, *prior.alpha_sigma(t)), t, texts)
        found.append(conditional - unconditional)
    return torch.stack(found)


def _encode(prior: Prior, video: Tensor, g: Tensor) -> None:
    _, pull_back = prior.encode_and_vjp(video)
    pull_back(g)


def report(rows: list[dict[str, Any]]) -> str:
    """The table, and the error below it."""
    cells = [
        [row["case"], f"{row['ms']:.2f}", f"{row['gflop']:.3f}", f"{row['gflop_a_second']:.0f}"]
        for row in rows
        if "ms" in row
    ]
    error = next(row["relative"] for row in rows if "relative" in row)
    table = timing.table(["one core", "ms", "GFLOP", "GFLOP/s"], cells)
    return f"{table}\n\nbfloat16: the error of c - u is {100 * error:.1f} % of its size"


if __name__ == "__main__":
    run_program(main)
