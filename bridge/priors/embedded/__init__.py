"""The small prior that ships with the project: an ordinary diffusers folder, trained by tools/train_prior.py."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bridge.priors.base import FolderPrior
from bridge.priors.embedded import network, text
from bridge.priors.folder import PREDICTIONS, Parts, load_parts
from bridge.priors.spec import PriorError, PriorSpec
from bridge.priors.weights import find_weights, first_line, read_json, refuse_dead

# bridge imports no md_jax; the two packages are always installed side by side
SHIPPED = Path(__file__).resolve().parent / "assets"


def load(path: str, device: torch.device, dtype: torch.dtype) -> FolderPrior:
    """The prior in the folder `path`, or the shipped one where `path` is empty.

    Raises:
        PriorError: the folder is missing, damaged, or states no frames, size or camera.
    """
    folder = Path(path) if path else SHIPPED
    parts = None if path else shipped_parts(device, dtype)
    kind = FolderPrior if parts is None else ShippedPrior
    parts = parts or load_parts(folder, device, dtype)
    return kind(spec_of(parts, folder, str(dtype).removeprefix("torch.")), parts, device)


class ShippedPrior(FolderPrior):
    """The shipped prior by our own networks, which take no seconds of imports."""

    def _read_texts(self, texts: list[str]) -> Float[Tensor, "N L D"]:
        return self._text_encoder(self._tokenizer(texts).to(self._device)).float()


def shipped_parts(device: torch.device, dtype: torch.dtype) -> Parts | None:
    """The components of the shipped folder; None where it holds other networks than ours (`network.fits`).

    Raises:
        PriorError: a file is missing or damaged.
    """
    unet, reader = read_json(SHIPPED / "unet" / "config.json"), read_json(SHIPPED / "text_encoder" / "config.json")
    schedule = read_json(SHIPPED / "scheduler" / "scheduler_config.json")
    if not network.fits(unet, reader, schedule):
        return None
    with torch.device("meta"):  # no numbers are drawn for weights that are read
        networks = {"unet": network.Unet(unet), "text_encoder": text.TextEncoder(reader)}
    for part, module in networks.items():
        try:
            weights = load_file(find_weights(SHIPPED / part, dtype)[1][0])
            module.load_state_dict({name: value.to(device, dtype) for name, value in weights.items()}, assign=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise PriorError(f"{SHIPPED / part} cannot be loaded ({first_line(str(error))}): install again.") from error
        refuse_dead(SHIPPED / part, type(module).__name__, module)
        module.requires_grad_(False).eval()
    padding = read_json(SHIPPED / "tokenizer" / "tokenizer_config.json")["pad_token"]
    return Parts(
        **networks,
        vae=None,
        tokenizer=text.Tokenizer(SHIPPED / "tokenizer", reader["max_position_embeddings"], padding),
        alphas_cumprod=network.alphas_cumprod(schedule),
        prediction=PREDICTIONS[schedule["prediction_type"]],
        settings=read_json(SHIPPED / "prior.json"),
        actions=tuple(read_json(SHIPPED / "vocabulary.json")["actions"]),
    )


def spec_of(parts: Parts, folder: Path, dtype: str) -> PriorSpec:
    """The PriorSpec that a folder's prior.json states (angles there are in degrees)."""
    settings = parts.settings
    try:
        low, high = settings["elevation"]
        red, green, blue = settings["background"]
        return PriorSpec(
            name="embedded",
            kind="video",
            prediction=parts.prediction,  # type: ignore[arg-type]
            frames=int(settings["frames"]),
            fps=float(settings["fps"]),
            height=int(settings["height"]),
            width=int(settings["width"]),
            latent_channels=3,
            fixed_frames=True,
            fixed_size=True,
            elevation=(math.radians(low), math.radians(high)),
            fov=math.radians(settings["fov"]),
            distance=float(settings["distance"]),
            background=(float(red), float(green), float(blue)),
            dtype=dtype,
            licence=str(settings["licence"]),
            origin=str(folder),
            actions=parts.actions,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PriorError(f"{folder / 'prior.json'} is incomplete ({type(error).__name__}: {error}).") from error
