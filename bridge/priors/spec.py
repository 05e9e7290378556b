"""What every prior is: its facts (PriorSpec), its text (Text), how it is run (Setup), what it offers (Prior)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bridge.errors import BridgeError
from bridge.recipes import Camera

Prediction = Literal["eps", "v", "flow", "sample"]  # what a model outputs
Compile = Literal["off", "on", "graphs"]
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}  # of weights


def precision_name(dtype: torch.dtype) -> str:
    """ "float16" of torch.float16: what `PriorSpec.dtype` holds."""
    return str(dtype).removeprefix("torch.")


class PriorError(BridgeError):
    """A prior cannot be found, read or used as asked."""


@dataclasses.dataclass(frozen=True)
class PriorSpec:
    """The facts of a prior that the rest of the program needs; the camera fields are how its training data looked.

    A video of F frames and H×W pixels has latents of shape (C, f, h, w) with f = (F - frame_offset) / frame_stride +
    frame_offset, h = H / pixel_stride and w = W / pixel_stride. Frame counts other than ``frame_stride·k +
    frame_offset`` are refused, or filled up to the next such count with copies of the last frame where `pads_frames` is
    set; so is any other than the native one where `fixed_frames` is set.
    """

    name: str
    kind: Literal["video", "image"]
    prediction: Prediction
    frames: int  # native
    fps: float
    height: int  # native, pixels
    width: int
    latent_channels: int
    pixel_stride: int = 1
    patch_size: int = 1  # latents that the model takes together, along height and width
    frame_stride: int = 1
    frame_patch: int = 1  # latents that the model takes together along time; the first is doubled to fill it up
    frame_offset: int = 0
    pads_frames: bool = False  # by `encode`; the gradient of the copies goes to the last frame
    fixed_frames: bool = False
    fixed_size: bool = False  # videos of another size are resized to the native one by `encode`
    elevation: tuple[float, float] = Camera.elevation  # radians, low and high
    fov: float = Camera.fov  # radians, vertical
    distance: float = Camera.distance  # metres from the body's centre
    background: tuple[float, float, float] = (0.9, 0.9, 0.9)
    # Azimuths of a clip's cameras from its first one, radians; their pictures stand side by side in `width`
    cameras: tuple[float, ...] = (0.0,)
    dtype: str = "float32"  # of the weights: one of PRECISIONS
    licence: str = "unknown"
    origin: str = "unknown"  # where the weights come from
    actions: tuple[str, ...] = ()  # what a closed vocabulary knows; empty: any text

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, f, h, w) of a native video."""
        return self.latent_shape_of(self.frames, self.height, self.width)

    def padded_frames(self, frames: int) -> int:
        """The frames that the model sees of a clip of `frames`: the smallest count that its rule allows."""
        if not self.pads_frames:
            return frames
        stride = self.frame_stride * self.frame_patch
        return -(-(frames - self.frame_offset) // stride) * stride + self.frame_offset

    def latent_shape_of(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, f, h, w) of a video of `frames` × `height` × `width`.

        Raises:
            PriorError: this prior cannot take such a video.
        """
        if self.fixed_frames and frames != self.frames:
            raise PriorError(f"prior '{self.name}' takes exactly {self.frames} frames, got {frames}.")
        if frames >= 1:
            frames = self.padded_frames(frames)
        if frames < 1 or (frames - self.frame_offset) % self.frame_stride:
            rule = f"{self.frame_stride}k + {self.frame_offset}" if self.frame_stride > 1 else "at least 1"
            raise PriorError(f"prior '{self.name}' takes {rule} frames, got {frames}.")
        if self.fixed_size:
            height, width = self.height, self.width
        multiple = self.pixel_stride * self.patch_size
        if height % multiple or width % multiple:
            raise PriorError(
                f"prior '{self.name}' takes heights and widths that {multiple} divides, got {height}x{width}."
            )
        latent_frames = (frames - self.frame_offset) // self.frame_stride + self.frame_offset
        latent_frames = -(-latent_frames // self.frame_patch) * self.frame_patch
        return self.latent_channels, latent_frames, height // self.pixel_stride, width // self.pixel_stride


@dataclasses.dataclass(frozen=True)
class Text:
    """Embedded prompts: one row each."""

    hidden: Float[Tensor, "P L D"]
    mask: Bool[Tensor, "P L"] | None = None  # the tokens that a model attends to; None: all

    def rows(self, index: Int[Tensor, "N"]) -> Text:
        """The rows that `index` names."""
        return Text(self.hidden[index], None if self.mask is None else self.mask[index])


class ShownPoses(NamedTuple):
    """The poses that N clips show."""

    rotations: Float[Tensor, "N F 22 3 3"]  # of the pelvis, as the clip's first camera sees it, and the 21 body joints
    height: Float[Tensor, "N F"]  # metres: the pelvis's above the first frame's


@dataclasses.dataclass(frozen=True)
class Conditioning:
    """The embedded prompts of a run (P rows) and what guidance leads away from (1 row: negative or empty prompt)."""

    positive: Text
    negative: Text

    def pair(self, index: Int[Tensor, "N"]) -> tuple[Text, Text]:
        """(positive, negative) with the rows `index` of the positive ones."""
        return self.positive.rows(index), self.negative.rows(torch.zeros_like(index))


@dataclasses.dataclass(frozen=True)
class Setup:
    """How a prior is to be run: the clips that it will judge, and choices that change speed and memory.

    The latter (`channels_last`, `compile`, `low_memory`) change results by rounding alone.
    """

    # The clip; None: the prior's own.
    frames: int | None = None
    height: int | None = None  # pixels
    width: int | None = None
    fps: float | None = None  # frames a second, > 0
    scale_latents: bool = True  # False: without VideoCrafter's own factor of the latents (s_t = 1)
    channels_last: bool = False  # 2D convolutions read channels from neighbouring addresses, as tensor cores want them
    compile: Compile = "off"  # by torch.compile; "graphs": the denoiser is also replayed as one CUDA graph
    compile_backend: str = "inductor"  # torch.compile's
    low_memory: bool = False  # one text and one frame at a time, activations of the VAE computed again


class Prior(Protocol):
    """A frozen diffusion model: everything that the program asks of one.

    Its weights never change. `configure` comes first, once; after `embed` the text encoder is gone.
    """

    @property
    def spec(self) -> PriorSpec:
        """The facts of this prior."""
        ...

    def configure(self, setup: Setup) -> tuple[str, ...]:
        """Prepare for clips of this size and rate, and for this way to run; before the first step, shapes being fixed.

        Returns:
            What of `setup` this prior ignores: one line each, for the user.

        Raises:
            PriorError: the prior cannot take such a clip, or cannot do what is asked.
        """
        ...

    def embed(self, prompts: Sequence[str], negative: str = "") -> Conditioning:
        """Embed all prompts of a run, once; the text encoder is freed afterwards.

        Any text is taken: whether a prior of closed vocabulary knows it is for the caller to see (`spec.actions`).

        Raises:
            PriorError: the text encoder has been freed already.
        """
        ...

    def encode(self, video: Float[Tensor, "N 3 F H W"]) -> Float[Tensor, "N C f h w"]:
        """Latents z of a video in [0, 1]: float32, normalised, the posterior's mean; no gradient is recorded."""
        ...

    def encode_vjp(
        self, video: Float[Tensor, "N 3 F H W"], g: Float[Tensor, "N C f h w"], chunk: int = 0
    ) -> Float[Tensor, "N 3 F H W"]:
        """g·∂encode(video)/∂video, exactly, `chunk` frames at a time (0: all) where frames are independent."""
        ...

    def encode_and_vjp(
        self, video: Float[Tensor, "N 3 F H W"]
    ) -> tuple[Float[Tensor, "N C f h w"], Callable[[Float[Tensor, "N C f h w"]], Float[Tensor, "N 3 F H W"]]]:
        """(`encode`(video), g -> `encode_vjp`(video, g)): all frames at once, with what lies in between kept."""
        ...

    def alpha_sigma(self, t: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """(α, σ) of z_t = α z + σ ε at diffusion times t in (0, 1)."""
        ...

    def predict(
        self, z_t: Float[Tensor, "N C f h w"], t: Float[Tensor, "N"], texts: Sequence[Text]
    ) -> tuple[Float[Tensor, "N C f h w"], ...]:
        """The model's raw output under each of `texts` (N rows each), as one batch: float32, no gradient."""
        ...

    def decode(self, z: Float[Tensor, "N C f h w"]) -> Float[Tensor, "N 3 F H W"]:
        """The video in [0, 1] of latents z; no gradient is recorded."""
        ...

    def poses(self, z: Float[Tensor, "N C f h w"]) -> ShownPoses | None:
        """The poses that latents z show; None: this prior cannot tell. No gradient is recorded."""
        ...


class Loader(Protocol):
    """What each family of priors has: its name and files become a Prior."""

    def __call__(self, name: str, path: str, device: torch.device, dtype: torch.dtype) -> Prior:
        """Load a prior, frozen.

        Args:
            name: of `bridge.priors.LOADERS`.
            path: a diffusers folder, a hub id (which is fetched), or a file of a kind that the family reads.
            device, dtype: where the networks go, and the precision of their weights.

        Raises:
            PriorError: nothing is there, it is damaged, or it is another kind of model.
        """
        ...
