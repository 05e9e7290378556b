"""How much GPU memory a step on a big prior takes, without a GPU: python -m benchmarks.memory [--json PATH].

The networks are run on torch's meta device, which has shapes and no numbers, while every block of memory that is born
and dies is counted: weights in half precision, the denoiser's activations, and what encoding keeps for its gradient.
Added are the renderer's buffers and what two frameworks take for themselves. Not counted: scratch of single kernels and
fragmentation, a few hundred MiB. Attention counts as the fused kernel, which keeps its inputs and its output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from benchmarks import timing
from benchmarks.gpu_step import CASES, Case
from benchmarks.priors import MODELSCOPE_UNET, MODELSCOPE_VAE, TOKENS
from bridge.priors.base import pull_back
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

GIB = 1 << 30
TEXT_ENCODER = 340_400_000 * 2  # bytes; freed before the first step
FRAMEWORKS = int(1.5 * GIB)  # CUDA contexts and kernels of torch, JAX and Warp, and what JAX computes with
SAMPLE = 36  # bytes that the renderer keeps of a sample: visibility, colour, crossings
SCRATCH = 32 << 22  # bytes that it borrows at most for some frames at a time
SUPERSAMPLE = 2
CLIPS = CASES | {  # native clips that are not timed
    "VideoCrafter 512x320, 16 frames": Case(16, 320, 512, 0.0, 0.0),
    "VideoCrafter 1024x576, 16 frames": Case(16, 576, 1024, 0.0, 0.0),
}
MOTION = {"AnimateDiff 512x512, 16 frames": Case(16, 512, 512, 0.0, 0.0)}  # its networks are not ModelScope's
CARDS = {"ModelScope": 12, "VideoCrafter2": 24}  # GiB that --low_vram shall fit in


@dataclasses.dataclass(frozen=True)
class Plan:
    """What decides how much is done at once."""

    chunk: int  # frames encoded at once for the gradient; 0: all, and kept while the denoiser runs
    sparing: bool  # one text, one frame; activations of the VAE recomputed


PLANS = {"default": Plan(0, False), "--encode_chunk=4": Plan(4, False), "--low_vram": Plan(1, True)}


class Counter(TorchDispatchMode):
    """Bytes of the storages that are alive now, and the most that ever were; those of `outside` count nothing."""

    def __init__(self, outside: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = WeakIdKeyDictionary()
        for tensor in outside:
            self._known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage not in self._known:
                    self._known[storage] = True
                    self._add(storage.nbytes())
                    weakref.finalize(storage, self._add, -storage.nbytes())
        return out

    def _add(self, size: int) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)


class _Fused(torch.autograd.Function):
    """The shape and the memory of fused attention."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])


@contextlib.contextmanager
def counted(*outside: torch.nn.Module | torch.Tensor) -> Iterator[Counter]:
    """Count what is made inside, apart from the given modules' weights and tensors."""
    tensors: list[torch.Tensor] = []
    for thing in outside:
        tensors += [thing] if isinstance(thing, torch.Tensor) else [*thing.parameters(), *thing.buffers()]

    def attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return _Fused.apply(query, key, value)

    with mock.patch("torch.nn.functional.scaled_dot_product_attention", attention), Counter(tensors) as counter:
        yield counter


def networks(unet: dict[str, Any] | None = None, vae: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """ModelScope's UNet and VAE on the meta device in half precision; the arguments change their sizes (for tests)."""
    from diffusers import AutoencoderKL, UNet3DConditionModel

    with torch.device("meta"):
        both: tuple[Any, Any] = (
            UNet3DConditionModel(**{**MODELSCOPE_UNET, **(unet or {})}),
            AutoencoderKL(**{**MODELSCOPE_VAE, **(vae or {})}),
        )
    for network in both:
        torch.nn.Module.to(network, torch.float16).requires_grad_(False).eval()  # diffusers' own `to` complains
    return both


def motion_networks() -> tuple[Any, Any]:
    """AnimateDiff's UNet (Stable Diffusion 1.5 and the motion adapter's layers) and VAE, as `networks`."""
    from diffusers import UNetMotionModel

    _, vae = networks()
    with torch.device("meta"):
        unet: Any = UNetMotionModel(cross_attention_dim=768, num_attention_heads=8)  # the other sizes are the defaults
    torch.nn.Module.to(unet, torch.float16).requires_grad_(False).eval()
    return unet, vae


def weight_bytes(network: torch.nn.Module) -> int:
    """Bytes of the parameters."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


def denoiser_peak(unet: Any, latents: tuple[int, int, int, int], texts: int) -> int:
    """The most bytes of activations while the UNet predicts under `texts` texts at once."""
    z = torch.empty(texts, *latents, dtype=torch.float16, device="meta")
    rows = texts * latents[1] if "motion_max_seq_length" in unet.config else texts  # AnimateDiff's: a text a frame
    hidden = torch.empty(rows, TOKENS, unet.config.cross_attention_dim, dtype=torch.float16, device="meta")
    t = torch.empty(texts, device="meta")
    with torch.no_grad(), counted(unet, z, hidden, t) as counter:
        unet(z, t, hidden)
    return counter.peak


def encoder_peak(vae: Any, frames: int, height: int, width: int, gradient: bool) -> tuple[int, int]:
    """(most bytes while frames are encoded, forward and backward; bytes kept between the two)."""
    video = torch.empty(frames, 3, height, width, dtype=torch.float16, device="meta", requires_grad=gradient)
    with torch.set_grad_enabled(gradient), counted(vae, video) as counter:
        z = vae.encode(video).latent_dist.mean
        kept = counter.live
        if gradient:
            pull_back(z, video, torch.empty_like(z))
    return counter.peak, kept


def estimate(unet: Any, vae: Any, case: Case, plan: Plan) -> dict[str, int]:
    """Bytes of a step on one view: its parts, and the peak of the sum.

    Args:
        unet, vae: from `networks`.
        case: size of the clip.
        plan: what is done at once.
    """
    stride = 2 ** (len(vae.config.block_out_channels) - 1)
    latents = vae.config.latent_channels, case.frames, case.height // stride, case.width // stride
    size = case.height, case.width
    denoise = denoiser_peak(unet, latents, 1 if plan.sparing else 2)
    if plan.chunk == 0:
        encode, kept = encoder_peak(vae, case.frames, *size, gradient=True)
        networks_peak = max(encode, kept + denoise)
    else:
        vae.disable_gradient_checkpointing()
        if plan.sparing:
            vae.enable_gradient_checkpointing()
        encode, _ = encoder_peak(vae, plan.chunk, *size, gradient=True)
        plain, _ = encoder_peak(vae, 1 if plan.sparing else case.frames, *size, gradient=False)
        encode = max(encode, plain)
        vae.disable_gradient_checkpointing()
        networks_peak = max(encode, denoise)
    samples = case.frames * case.height * case.width * SUPERSAMPLE**2
    render = samples * SAMPLE + min(SCRATCH, 32 * samples) + 3 * 12 * case.frames * case.height * case.width
    weights = weight_bytes(unet) + weight_bytes(vae)
    total = FRAMEWORKS + render + weights + networks_peak
    # All networks are there while the prompts are embedded, and no activations yet.
    total = max(total, FRAMEWORKS + weights + TEXT_ENCODER)
    return {"weights": weights, "denoise": denoise, "encode": encode, "render": render, "total": total}


def measure(cases: dict[str, Case], unet: Any, vae: Any) -> list[dict[str, Any]]:
    """One row for each case and plan."""
    return [
        {"case": name, "plan": plan, **estimate(unet, vae, case, PLANS[plan])}
        for name, case in cases.items()
        for plan in PLANS
    ]


def report(rows: Sequence[dict[str, Any]]) -> str:
    """A table in GiB."""
    names = ("weights", "denoise", "encode", "render", "total")
    cells = [[f"{row['case']}, {row['plan']}", *(f"{row[name] / GIB:.2f}" for name in names)] for row in rows]
    return timing.table(["one view a step, float16, GiB", *names], cells)


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Which card --low_vram fits."""
    low = [row for row in rows if row["plan"] == "--low_vram"]
    lines = []
    for name, card in CARDS.items():
        for row in low:
            if row["case"].startswith(name):
                fits = "fits" if row["total"] < card * GIB else "does not fit"
                lines.append(f"{row['case']} with --low_vram {fits} a {card} GB card ({row['total'] / GIB:.1f} GiB).")
    return lines


def main() -> None:
    """Estimate, print the table, and write JSON if asked to."""
    arguments = parse_simple(
        __doc__, "benchmarks.memory",
        quick=(False, "the smallest case alone"),
        json=("", "also write the numbers there"),
    )  # fmt: skip
    cases = dict(list(CLIPS.items())[:1]) if arguments.quick else CLIPS
    rows = measure(cases, *networks())
    rows += [] if arguments.quick else measure(MOTION, *motion_networks())
    print(report(rows), *verdicts(rows), sep="\n\n")
    if arguments.json:
        timing.write_json(arguments.json, {"environment": timing.environment("torch", "diffusers"), "rows": rows})


if __name__ == "__main__":
    run_program(main)
