"""Every knob of a run: one frozen dataclass, and the absl flags generated from it.

The dataclass is the only list of options. A field's type chooses the flag (``Literal`` becomes an enum, a tuple a
comma-separated list of floats, ``| None`` means "the prior's own default"), its metadata gives help and bounds.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from absl import flags

from md_jax.errors import UserError
from md_jax.presets import preset_values

LARGEST_INTEGER = 2**31 - 1  # of flags without another upper bound: what an int32 holds


def _field(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field with its flag's help and inclusive bounds."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of one run. Angles are in degrees here (people type them); everything behind is in radians."""

    # What to make
    prompt: str = _field(
        "a person is walking", "The sentence to turn into motion; {view} in it becomes front, side or back."
    )
    prompts_file: str = _field("", "A text file with one prompt a line; each line becomes one motion.")
    negative_prompt: str = _field("", "What the motion should not look like (replaces the empty prompt).")
    source_prompt: str = _field("", "For --distillation=bridge: what the video looks like so far; empty: the prompt and"
                                " words for the usual flaws.")  # fmt: skip
    action: str = _field("auto", "Action whose pose statistics start and bound the motion; 'auto' reads it off the"
                         " prompt, 'generic' pools all actions.")  # fmt: skip
    statistics: str = _field("", "Own pose statistics: an .npz written by tools.build_statistics, or a folder of"
                             " AMASS-style .npz clips. Empty: the shipped ones.")  # fmt: skip
    num_motions: int = _field(1, "Motions made at once, each from its own seed.", low=1)
    seed: int = _field(0, "Seed of everything random.", low=0)

    mode: Literal["pose", "latent"] = _field("pose", "'pose' moves a body; 'latent' optimises a video itself, from the"
                                             " first render (the paper's ablation).")  # fmt: skip
    preset: Literal["none", "paper", "corrected"] = _field(
        "none", "Values for every flag that is not given: 'paper' the published code's, quirks and all, 'corrected' the"
        " paper's method without them.")  # fmt: skip

    # Prior and distillation
    prior: str = _field("embedded", "The video diffusion model to distil (an unknown name lists them).")  # fmt: skip
    prior_path: str = _field("", "Its diffusers folder or hub id; empty: the shipped one (embedded).")
    scale_arr: bool = _field(True, "VideoCrafter's own scaling of noised latents; the paper's code lacks it.")
    distillation: Literal["sds", "csd", "nfsd", "bridge"] = _field("sds", "Which residual is distilled.")
    guidance_scale: float = _field(7.5, "Classifier-free guidance scale s.", low=0)
    guidance_low: float | None = _field(None, "The scale at t = 0, from which it grows linearly to --guidance_scale at"
                                        " t = 1: strong where the motion is decided, weak where it is refined; default:"
                                        " --guidance_scale.", low=0)  # fmt: skip
    t_min: tuple[float, ...] = _field((0.4, 0.05), "Lower end of the diffusion times drawn: a number, or start,end.",
                                      low=0.001, high=0.999)  # fmt: skip
    t_max: tuple[float, ...] = _field((0.98, 0.45), "Upper end of the diffusion times drawn: a number, or start,end.",
                                      low=0.001, high=0.999)  # fmt: skip
    t_schedule: Literal["linear", "sqrt", "constant", "descending"] = _field(
        "linear", "How the range moves from start to end; 'descending' passes through all times once.")  # fmt: skip
    fixed_draws: bool = _field(False, "Use the first step's cameras, times and noise in every step (for debugging).")
    weighting: Literal["sigma2", "one", "sqrt_abar_sigma2"] = _field(
        "sigma2", "The weight w(t) of the residual.")  # fmt: skip
    motion_amp: float = _field(1.0, "Amplifies what differs between frames in the guidance (4D-fy).", low=0)
    residual_clip: float = _field(0.0, "Largest norm of a clip's residual in the latents; 0 = off.", low=0)
    sds_weight: float = _field(1.0, "Weight of the distillation loss.", low=0)
    reg_weight: float = _field(1e-3, "Weight of the smoothness term, summed squared frame differences.", low=0)
    image_prior: Literal["none", "sd15", "sd21"] = _field("none", "An image prior that judges frames beside the video"
                                                          " prior.")  # fmt: skip
    image_prior_path: str = _field("", "Its diffusers folder or hub id.")
    image_weight: float = _field(1.0, "Weight of the image prior's distillation loss.", low=0)
    image_frames: int = _field(2, "Random frames of each clip that the image prior sees.", low=1)
    image_size: int | None = _field(None, "Height and width of its pictures; default: the image prior's.", low=8)
    image_guidance_scale: float | None = _field(None, "Its guidance scale; default: --guidance_scale.", low=0)
    image_weighting: Literal["sigma2", "one", "sqrt_abar_sigma2"] = _field(
        "sqrt_abar_sigma2", "The weight w(t) of its residual.")  # fmt: skip
    view_prompts: bool = _field(True, "Add each camera's view ('side view') to the prompt.")

    # Pose
    root: Literal["fixed", "orient", "height", "full"] = _field(
        "fixed", "Also optimise the root: orientation; with the pelvis's height; or all of it.")  # fmt: skip
    rotation: Literal["axis_angle", "6d"] = _field("axis_angle", "What the PoseField's outputs mean.")
    bound: Literal["tanh", "clamp"] = _field("tanh", "How poses are kept within the statistics.")
    bound_sigma: float = _field(3.0, "Half width of the bound in standard deviations.", low=0.01)
    frequencies: int = _field(4, "Octaves of the PoseField's time features, the lowest half a cycle in the clip: 3"
                              " cannot jitter, 4 shows what ten frames can show.", low=1, high=8)  # fmt: skip
    posefield: Literal["default", "paper"] = _field("default", "The network: ours, or the paper's code's (raw frame"
                                                    " index, 32 wide, layer norm).")  # fmt: skip
    frames: int | None = _field(None, "Frames of the clip; default: the prior's.", low=2)
    fps: float | None = _field(None, "Frames a second of the clip; default: the prior's.", low=0.1)

    # Body, camera, picture
    body: str = _field("free", "'free' (shipped, CC0) or an SMPL-X .npz file or folder.")
    gender: Literal["neutral", "male", "female"] = _field("neutral", "Which file of an SMPL-X folder.")
    betas: tuple[float, ...] = _field((), "Shape coefficients of the body.", low=-10, high=10)
    height: int | None = _field(None, "Rendered height in pixels; default: the prior's.", low=8)
    width: int | None = _field(None, "Rendered width in pixels; default: the prior's.", low=8)
    supersample: int = _field(2, "Samples a pixel and axis.", low=1, high=8)
    renderer: Literal["auto", "warp", "nvdiffrast"] = _field(
        "auto", "Rasteriser; 'auto' takes the fastest that is there.")  # fmt: skip
    antialias: Literal["edge", "nvdiffrast"] = _field("edge", "Antialiasing by all silhouette edges, or nvdiffrast's.")
    views: int = _field(2, "Cameras a step and motion, evenly spaced from a random start.", low=1)
    azimuths: tuple[float, ...] = _field((), "Fixed set of camera azimuths in degrees, 0 = in front, 90 = the body's"
                                         " left; empty: the whole circle.", low=-360, high=360)  # fmt: skip
    elevation: tuple[float, ...] = _field((), "Camera elevation in degrees: a number, or low,high; empty: the prior's.",
                                          low=-89, high=89)  # fmt: skip
    distance: float | None = _field(None, "Camera distance in metres; default: the prior's.", low=0.1)
    fov: float | None = _field(None, "Vertical field of view in degrees; default: the prior's.", low=1, high=170)
    background: tuple[float, ...] = _field((), "Background r,g,b in 0..1; empty: the prior's.", low=0, high=1)

    # Optimisation
    steps: int = _field(300, "Optimisation steps.", low=1)
    optimizer: str = _field("adam", "Any optax optimiser named in md_jax/optimizers.py.")
    learning_rate: float = _field(5e-3, "Learning rate.", low=0)
    schedule: Literal["constant", "cosine", "linear"] = _field("constant", "Learning-rate schedule.")
    grad_clip: float = _field(1.0, "Clips each motion's gradient norm; 0 = off.", low=0)
    max_bad_steps: int = _field(50, "Stop after this many non-finite gradients in a row.", low=1)
    controls: bool = _field(True, "Also make the control run with guidance 0 that the sheet shows beside the motion.")

    # Machine
    device: Literal["auto", "cpu", "cuda"] = _field("auto", "Where both frameworks run.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = _field("auto", "Precision of the frozen prior.")
    transport: Literal["staged", "jit"] = _field("staged", "How torch is reached from JAX; the result is the same.")
    prior_batch: int = _field(16, "Clips given to the prior at once.", low=1)
    low_vram: bool = _field(False, "Spare memory: one clip, text and encoded frame at once, activations recomputed.")
    oom: Literal["stop", "retry"] = _field("stop", "When a GPU's memory is full: stop, or do half as much at once.")
    compile: Literal["off", "on", "graphs"] = _field("off", "torch.compile the prior; 'graphs': as a CUDA graph, too.")
    encode_chunk: int = _field(0, "Frames encoded at once for the gradient, where the VAE takes them one by one: less"
                               " memory, same result; 0 = all.", low=0)  # fmt: skip
    tiny_vae: str = _field("", "Folder of an AutoencoderTiny that stands in for the VAE's encoder in the gradient.")

    # Files
    workdir: str = _field("", "Where the run goes; empty: a fresh folder under runs/.")
    resume: bool = _field(False, "Go on with the run in --workdir (or the newest under runs/).")
    log_every: int = _field(10, "Steps between lines of metrics.jsonl.", low=1)
    checkpoint_every: int = _field(50, "Steps between checkpoints.", low=1)
    preview_every: int = _field(100, "Steps between preview pictures; 0 = none.", low=0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        if not self.prompt.strip() and not self.prompts_file:
            raise UserError("--prompt is empty: say what the person does, e.g. --prompt='a person is walking'.")
        for name in ("t_min", "t_max", "elevation"):
            value = getattr(self, name)
            if len(value) > 2 or (name != "elevation" and not value):
                raise UserError(f"--{name} takes one number or two (start,end), got {len(value)} numbers: {value}.")
        if any(low >= high for low, high in zip(pair(self.t_min), pair(self.t_max), strict=True)):
            raise UserError(f"--t_min must stay below --t_max, got {self.t_min} and {self.t_max}.")
        if self.background and len(self.background) != 3:
            raise UserError(f"--background takes r,g,b, got {len(self.background)} numbers: {self.background}.")
        if self.image_prior == "none" and self.image_prior_path:
            raise UserError("--image_prior_path names no use: say which prior it is with --image_prior=sd15 or sd21.")
        if self.image_prior != "none":
            self._check_image_term()
        if self.mode == "latent" and self.tiny_vae:
            raise UserError("--tiny_vae has no place in --mode=latent: no gradient goes through the VAE there.")
        if len(self.betas) > 300:
            raise UserError(f"--betas takes at most 300 numbers, got {len(self.betas)}.")

    def _check_image_term(self) -> None:
        if self.mode == "latent":
            raise UserError(f"--image_prior={self.image_prior} judges pictures of the body, and --mode=latent has none:"
                            " add --image_prior=none.")  # fmt: skip
        if not self.image_prior_path:
            raise UserError(f"--image_prior={self.image_prior} does not ship with the program: give --image_prior_path,"
                            " its folder or hub id, or --image_prior=none.")  # fmt: skip
        if not self.image_weight or not self.sds_weight:
            raise UserError("--image_prior needs --image_weight and --sds_weight above 0: it stands beside the video"
                            f" prior; got {self.image_weight} and {self.sds_weight}.")  # fmt: skip


def pair(value: tuple[float, ...]) -> tuple[float, float]:
    """(start, end) of an option that is given as one number or two."""
    return (value[0], value[-1])


def prompts(config: Config) -> list[str]:
    """The prompt of each of the M motions.

    Raises:
        UserError: the prompts file is missing, unreadable or holds no prompt.
    """
    if not config.prompts_file:
        return [config.prompt.strip()] * config.num_motions
    try:
        text = Path(config.prompts_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts_file={config.prompts_file} cannot be read: {error}.") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if not lines:
        raise UserError(f"--prompts_file={config.prompts_file} holds no prompt: one prompt a line is expected.")
    return [line for line in lines for _ in range(config.num_motions)]


# --- flags ------------------------------------------------------------------------------------------------------


def _inner_type(field: dataclasses.Field) -> tuple[Any, bool]:
    """(the field's type without None, whether it is optional)."""
    hint = typing.get_type_hints(Config)[field.name]
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not type(None)), True
    return hint, False


def _check(field: dataclasses.Field, value: Any) -> None:
    """Raise UserError unless `value` has the field's choices and bounds."""
    kind, optional = _inner_type(field)
    if value is None and optional:
        return
    if typing.get_origin(kind) is Literal and value not in typing.get_args(kind):
        raise UserError(f"--{field.name} must be one of {', '.join(typing.get_args(kind))}; got {value!r}.")
    low, high = field.metadata["low"], field.metadata["high"]
    if kind is int and high is None:
        high = LARGEST_INTEGER
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not abs(number) < float("inf"):
            raise UserError(f"--{field.name} must be a finite number, got {number}.")
        if (low is not None and number < low) or (high is not None and number > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"--{field.name} must be {bounds}, got {number}.")


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Define one flag for each field of Config (called once, by the entry points)."""
    for field in dataclasses.fields(Config):
        kind, _ = _inner_type(field)
        name, help = field.name, field.metadata["help"]
        default: Any = field.default
        if typing.get_origin(kind) is Literal:
            flags.DEFINE_enum(name, default, list(typing.get_args(kind)), help, flag_values=flag_values)
        elif typing.get_origin(kind) is tuple:
            flags.DEFINE_list(name, [str(x) for x in default], help, flag_values=flag_values)
        else:
            define: Any = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float}
            define.get(kind, flags.DEFINE_string)(name, default, help, flag_values=flag_values)
        flags.declare_key_flag(field.name, flag_values=flag_values)


def from_flags(flag_values: flags.FlagValues = flags.FLAGS) -> Config:
    """The Config that the parsed flags describe.

    Raises:
        UserError: a value is out of its bounds, or two of them contradict each other.
    """
    values: dict[str, Any] = {}
    preset = preset_values(str(flag_values["preset"].value), str(flag_values["prior"].value))
    for field in dataclasses.fields(Config):
        value = flag_values[field.name].value
        if field.name in preset and not flag_values[field.name].present:
            value = preset[field.name]
        if isinstance(value, list):
            try:
                value = tuple(float(x) for x in value)
            except ValueError:
                raise UserError(f"--{field.name} takes numbers separated by commas, got {','.join(value)!r}.") from None
        values[field.name] = value
    return Config(**values)


def to_flagfile(config: Config, skip: Iterable[str] = ("workdir", "resume")) -> str:
    """The config as a flag file that loads back to it (prompt text stays unquoted: quotes are literal there)."""
    lines = ["# Written by md_jax; start it again with: python -m md_jax.main --flagfile=THIS_FILE"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in skip or value is None:
            continue
        lines.append(f"--{field.name}={flag_value(value)}")
    return "\n".join(lines) + "\n"


def flag_value(value: Any) -> str:
    """A field's value as flags take it."""
    if isinstance(value, tuple):
        return ",".join(repr(x) for x in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def from_flagfile(path: Path) -> Config:
    """Read back what `to_flagfile` wrote.

    Raises:
        UserError: the file is missing or not a flag file of this version.
    """
    values = flags.FlagValues()
    define_flags(values)
    try:
        values(["md_jax", f"--flagfile={path}"])
    except (flags.Error, OSError) as error:
        raise UserError(f"{path} is not a flag file of this version: {error}") from error
    return from_flags(values)
