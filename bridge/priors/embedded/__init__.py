"""The small prior that ships with the project, and folders of its kind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ftfy
import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.base import FolderPrior
from bridge.priors.embedded import files
from bridge.priors.folder import Parts, load_parts
from bridge.priors.spec import PriorError, PriorSpec, ShownPoses, Text, precision_name

# bridge imports no md_jax; the two packages are always installed side by side
SHIPPED = Path(__file__).resolve().parent / "assets"
# What prior.json may say, as the flags of the same names may; angles in degrees.
BOUNDS = {
    "frames": (2, 10_000), "fps": (0.1, 1000.0), "height": (8, 4096), "width": (8, 4096), "fov": (1.0, 170.0),
    "distance": (0.1, 1000.0), "elevation": (-89.0, 89.0), "background": (0.0, 1.0), "frame_packing": (0, 16),
    "cameras": (-360.0, 360.0),
}  # fmt: skip
LISTS = {"elevation": (2, 2), "background": (3, 3), "cameras": (1, 8)}  # how many numbers, at least and at most


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> FolderPrior:
    """The prior in the folder `path`, or the shipped one where `path` is empty.

    A folder with a config.json is of our own kind (tools/train_prior.py), as the shipped one is; one with a
    model_index.json is a diffusers folder with a prior.json.

    Raises:
        PriorError: the folder is missing, damaged, or states no frames, size or camera.
    """
    folder = Path(path) if path else SHIPPED
    if (folder / files.CONFIG).exists() and not (folder / "model_index.json").exists():
        own = files.read_own(folder, device, dtype)
        return OwnPrior(own_spec(name, own, folder, precision_name(dtype)), own, device)
    parts = load_parts(folder, device, dtype)
    return FolderPrior(spec_of(name, parts, folder, precision_name(dtype)), parts, device)


class OwnPrior(FolderPrior):
    """A folder of tools/train_prior.py: frames through an autoencoder, clips through a transformer.

    The numbers of a frame stand in as many columns as it has cameras: so latents keep the picture's form.
    """

    def __init__(self, spec: PriorSpec, own: files.OwnParts, device: torch.device) -> None:
        super().__init__(spec, own.parts, device)
        self._autoencoder = own.autoencoder

    def _read(self, texts: Sequence[str]) -> Text:
        tokens = self._tokenizer([ftfy.fix_text(text) for text in texts])  # as `FolderPrior` does
        return Text(self._text_encoder(tokens.to(self._device)).float())

    def _latents(self, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c 1 w"]:
        numbers = self._autoencoder.encode(frames).float()
        return numbers.unflatten(1, (self.spec.latent_channels, 1, -1))

    def _pictures(self, latents: Float[Tensor, "n c 1 w"]) -> Float[Tensor, "n 3 H W"]:
        return self._autoencoder.decode(latents.flatten(1)).float()

    @torch.no_grad()
    def poses(self, z: Float[Tensor, "N c F 1 w"]) -> ShownPoses:
        """The poses that the autoencoder reads from latents (see `Prior.poses`)."""
        frames = z.squeeze(3).transpose(1, 2).flatten(2)
        rotations, height = self._autoencoder.read(frames.flatten(0, 1))
        return ShownPoses(rotations.unflatten(0, frames.shape[:2]), height.unflatten(0, frames.shape[:2]))

    def output(self, z_t: Float[Tensor, "B C f h w"], t: Float[Tensor, "B"], text: Text) -> Float[Tensor, "B C f h w"]:
        """The clean latents that the denoiser sees in noised ones (see `FrozenPrior.output`)."""
        return self._unet(z_t, t, self.alpha_sigma(t)[0], text.hidden).sample


def own_spec(name: str, own: files.OwnParts, folder: Path, dtype: str) -> PriorSpec:
    """The PriorSpec of a folder of tools/train_prior.py.

    Raises:
        PriorError: prior.json states another clip than config.json and the autoencoder have.
    """
    shape, (height, width) = own.shape, own.autoencoder.mean.shape[1:]
    spec = _spec(name, own.parts, folder, dtype)
    stated = (spec.frames, len(spec.cameras), spec.height, spec.width)
    expected = (shape.frames, shape.cameras, height, width * shape.cameras)
    if stated != expected or height != width:
        raise PriorError(
            f"{folder / 'prior.json'} states frames, cameras, height, width = {stated}: the networks have {expected},"
            " and a camera's picture must be square."
        )
    return dataclasses.replace(spec, latent_channels=shape.channels // shape.cameras, pixel_stride=height)


def spec_of(name: str, parts: Parts, folder: Path, dtype: str) -> PriorSpec:
    """The PriorSpec that a diffusers folder's prior.json states."""
    spec = _spec(name, parts, folder, dtype)
    where, settings = folder / "prior.json", {"frame_packing": 0, **parts.settings}
    packing = int(_numbers(where, settings, "frame_packing")[0])
    channels = parts.unet.config.get("in_channels")
    _check_packing(where, channels, spec.frames, spec.height, spec.width, packing, len(spec.cameras))
    return spec


def _spec(name: str, parts: Parts, folder: Path, dtype: str) -> PriorSpec:
    """What prior.json states (angles there are in degrees), of a prior whose latents are its pixels."""
    settings, where = {"cameras": [0.0], **parts.settings}, folder / "prior.json"
    numbers = {name: _numbers(where, settings, name) for name in BOUNDS if name != "frame_packing"}
    (frames,), (height,), (width,) = (map(int, numbers[name]) for name in ("frames", "height", "width"))
    low, high = numbers["elevation"]
    if low > high:
        raise PriorError(f"{where} states elevation={settings['elevation']}: expected low and high, in this order.")
    red, green, blue = numbers["background"]
    try:
        return PriorSpec(
            name=name,
            kind="video",
            prediction=parts.prediction,  # type: ignore[arg-type]
            frames=frames,
            fps=numbers["fps"][0],
            height=height,
            width=width,
            latent_channels=3,
            fixed_frames=True,
            fixed_size=True,
            elevation=(math.radians(low), math.radians(high)),
            fov=math.radians(numbers["fov"][0]),
            distance=numbers["distance"][0],
            background=(red, green, blue),
            cameras=tuple(map(math.radians, numbers["cameras"])),
            dtype=dtype,
            licence=" ".join(str(settings["licence"])[:500].split()),
            origin=str(folder),
            actions=parts.actions,
        )
    except KeyError as error:
        raise PriorError(f"{where} is incomplete (KeyError: {error}).") from error


def _numbers(where: Path, settings: dict[str, Any], name: str) -> list[float]:
    """The numbers that prior.json states under a name, within BOUNDS.

    Raises:
        PriorError: they are missing, too few or many, no numbers, or out of bounds.
    """
    if name not in settings:
        raise PriorError(f"{where} is incomplete (KeyError: {name!r}).")
    low, high = BOUNDS[name]
    found = settings[name] if name in LISTS else [settings[name]]
    kinds = int if isinstance(low, int) else int | float
    least, most = LISTS.get(name, (1, 1))
    fits = isinstance(found, list) and least <= len(found) <= most and all(
        isinstance(x, kinds) and not isinstance(x, bool) and low <= x <= high for x in found
    )  # fmt: skip
    if not fits:
        many = str(least) if least == most else f"{least} to {most}"
        count = f"{many} numbers" if name in LISTS else "a whole number" if kinds is int else "a number"
        raise PriorError(f"{where} states {name}={str(settings[name])[:80]}: expected {count} from {low} to {high}.")
    return [float(x) for x in found]


def _check_packing(
    where: Path, channels: int | None, frames: int, height: int, width: int, packing: int, cameras: int
) -> None:
    """Refuse a clip whose frames, packed as channels, are not those that the UNet takes."""
    packed = 3 * cameras * frames * packing**2 if packing else 3
    if cameras > 1 and not packing:
        raise PriorError(f"{where} states {cameras} cameras without frame_packing: expected one camera.")
    if channels != packed or height % max(packing, 1) or width % (cameras * max(packing, 1)):
        raise PriorError(
            f"{where} states frames={frames}, frame_packing={packing}, {cameras} cameras, height={height},"
            f" width={width}: that is {packed} channels, and the UNet takes {channels}."
        )
