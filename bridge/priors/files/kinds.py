"""What a folder is, which prior reads it, what a step on it takes, and its licence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.priors.spec import PriorError
from bridge.priors.transformer.ltx import CONDITIONED, NEWER_BLOCK
from bridge.priors.weights.find import read_json

LICENCE_LINE = re.compile(r"^license(?:_name)?:\s*(\S.*?)\s*$", re.MULTILINE)  # in the first lines of a model card
LICENCE_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENSE.pdf")
UNET3D, UNET2D = "UNet3DConditionModel", "UNet2DConditionModel"
# What a folder is, by its unet or transformer and pipeline ("": any); the priors that read it.
KINDS = {
    (UNET3D, ""): ("a text-to-video UNet", ("modelscope", "zeroscope", "videocrafter1", "videocrafter2")),
    (UNET2D, ""): ("Stable Diffusion, or frames as channels", ("sd15", "sd21", "animatediff", "embedded")),
    ("WanTransformer3DModel", ""): ("Wan 2.1", ("wan21",)),
    ("SkyReelsV2Transformer3DModel", "SkyReelsV2Pipeline"): ("SkyReels-V2", ("skyreels2",)),
    ("SkyReelsV2Transformer3DModel", "SkyReelsV2DiffusionForcingPipeline"): ("SkyReels-V2", ("skyreels2",)),
    ("CogVideoXTransformer3DModel", ""): ("CogVideoX 1.0", ("cogvideox",)),
    ("LTXVideoTransformer3DModel", "LTXPipeline"): ("LTX-Video 0.9.0 or 0.9.1", ("ltx",)),
    ("LTXVideoTransformer3DModel", "LTXImageToVideoPipeline"): ("LTX-Video 0.9.0 or 0.9.1", ("ltx",)),
    ("LTXVideoTransformer3DModel", "LTXConditionPipeline"): ("LTX-Video 0.9.5 to 0.9.8", ("ltx",)),
}
# A step's memory beside the weights: GiB per 2^20 pixels of a clip, GiB that are there anyway, and the clip of the flag
# file. Fitted to the estimates in docs/priors.md (one view, half precision, as the flag files run).
STEP = {
    "modelscope": (6.8, 1.5, (16, 256, 256)),
    "zeroscope": (1.45, 1.5, (24, 320, 576)),
    "videocrafter1": (1.73, 1.5, (16, 320, 512)),
    "videocrafter2": (1.73, 1.5, (16, 320, 512)),
    "animatediff": (1.69, 1.5, (16, 512, 512)),
    "wan21": (1.55, 20.4, (17, 480, 832)),
    "cogvideox": (1.11, 7.4, (9, 480, 720)),
    "wan22": (0.76, 19.2, (25, 704, 1280)),
    "skyreels2": (1.55, 25.9, (25, 544, 960)),
    "cogvideox15": (0.86, 34.0, (17, 768, 1360)),
    "ltx": (0.49, 1.7, (25, 512, 704)),
}


def kind_of(name: str, where: Path, index: Mapping[str, Any]) -> str:
    """What a folder is; raises PriorError where prior `name` does not read such."""
    part = "transformer" if index.get("transformer") else "unet"
    network, pipeline = (index.get(part) or [None, None])[-1], str(index.get("_class_name"))
    kind, names = KINDS.get((network, pipeline)) or KINDS.get((network, "")) or (f"a {pipeline} of {network}", ())
    if network == "WanTransformer3DModel" and index.get("expand_timesteps"):
        kind, names = "Wan 2.2 TI2V", ("wan22",)
    if names == ("cogvideox",) and read_json(where / "transformer" / "config.json").get("patch_size_t"):
        kind, names = "CogVideoX 1.5", ("cogvideox15",)
    if names == ("ltx",) and NEWER_BLOCK in read_json(where / "vae" / "config.json").get("down_block_types", ()):
        kind = KINDS[network, CONDITIONED[0]][0]
    if name not in names:
        reads = f"the priors for it: {', '.join(names)}" if names else "no prior here reads it"
        raise PriorError(f"{where} is {kind}, not what prior '{name}' reads ({reads}).")
    return f"{kind} ({pipeline})"


def amount(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def memory(name: str, weights: int, clip: tuple[int, int, int] | None) -> list[str]:
    """A step's memory on a GPU, roughly, where there is an estimate for the family."""
    if name not in STEP:
        return []
    slope, base, usual = STEP[name]
    clip = clip or usual
    total = weights / 2**30 + base + slope * math.prod(clip) / 2**20
    frames, height, width = clip
    return [f"about {total:.0f} GiB for a step of {frames} x {height}x{width} in half precision (estimated)"]


def licence(folder: Path) -> str:
    """What a folder says of its licence: prior.json, the model card's header, or a licence's file."""
    if stated := read_json(folder / "prior.json", optional=True).get("licence"):
        return f"licence: {stated} (prior.json)"
    card = folder / "README.md"
    if card.is_file() and (named := LICENCE_LINE.findall(card.read_text("utf-8", errors="replace")[:4000])):
        return f"licence: {', '.join(named)} (README.md)"
    files = [name for name in LICENCE_FILES if (folder / name).is_file()]
    return f"licence: see its {files[0]}" if files else "licence: the folder states none"
