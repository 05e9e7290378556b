"""What precision costs guidance: python -m benchmarks.precision [--size full] [--json PATH].

Guidance multiplies the difference of two predictions by a scale of the order of 100, and with it their rounding. A
random UNet of ModelScope's architecture predicts for the same noised latents under two texts, in each precision; the
error is the root mean square of s·(c - u) minus the same in float32, for a unit noise. Random weights tell sizes apart,
not what a trained model does: its predictions under two texts lie closer together.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks import timing
from benchmarks.priors import MODELSCOPE_UNET, TOKENS
from bridge.configure import configure
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

# precision of weights and activations -> (name, precision of the combination)
ARMS = {
    torch.float16: (("float16, combined in float32", torch.float32), ("float16 throughout", torch.float16)),
    torch.bfloat16: (("bfloat16, combined in float32", torch.float32), ("bfloat16 throughout", torch.bfloat16)),
    torch.float32: (("float32 (again)", torch.float32),),
}
SIZES: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {  # what differs from ModelScope; latents f, h, w
    "tiny": (
        {"block_out_channels": (32, 64), "norm_num_groups": 8, "cross_attention_dim": 32, "attention_head_dim": 8,
         "layers_per_block": 1, "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
         "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D")},
        (2, 8, 8),
    ),
    "reduced": ({"block_out_channels": (64, 128, 256, 256), "cross_attention_dim": 256}, (4, 16, 16)),
    "full": ({}, (10, 32, 32)),
}  # fmt: skip


def random_unet(size: str, device: str, seed: int = 0) -> Any:
    """A frozen float32 UNet; what diffusers starts at zero (the ends of the temporal layers) is random here, too."""
    from diffusers import UNet3DConditionModel

    torch.manual_seed(seed)
    with torch.device(device):
        unet: Any = UNet3DConditionModel(**{**MODELSCOPE_UNET, **SIZES[size][0]})
        for parameter in unet.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    return unet.requires_grad_(False).eval()


@torch.no_grad()
def predictions(unet: Any, z_t: Tensor, t: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """The pair (c, u); `texts` (2, L, D) holds the conditional text and the other."""
    return unet(torch.cat([z_t, z_t]).to(unet.dtype), t.repeat(2), texts.to(unet.dtype)).sample.chunk(2)


def difference(pair: tuple[Tensor, Tensor], scale: float, combine: torch.dtype) -> Float[Tensor, "..."]:
    """s·(c - u), computed in the precision `combine`."""
    conditional, unconditional = (raw.to(combine) for raw in pair)
    return (scale * (conditional - unconditional)).float()


def convolve_as_tensor_cores(unet: Any) -> None:
    """Let float16 convolutions add up in float32, as GPUs do; CPUs have none of their own, and torch's take hours."""
    for module in unet.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            module.forward = functools.partial(_convolve, module)  # type: ignore[method-assign]


def _convolve(conv: Any, x: Tensor) -> Tensor:
    bias = None if conv.bias is None else conv.bias.float()
    return conv._conv_forward(x.float(), conv.weight.float(), bias).to(x.dtype)


def measure(size: str, device: str, scale: float = 100.0, draws: int = 4) -> list[dict[str, Any]]:
    """One row for each arm: root mean squares over `draws` noised latents at several times.

    Args:
        size: of SIZES.
        device: "cpu" or "cuda".
        scale: guidance scale s.
        draws: how many.
    """
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        whole = random_unet(size, device)
        generator = torch.Generator().manual_seed(1)
        shape = 1, 4, *SIZES[size][1]
        inputs = []
        for k in range(draws):
            z_t = torch.randn(shape, generator=generator).to(device)
            texts = torch.randn(2, TOKENS, whole.config.cross_attention_dim, generator=generator).to(device)
            inputs.append((z_t, torch.full((1,), 1000.0 * (k + 0.5) / draws, device=device), texts))
        truth = torch.stack([difference(predictions(whole, *x), scale, torch.float32) for x in inputs])
        rows = []
        for dtype, arms in ARMS.items():
            unet = torch.nn.Module.to(copy.deepcopy(whole), dtype)  # diffusers' own has a warning about nothing
            if device == "cpu" and dtype == torch.float16:
                convolve_as_tensor_cores(unet)
            pairs = [predictions(unet, *x) for x in inputs]
            del unet
            for name, combine in arms:
                found = torch.stack([difference(pair, scale, combine) for pair in pairs])
                error, size_of_it = (x.square().mean().sqrt() for x in (found - truth, truth))
                rows.append({"arm": name, "error": float(error), "relative": float(error / size_of_it)})
        return rows
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed


def report(rows: list[dict[str, Any]]) -> str:
    """A table."""
    cells = [[row["arm"], f"{row['error']:.2e}", f"{100 * row['relative']:.3f} %"] for row in rows]
    return timing.table(["weights and activations", "error of s(c - u), RMS", "of its size"], cells)


def main() -> None:
    """Measure, print the table, and write JSON if asked to."""
    arguments = parse_simple(
        __doc__, "benchmarks.precision",
        size=(("reduced", *(size for size in SIZES if size != "reduced")), "of the UNet; full: minutes on a CPU"),
        scale=(100.0, "guidance scale"),
        quick=(False, "the tiny UNet, one draw"),
        device=(("auto", "cpu", "cuda"), "where both frameworks run"),
        json=("", "also write the numbers there"),
    )  # fmt: skip
    device = configure(arguments.device)
    size, draws = ("tiny", 1) if arguments.quick else (arguments.size, 4)
    rows = measure(size, device, arguments.scale, draws)
    environment = timing.environment("torch", "diffusers")
    print(f"{size} UNet on {device}, random weights, guidance scale {arguments.scale:g}, {draws} draws.\n")
    print(report(rows), "; ".join(f"{name} {value}" for name, value in environment.items()), sep="\n\n")
    if arguments.json:
        results = {"size": size, "device": device, "scale": arguments.scale, "environment": environment, "rows": rows}
        timing.write_json(arguments.json, results)


if __name__ == "__main__":
    run_program(main)
