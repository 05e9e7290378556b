"""One file that holds a whole model, or all of it but the text encoder, looked at by its header."""

from __future__ import annotations

import collections
from pathlib import Path

import torch

from bridge.priors.files.kinds import amount, licence, memory
from bridge.priors.folder import ONCE
from bridge.priors.spec import PriorError
from bridge.priors.transformer import ltx_file
from bridge.priors.unet import single_file
from bridge.priors.videocrafter.checkpoint import count_parts
from bridge.priors.weights.headers import header, sizes

CHECKPOINTS = (".ckpt", ".pth", ".pt", ".safetensors")
IN_ONE_FILE = ("sd15", "sd21", "ltx", "animatediff", "videocrafter1", "videocrafter2")


def describe_file(
    name: str, where: Path, clip: tuple[int, int, int] | None, beside: int = 0, texts: Path | None = None
) -> str:
    """What a file holds, for a reader (see `bridge.priors.files.describe`).

    Args:
        name: the prior that shall read it.
        where: the file.
        clip: (frames, height, width) to estimate a step's memory for; None: that of the family's flag file.
        beside: bytes of weights in half precision that stand elsewhere.
        texts: the folder of T5, where the family's file has none.

    Raises:
        PriorError: it is damaged, of another model, or lacks weights or has too many.
    """
    if name not in IN_ONE_FILE:
        raise PriorError(f"{where} is a single {where.suffix} file: prior '{name}' reads a diffusers folder.{ONCE}")
    if name.startswith("videocrafter"):
        return _videocrafter(name, where, clip)
    if name == "ltx":
        transformer, vae, version = ltx_file.networks(where, torch.float32, "meta")
        since = " or later" * (version == "0.9.5")
        kind, networks = f"LTX-Video {version}{since} in one file", {"transformer": transformer, "vae": vae}
    else:
        parts = single_file.load_single_file(
            where, "sd15" if name == "animatediff" else name, torch.device("meta"), torch.float32
        )
        networks = {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.text_encoder}
        kind = f"Stable Diffusion {2 if name == 'sd21' else 1} in one file"
    counts = {part: sum(parameter.numel() for parameter in network.parameters()) for part, network in networks.items()}
    kinds = collections.Counter(kind for _, kind in header(where).values())
    found = [
        f"{where}: {kind} ({where.stat().st_size / 1e9:.2f} GB, {', '.join(sorted(kinds))})",
        *(f"{part} {amount(count)}" for part, count in counts.items()),
    ]
    if texts is not None:
        count, size, precisions = sizes(texts / "text_encoder")
        found.append(f"text_encoder {amount(count)} ({size / 1e9:.2f} GB, {precisions}) in {texts}")
    half = beside + 2 * sum(count for part, count in counts.items() if part != "text_encoder")
    return "; ".join([*found, "every weight has its place", *memory(name, half, clip), licence(where.parent)])


def _videocrafter(name: str, where: Path, clip: tuple[int, int, int] | None) -> str:
    counts = count_parts(where)
    half = 2 * (counts["UNet"] + counts["VAE"])
    parts = [f"{part} {amount(count)}" for part, count in counts.items()]
    size = f"{where.stat().st_size / 1e9:.2f} GB"
    found = [f"{where}: a VideoCrafter checkpoint ({size})", *parts, "every weight of the UNet has its place"]
    return "; ".join([*found, *memory(name, half, clip), licence(where.parent)])
