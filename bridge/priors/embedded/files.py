"""Reads a folder of tools/train_prior.py: sizes, weights, tokenizer, and what prior.json and vocabulary.json state."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from bridge.priors.embedded.autoencoder import Autoencoder
from bridge.priors.embedded.frames import FrameTransformer, Shape
from bridge.priors.embedded.text import Tokenizer, WordEncoder
from bridge.priors.folder import Parts, actions_of
from bridge.priors.schedule import cosine_table
from bridge.priors.spec import PriorError
from bridge.priors.weights.find import check_fetched, check_token_file, first_line, read_json
from bridge.priors.weights.networks import frozen, no_larger_than, refuse_dead

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
LARGEST = 65_536  # of any size that config.json states


class OwnParts(NamedTuple):
    """What the folder holds, on its device, frozen."""

    parts: Parts
    shape: Shape
    autoencoder: Autoencoder


class Weights(nn.Module):
    """All that a folder has weights for."""

    def __init__(self, shape: Shape, height: int, width: int) -> None:
        super().__init__()
        self.denoiser = FrameTransformer(shape)
        self.text_encoder = WordEncoder(shape.words, shape.text_width)
        self.autoencoder = Autoencoder(shape.channels, shape.cameras, shape.components, shape.hidden, height, width)


def read_own(folder: Path, device: torch.device, dtype: torch.dtype) -> OwnParts:
    """Everything in a folder of tools/train_prior.py.

    Raises:
        PriorError: a file is missing, damaged, or does not belong to the others.
    """
    shape = _shape_of(folder / CONFIG)
    file = folder / WEIGHTS
    check_fetched(file)
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise PriorError(f"{file} cannot be read ({first_line(str(error))}): fetch the folder again.") from error
    axes = weights.get("autoencoder.axes", torch.empty(0))
    if axes.ndim != 4 or axes.shape[0] != shape.components:
        raise PriorError(
            f"{file}: autoencoder.axes has the shape {list(axes.shape)}, expected [{shape.components}, 3, H, W]."
        )
    # no numbers are drawn for weights that are read
    with torch.device("meta"), no_larger_than(file.stat().st_size):
        networks = Weights(shape, *axes.shape[2:])
    try:
        networks.load_state_dict({name: value.to(dtype) for name, value in weights.items()}, assign=True)
    except RuntimeError as error:
        raise PriorError(f"{file} holds another network than {CONFIG} says ({_reason(error)}).") from error
    refuse_dead(file, "the prior", networks)
    frozen(networks, device)
    parts = Parts(
        unet=networks.denoiser,
        vae=None,
        tokenizer=_tokenizer_of(folder, shape),
        text_encoder=networks.text_encoder,
        alphas_cumprod=cosine_table(),
        prediction="sample",
        settings=read_json(folder / "prior.json"),
        actions=actions_of(read_json(folder / "vocabulary.json")),
    )
    return OwnParts(parts, shape, networks.autoencoder)


def _reason(error: RuntimeError) -> str:
    """torch lists the names from the second line on."""
    lines = str(error).splitlines()
    return first_line("\n".join(lines[1:] or lines).strip())


def _shape_of(file: Path) -> Shape:
    stated = read_json(file)
    names = [field.name for field in dataclasses.fields(Shape)]
    sizes = {name: stated.get(name) for name in names}
    wrong = next((n for n, x in sizes.items() if type(x) is not int or not 1 <= x <= LARGEST), None)
    if wrong is not None:
        raise PriorError(f"{file} has {wrong}={str(sizes[wrong])[:60]}: expected a whole number from 1 to {LARGEST}.")
    shape = Shape(**sizes)  # type: ignore[arg-type]
    for whole, part in (("width", "heads"), ("channels", "cameras")):
        if getattr(shape, whole) % getattr(shape, part):
            raise PriorError(
                f"{file} has {whole}={getattr(shape, whole)}, {part}={getattr(shape, part)}: expected {part} that"
                f" divide the {whole}."
            )
    return shape


def _tokenizer_of(folder: Path, shape: Shape) -> Tokenizer:
    file = folder / TOKENIZER
    check_token_file(file)
    try:
        tokenizer = Tokenizer(file, shape.tokens)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise PriorError(f"{file} cannot be read ({first_line(str(error))}): fetch the folder again.") from error
    if tokenizer.words > shape.words:
        raise PriorError(
            f"{file} has {tokenizer.words} words, the text encoder knows {shape.words}: they do not belong together."
        )
    return tokenizer
