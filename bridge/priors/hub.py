"""Where a prior's files are: a path on this machine, or a model hub's id, the only thing that is ever downloaded."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from bridge.priors.spec import PriorError
from bridge.priors.weights.find import is_index, is_piece, is_weights, variants

PARTS = ("unet", "transformer", "vae", "text_encoder")
DISTILLED = re.compile(r"distill|turbo|lightning|(?<![a-z])lcm(?![a-z])", re.IGNORECASE)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def local_path(path: str, prior: str, dtype: torch.dtype, known: str) -> Path:
    """The file or folder that `path` names; a hub id is fetched into the hub's cache first, or found there offline.

    Args:
        path: a file, a folder, or a hub id such as "owner/name", where no such folder exists.
        prior: the prior's name, for messages.
        dtype: the precision asked for; float16 files are fetched where float16 is wanted and they exist.
        known: the hub id that the prior is published under, for messages.

    Raises:
        PriorError: `path` is empty, nothing is there, the hub cannot be reached, or its name says it is distilled.
    """
    if not path:
        raise PriorError(
            f"prior '{prior}' does not ship with the program: give --prior_path, its folder on this machine"
            f" or the hub id {known} (which is downloaded)."
        )
    refuse_distilled(str(path))
    found = Path(path).expanduser()
    if found.exists():
        return found
    first = Path(path).parts[0]
    if not HUB_ID.fullmatch(path) or Path(first).exists():
        raise PriorError(f"prior '{prior}': there is no file or folder {path}, and it is no hub id such as {known}.")
    return _fetch(path, prior, dtype)


def refuse_distilled(path: str) -> None:
    """Raise PriorError where the name of a file, folder or hub id says that the model is distilled to a few steps."""
    for name in (Path(part.strip()).name for part in path.split(",")):
        if DISTILLED.search(name):
            raise PriorError(
                f"{name} is distilled to a few steps by its name: such a model cannot guide at the times in between"
                " (docs/priors.md); take the full one, or rename it if it is none."
            )


def _fetch(hub_id: str, prior: str, dtype: torch.dtype) -> Path:
    import huggingface_hub

    try:
        names = huggingface_hub.list_repo_files(hub_id)
        if experts := sorted({name.split("/")[0] for name in names if name.startswith("transformer_2/")}):
            raise PriorError(
                f"hub id {hub_id} holds {experts[0]}, a second network for some of the times (Wan 2.2 A14B): no prior"
                " here is of that kind."
            )
        wanted = wanted_files(names, dtype)
        if not wanted:
            raise PriorError(
                f"hub id {hub_id} holds no diffusers folder and no model.ckpt: {', '.join(names[:5])}, ..."
            )
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=wanted))
    except PriorError:
        raise
    except Exception as error:  # offline, unknown, gated, ...: many types
        if (cached := _cached(hub_id)) is not None:
            return cached
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise PriorError(
            f"prior '{prior}': there is no folder {hub_id} here, and it cannot be fetched from the hub ({reason})."
        ) from error


def _cached(hub_id: str) -> Path | None:
    """Where an earlier run has put a hub id's files, whole or not (what is missing is told when it is read)."""
    import huggingface_hub

    for name in ("model_index.json", "model.ckpt", "config.json"):
        found = huggingface_hub.try_to_load_from_cache(hub_id, name)
        if isinstance(found, str):
            return Path(found).parent
    return None


def wanted_files(names: list[str], dtype: torch.dtype) -> list[str]:
    """Of a hub repository's files those that a prior needs: each network's weights once, in the best form there is."""
    if "model_index.json" not in names and "config.json" in names:  # one network alone: a motion adapter
        forms = _forms(dtype)
        weights = next((chosen for form in forms if (chosen := [n for n in names if is_weights(n, *form)])), [])
        return ["config.json", *weights] if weights else []
    if "model_index.json" not in names:
        return [name for name in names if name == "model.ckpt"]
    wanted = [name for name in names if re.fullmatch(r"\w+\.json|(tokenizer|scheduler)/[^/]+", name)]
    forms = _forms(dtype)
    for part in PARTS:
        files = [name.removeprefix(f"{part}/") for name in names if re.fullmatch(rf"{part}/[^/]+", name)]
        chosen = [name for name in files if name.endswith("config.json")]
        for form in forms:
            whole = [name for name in files if is_weights(name, *form)]
            pieces = [name for name in files if is_piece(name, *form) or is_index(name, *form)]
            if whole or pieces:
                chosen += whole or pieces
                break
        wanted += [f"{part}/{name}" for name in chosen]
    return wanted


def _forms(dtype: torch.dtype) -> list[tuple[str, str]]:
    """(variant, ending) of the forms of weights, the best first: half the bytes where half precision is wanted."""
    order = variants(dtype)
    if dtype != torch.float32:
        order = (order[1], order[0], order[2])
    return [(variant, ending) for variant in order for ending in ("safetensors", "bin")]
