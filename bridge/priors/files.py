"""What a prior's files are, looked at from outside, in seconds: headers alone, without loading gigabytes of weights."""

from __future__ import annotations

import collections
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bridge.priors.folder import ONCE, SCHEDULERS, UNET_PARTS, check_parts, read_index
from bridge.priors.hub import HUB_ID, PARTS
from bridge.priors.spec import PriorError
from bridge.priors.unet.animatediff import two_paths
from bridge.priors.weights import check_fetched, find_weights, read_json, refuse_other_weights

CHECKPOINTS = (".ckpt", ".pth", ".pt", ".safetensors")
LICENCE_LINE = re.compile(r"^license(?:_name)?:\s*(\S.*?)\s*$", re.MULTILINE)  # in the first lines of a model card
LICENCE_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENSE.pdf")
# Names that old files have and today's libraries read under new ones.
RENAMED = {
    "text_encoder": ((r"^text_model\.", ""),),
    "vae": (
        (r"\.query\.", ".to_q."),
        (r"\.key\.", ".to_k."),
        (r"\.value\.", ".to_v."),
        (r"\.proj_attn\.", ".to_out.0."),
    ),
}
UNET3D, UNET2D = "UNet3DConditionModel", "UNet2DConditionModel"
# What a folder is, by its unet or transformer and pipeline ("": any); the priors that read it.
KINDS = {
    (UNET3D, ""): ("a text-to-video UNet", ("modelscope", "zeroscope", "videocrafter1", "videocrafter2")),
    (UNET2D, ""): ("Stable Diffusion, or frames as channels", ("sd15", "sd21", "animatediff", "embedded")),
    ("WanTransformer3DModel", ""): ("Wan 2.1", ("wan21",)),
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
    "animatediff": (1.45, 1.5, (16, 512, 512)),  # ZeroScope's: the same VAE and latents of the same kind
    "wan21": (1.55, 20.4, (17, 480, 832)),
    "cogvideox": (1.11, 7.4, (9, 480, 720)),
    "ltx": (0.49, 1.7, (25, 512, 704)),
}


def check_files(path: str) -> Path:
    """Where the files of a prior are: a diffusers folder, a checkpoint, or a hub id that was fetched before.

    Every network that model_index.json names must have its configuration and weights, and each file of weights its
    full length; what is in them is only known once they are loaded.

    Raises:
        PriorError: something is missing or damaged; the message says what.
    """
    where = Path(path).expanduser()
    if not where.exists():
        where = _fetched(path)
    if where.is_file():
        _check_weights(where)
    elif (where / "model_index.json").exists():
        _check_folder(where)
    elif checkpoints := sorted(file for file in where.iterdir() if file.suffix in CHECKPOINTS):
        _check_weights(checkpoints[0])
    else:
        raise PriorError(f"{where} holds neither model_index.json nor a checkpoint: it is no prior's folder.")
    return where


def describe(name: str, path: str, clip: tuple[int, int, int] | None = None) -> str:
    """What a prior's files hold, for a reader: family, every weight accounted for, sizes, precision, memory, licence.

    Args:
        name: the prior that shall read them.
        path: a diffusers folder, a VideoCrafter checkpoint, or a hub id that was fetched before.
        clip: (frames, height, width) to estimate a step's memory for; None: that of the family's flag file.

    Raises:
        PriorError: something is missing, damaged, left over, or of another prior; the message says what.
    """
    if name == "animatediff":
        path, adapter = two_paths(path)
        count, size, precisions = _account(_network(adapter).parent, _network(adapter).name, "MotionAdapter")
        motion = f"motion adapter {_amount(count)} ({size / 1e9:.2f} GB, {precisions})"
        return f"{_describe(name, path, clip, 2 * count)}; {motion}"
    return _describe(name, path, clip)


def _network(path: str) -> Path:
    """The folder of a network that stands alone, on this machine or fetched before."""
    where = Path(path).expanduser()
    where = where if where.exists() else _fetched(path, "config.json")
    _check_network(where)
    return where.resolve()


def _describe(name: str, path: str, clip: tuple[int, int, int] | None, half: int = 0) -> str:
    """`describe` of one path; `half` bytes of weights stand elsewhere."""
    where = check_files(path)
    if where.is_dir() and not (where / "model_index.json").exists():
        where = next(file for file in sorted(where.iterdir()) if file.suffix in CHECKPOINTS)
    if where.is_file():
        if not name.startswith("videocrafter"):
            raise PriorError(f"{where} is a single {where.suffix} file: prior '{name}' reads a diffusers folder.{ONCE}")
        return _describe_checkpoint(name, where, clip)
    index = read_index(where)
    kind = _kind(name, where, index)
    found = [f"{where}: {kind}"]
    for part in PARTS:
        entry = index.get(part)
        if isinstance(entry, list) and entry[-1] is not None:
            count, size, precisions = _account(where, part, entry[-1])
            found.append(f"{part} {_amount(count)} ({size / 1e9:.2f} GB, {precisions})")
            half += 2 * count if part != "text_encoder" else 0
    found.append("every weight has its place")
    return "; ".join([*found, *_memory(name, half, clip), _licence(where)])


def _kind(name: str, where: Path, index: Mapping[str, Any]) -> str:
    """What a folder is; raises PriorError where prior `name` does not read such."""
    part = "transformer" if index.get("transformer") else "unet"
    network, pipeline = (index.get(part) or [None, None])[-1], str(index.get("_class_name"))
    kind, names = KINDS.get((network, pipeline)) or KINDS.get((network, "")) or (f"a {pipeline} of {network}", ())
    if network == "WanTransformer3DModel" and index.get("expand_timesteps"):
        kind, names = "Wan 2.2 TI2V", ("wan22",)
    if name not in names:
        reads = f"the priors for it: {', '.join(names)}" if names else "no prior here reads it"
        raise PriorError(f"{where} is {kind}, not what prior '{name}' reads ({reads}).")
    known = UNET_PARTS if part == "unet" else ("transformer", *UNET_PARTS[1:])
    check_parts(where, index, known, ("expand_timesteps",) if name == "wan22" else ())
    schedule = read_json(where / "scheduler" / "scheduler_config.json").get("_class_name")
    if part == "unet" and schedule not in SCHEDULERS:
        raise PriorError(f"{where / 'scheduler'} describes {schedule}: a UNet's family needs a schedule of betas.")
    return f"{kind} ({pipeline})"


def _account(where: Path, part: str, class_name: str) -> tuple[int, int, str]:
    """(weights, bytes, precisions) of a network, each weight of its files compared with what its class has."""
    import diffusers
    import transformers

    config = read_json(where / part / "config.json")
    _, files = find_weights(where / part, torch.float32)
    tensors: dict[str, tuple[tuple[int, ...], str]] = {}
    for file in files:
        tensors |= header(file)
    count = sum(math.prod(shape) for shape, _ in tensors.values())
    kinds = collections.Counter(kind for _, kind in tensors.values())
    size = sum(file.stat().st_size for file in files)
    if (where / part / "videocrafter.json").exists():
        return count, size, ", ".join(sorted(kinds))
    library = transformers if part == "text_encoder" else diffusers
    try:
        made: Any = getattr(library, class_name)
        with torch.device("meta"):
            network = made(made.config_class(**config)) if part == "text_encoder" else made.from_config(config)
    except Exception as error:  # the libraries raise many types for odd configurations
        raise PriorError(f"{where / part / 'config.json'} describes no {class_name} ({error}).") from error
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    found = {}
    for key, (shape, _) in tensors.items():
        for old, new in RENAMED.get(part, ()):
            key = re.sub(old, new, key) if key not in expected else key
        found[key] = shape
    other = [key for key, shape in expected.items() if key in found and math.prod(shape) != math.prod(found[key])]
    refuse_other_weights(
        where / part, class_name, [*(expected.keys() - found.keys()), *other], sorted(found.keys() - expected.keys()),
        len(config),
    )  # fmt: skip
    return count, size, ", ".join(sorted(kinds))


def header(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """(shape, precision) of every tensor in a file of weights; none of their numbers are read.

    Raises:
        PriorError: the file is missing, damaged, or holds other things than tensors.
    """
    _check_weights(file)
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            return {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}
    try:
        content = torch.load(file, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # torch raises many types for damaged files
        raise PriorError(f"{file} cannot be read as tensors ({str(error).splitlines()[0][:120]}).") from error
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    return {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in tensors.items()}


def _describe_checkpoint(name: str, where: Path, clip: tuple[int, int, int] | None) -> str:
    from bridge.priors.videocrafter.checkpoint import count_parts

    counts = count_parts(where)
    half = 2 * (counts["UNet"] + counts["VAE"])
    parts = [f"{part} {_amount(count)}" for part, count in counts.items()]
    size = f"{where.stat().st_size / 1e9:.2f} GB"
    found = [f"{where}: a VideoCrafter checkpoint ({size})", *parts, "every weight of the UNet has its place"]
    return "; ".join([*found, *_memory(name, half, clip), _licence(where.parent)])


def _amount(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def _memory(name: str, weights: int, clip: tuple[int, int, int] | None) -> list[str]:
    """A step's memory on a GPU, roughly, where there is an estimate for the family."""
    if name not in STEP:
        return []
    slope, base, usual = STEP[name]
    clip = clip or usual
    total = weights / 2**30 + base + slope * math.prod(clip) / 2**20
    frames, height, width = clip
    return [f"about {total:.0f} GiB for a step of {frames} x {height}x{width} in half precision (estimated)"]


def _licence(folder: Path) -> str:
    """What a folder says of its licence: prior.json, the model card's header, or a licence's file."""
    if stated := read_json(folder / "prior.json", optional=True).get("licence"):
        return f"licence: {stated} (prior.json)"
    card = folder / "README.md"
    if card.is_file() and (named := LICENCE_LINE.findall(card.read_text("utf-8", errors="replace")[:4000])):
        return f"licence: {', '.join(named)} (README.md)"
    files = [name for name in LICENCE_FILES if (folder / name).is_file()]
    return f"licence: see its {files[0]}" if files else "licence: the folder states none"


def _fetched(path: str, *others: str) -> Path:
    import huggingface_hub

    if not HUB_ID.fullmatch(path):
        raise PriorError(f"there is no {path}: give --prior_path the prior's folder on this machine, or its hub id.")
    for name in ("model_index.json", "model.ckpt", *others):
        found = huggingface_hub.try_to_load_from_cache(path, name)
        if isinstance(found, str):
            return Path(found).parent
    raise PriorError(f"there is no folder {path}; as a hub id it was not fetched yet: the first run does, online.")


def _check_folder(folder: Path) -> None:
    index = read_json(folder / "model_index.json")
    named = {part for part, entry in index.items() if isinstance(entry, list) and entry[-1] is not None}
    if not named & {"unet", "transformer"}:
        raise PriorError(f"{folder / 'model_index.json'} names no unet and no transformer: it is no video model's.")
    for part in PARTS:
        if part in named:
            _check_network(folder / part)
    read_json(folder / "scheduler" / "scheduler_config.json")
    if not (folder / "tokenizer").is_dir():
        raise PriorError(f"{folder / 'tokenizer'} is missing: {folder} is no complete diffusers folder.")


def _check_network(where: Path) -> None:
    read_json(where / "config.json")
    for file in find_weights(where, torch.float32)[1]:
        _check_weights(file)


def _check_weights(file: Path) -> None:
    """Raise where a file is cut short: a safetensors header tells the length, a zip archive ends with its directory."""
    from safetensors import SafetensorError, safe_open

    check_fetched(file)
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                return
        with file.open("rb") as content:
            start = content.read(2)
    except (SafetensorError, OSError) as error:
        raise PriorError(f"{file} is damaged ({error}): fetch it again.") from error
    if not start or (start == b"PK" and not zipfile.is_zipfile(file)):
        raise PriorError(f"{file} is cut short: fetch it again.")
