"""Reads a folder of tools/train_prior.py: sizes, weights, tokenizer, and what prior.json and vocabulary.json state."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bridge.priors.embedded.autoencoder import LinearAutoencoder
from bridge.priors.embedded.frames import FrameTransformer, Shape
from bridge.priors.embedded.network import alphas_cumprod
from bridge.priors.embedded.words import Tokenizer, WordEncoder
from bridge.priors.folder import actions_of
from bridge.priors.spec import PriorError
from bridge.priors.weights.find import first_line, read_json
from bridge.priors.weights.networks import frozen, refuse_dead

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
SCHEDULE = {"num_train_timesteps": 1000}  # cosine
LARGEST = 65_536  # of any size that config.json states


@dataclasses.dataclass(frozen=True)
class Networks:
    """What the folder holds, on its device, frozen."""

    shape: Shape
    denoiser: FrameTransformer
    text_encoder: WordEncoder
    autoencoder: LinearAutoencoder
    tokenizer: Tokenizer
    alphas_cumprod: Float[Tensor, "T"]  # float64, on the CPU
    settings: dict[str, object]  # prior.json
    actions: tuple[str, ...]


def read_networks(folder: Path, device: torch.device, dtype: torch.dtype) -> Networks:
    """Everything in a folder of tools/train_prior.py.

    Raises:
        PriorError: a file is missing, damaged, or does not belong to the others.
    """
    shape = _shape_of(folder / CONFIG)
    file = folder / WEIGHTS
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise PriorError(f"{file} cannot be read ({first_line(str(error))}): fetch the folder again.") from error
    encoder = weights.get("autoencoder.encoder", torch.empty(0))
    if encoder.ndim != 4 or encoder.shape[0] != shape.channels:
        raise PriorError(
            f"{file}: autoencoder.encoder has the shape {list(encoder.shape)}, expected [{shape.channels}, 3, H, W]."
        )
    with torch.device("meta"):  # no numbers are drawn for weights that are read
        networks = nn.ModuleDict({
            "denoiser": FrameTransformer(shape),
            "text_encoder": WordEncoder(shape.words, shape.text_width),
            "autoencoder": LinearAutoencoder(shape.channels, *encoder.shape[2:]),
        })  # fmt: skip
    try:
        networks.load_state_dict({name: value.to(dtype) for name, value in weights.items()}, assign=True)
    except RuntimeError as error:
        raise PriorError(f"{file} holds another network than {CONFIG} says ({_reason(error)}).") from error
    refuse_dead(file, "the prior", networks)
    frozen(networks, device)
    denoiser, text_encoder, autoencoder = networks.values()
    assert isinstance(denoiser, FrameTransformer)
    assert isinstance(text_encoder, WordEncoder)
    assert isinstance(autoencoder, LinearAutoencoder)
    return Networks(
        shape,
        denoiser,
        text_encoder,
        autoencoder,
        _tokenizer_of(folder / TOKENIZER, shape),
        alphas_cumprod(SCHEDULE),
        read_json(folder / "prior.json"),
        actions_of(read_json(folder / "vocabulary.json")),
    )


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
    if shape.width % shape.heads:
        raise PriorError(f"{file} has width={shape.width}, heads={shape.heads}: expected heads that divide the width.")
    return shape


def _tokenizer_of(file: Path, shape: Shape) -> Tokenizer:
    try:
        tokenizer = Tokenizer(file, shape.tokens)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise PriorError(f"{file} cannot be read ({first_line(str(error))}): fetch the folder again.") from error
    if tokenizer.words > shape.words:
        raise PriorError(
            f"{file} has {tokenizer.words} words, the text encoder knows {shape.words}: they do not belong together."
        )
    return tokenizer
