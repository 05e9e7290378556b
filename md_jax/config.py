"""Every option of a run: one frozen dataclass, whose values are always complete.

The dataclass is the only list of options; `md_jax.options.flags` makes the command line of it. A field's type chooses
the flag (``Literal`` becomes an enum, a tuple a comma-separated list of floats, ``| None`` means "as the loaded prior
has it"); its metadata gives help, bounds, and the group that --help shows it in. Fields made by `_own` default to what
the prior wants (`bridge.recipes`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Collection
from typing import Any, Literal

from md_jax.errors import UserError
from md_jax.files import expanded
from md_jax.outside.fields import check, option
from md_jax.outside.texts import folded, sentences_in
from md_jax.presets import clip_seconds, own_values
from md_jax.prompts.parts import LONGEST, lasts_one_clip, parts_of, seconds_of

MOST_MOTIONS = 10_000  # in one run
PROMPTS = ("prompt", "negative_prompt", "source_prompt")
PATHS = ("prompts_file", "keyframes", "start", "end", "path", "statistics", "prior_path", "image_prior_path", "body",
         "tiny_vae", "workdir", "character", "character_map")  # fmt: skip
CONTROLS = ("pin", "keyframes", "start", "end", "path", "avoid")  # what is asked beside the sentence


def _own(help: str, **settings: Any) -> Any:
    """A field whose default is the prior's own: None until the recipe fills it, before anybody can read it."""
    return option(None, help, own=True, **settings)


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of one run. Angles are in degrees here (people type them); everything behind is in radians.

    What is not given is the prior's own: ``Config(prompt="a person is running")`` is the main job. Presets are applied
    by `md_jax.options.resolve.resolve`, which knows what was given.

    Raises:
        UserError: a value is out of its bounds, two contradict each other, or there is no such prior.
    """

    # What to make
    prompt: str = option("a person is walking", "The sentence to turn into motion; {view} in it becomes front, side or"
                         " back. `md-jax \"a person is running\"` says the same. Sentences with bars"
                         " between follow one another: 'walking: 2 | punching' (seconds).", first=True)  # fmt: skip
    prompts_file: str = option("", "A text file with one prompt a line; each line becomes one motion.", first=True)
    num_motions: int = option(1, "Motions made at once, each from its own seed.", low=1, high=MOST_MOTIONS, first=True)
    first_motion: int = option(0, "Number of the first motion: --first_motion=2 starts and draws as motion-02 of a"
                               " larger run does.", low=0, high=MOST_MOTIONS)  # fmt: skip
    seed: int = option(0, "Seed of everything random.", low=0, first=True)
    control_run: bool = option(True, "Also make the run without guidance that the sheet shows beside the motion;"
                               " --quick leaves it out.", first=True)  # fmt: skip
    mode: Literal["pose", "fit", "latent"] = _own(
        "'pose' moves a body from its mean pose; 'fit' samples a clip, fits the body to it and goes on as 'pose' does;"
        " 'latent' optimises a video itself (the paper's ablation).", first=True)  # fmt: skip
    preset: Literal["none", "paper", "corrected"] = option(
        "none", "Values for every flag that is not given: 'paper' the published code's, quirks and all, 'corrected' the"
        " paper's method without them.", first=True)  # fmt: skip

    # Prior and guidance
    prior: str = option("embedded", "The video diffusion model to distil (an unknown name lists them).", first=True)
    prior_path: str = option("", "Its diffusers folder or hub id; empty: the shipped one (embedded).", first=True)
    negative_prompt: str = option("", "What the motion should not look like (replaces the empty prompt).")
    source_prompt: str = option("", "For --distillation=source: what the video looks like so far; empty: the prompt and"
                                " the usual flaws.")  # fmt: skip
    view_prompts: bool = option(True, "Add each camera's view ('side view') to the prompt.")
    distillation: Literal["sds", "csd", "nfsd", "source"] = option("sds", "Which residual is distilled.")
    distillation_weight: float = _own("Weight of the distillation loss, whichever residual it is.", low=0)
    guidance_scale: float = _own("Classifier-free guidance scale s.", low=0, first=True)
    guidance_low: float | None = option(None, "The scale at t = 0, from which it grows linearly to --guidance_scale at"
                                        " t = 1: strong where the motion is decided, weak where it is refined; default:"
                                        " --guidance_scale.", low=0)  # fmt: skip
    t_min: tuple[float, ...] = _own("Lower end of the diffusion times drawn: a number, or start,end.",
                                    low=0.001, high=0.999)  # fmt: skip
    t_max: tuple[float, ...] = _own("Upper end of the diffusion times drawn: a number, or start,end.",
                                    low=0.001, high=0.999)  # fmt: skip
    t_schedule: Literal["linear", "sqrt", "constant", "descending"] = _own(
        "How the range moves from start to end; 'descending' passes through all times once.")  # fmt: skip
    noise: Literal["fresh", "fixed", "coherent"] = _own(
        "Fresh in every step, or one for the whole run: with --t_schedule=descending that seeks a sample, not a mean."
        " 'coherent': one movement in all cameras, of which there are then eight.")  # fmt: skip
    weighting: Literal["sigma2", "one", "sqrt_abar_sigma2", "sigma_over_alpha"] = _own(
        "The weight w(t) of the residual.")  # fmt: skip
    motion_amp: float = option(1.0, "Amplifies what differs between frames in the video prior's guidance (4D-fy).",
                               low=0)  # fmt: skip
    residual_clip: float = option(0.0, "Largest norm of a clip's residual in the latents; 0 = off.", low=0)
    scale_arr: bool = option(True, "VideoCrafter's own scaling of noised latents; the paper's code lacks it.")
    image_prior: Literal["none", "sd15", "sd21"] = option("none", "An image prior that judges frames beside the video"
                                                          " prior.")  # fmt: skip
    image_prior_path: str = option("", "Its diffusers folder or hub id.")
    image_weight: float = option(1.0, "Weight of the image prior's distillation loss.", low=0)
    image_frames: int = option(2, "Random frames of each clip that the image prior sees.", low=1, high=1000)
    image_size: int | None = option(None, "Height and width of its pictures; default: the image prior's.", low=8,
                                   high=4096)  # fmt: skip
    image_guidance_scale: float | None = option(None, "Its guidance scale; default: --guidance_scale.", low=0)
    image_weighting: Literal["sigma2", "one", "sqrt_abar_sigma2"] = option(
        "sqrt_abar_sigma2", "The weight w(t) of its residual.")  # fmt: skip

    sample_steps: int = option(25, "For --mode=fit: steps of DDIM that sample the clip.", low=2, high=1000)
    fit_steps: int = _own("For --mode=fit: steps of the descent on the clip's pictures.", low=0)
    fit_smoothness: float = _own("For --mode=fit: weight of acceleration in it; blurred clips want more.", low=0)

    # Motion
    seconds: float | None = option(None, "Length of the motion; default: the prior's clip. A longer one is judged"
                                   " through windows of that length.", low=0.1, high=LONGEST, first=True)  # fmt: skip
    loop: bool = option(False, "The motion goes round: its last frame leads into its first.")
    action: str = option("auto", "Action whose pose statistics start and bound the motion; 'auto' reads it off the"
                         " prompt, 'generic' pools all actions.", first=True)  # fmt: skip
    statistics: str = option("", "Own pose statistics: an .npz written by tools.build_statistics, or a folder of"
                             " AMASS-style .npz clips. Empty: the shipped ones.")  # fmt: skip
    root: Literal["fixed", "orient", "full"] = _own(
        "Also optimise the root: its orientation, or orientation and translation.", first=True)  # fmt: skip
    frames: int | None = _own("Frames of the clip.", low=2, high=10000)
    fps: float | None = _own("Frames a second of the clip.", low=0.1, high=1000)
    frequencies: int = _own("Octaves of the PoseField's time features, the lowest half a cycle in the clip: 3 cannot"
                            " jitter, 4 shows what ten frames can show.", low=1, high=8)  # fmt: skip
    reg_weight: float = _own("Weight of the smoothness term, summed squared frame differences.", low=0)
    rotation: Literal["axis_angle", "6d"] = option("axis_angle", "What the PoseField's outputs mean.")
    bound: Literal["tanh", "clamp"] = option("tanh", "How poses are kept within the statistics.")
    bound_sigma: float = option(3.0, "Half width of the bound in standard deviations.", low=0.01)
    posefield: Literal["default", "paper"] = option("default", "The network: ours, or the paper's code's (raw frame"
                                                    " index, 32 wide, layer norm).")  # fmt: skip

    # Control: what is asked of the motion beside its sentence (docs/control.md)
    pin: str = option("", "Joints at places: JOINT:X,Y,Z@FIRST-LAST, in metres (y up from the floor, z ahead, x to the"
                      " body's left) and seconds; several with ; between.", first=True)  # fmt: skip
    keyframes: str = option("", "A file of poses or places at times: JSON, or a motion .npz to follow.")
    start: str = option("", "A motion .npz: this one begins with its last pose.")
    end: str = option("", "A motion .npz: this one ends with its first pose.")
    path: str = option("", "A CSV of places x,z in metres that the pelvis passes in turn; with --root=full.")
    avoid: bool = option(False, "Keep limbs out of each other and of the trunk.")
    control_weight: float = _own("Weight of these, in square centimetres, beside the prior's loss.", low=0)

    # Body and camera
    body: str = option("free", "'free' (shipped, CC0) or an SMPL-X .npz file or folder.", first=True)
    gender: Literal["neutral", "male", "female"] = option("neutral", "Which file of an SMPL-X folder.")
    betas: tuple[float, ...] = option((), "Shape coefficients of the body.", low=-10, high=10)
    views: int = _own("Cameras a step and motion, evenly spaced from a random start.", low=1, high=1000, first=True)
    azimuths: tuple[float, ...] = _own("Fixed set of camera azimuths in degrees, 0 = in front, 90 = the body's left;"
                                       " empty: the whole circle.", low=-360, high=360)  # fmt: skip
    elevation: tuple[float, ...] = option((), "Camera elevation in degrees: a number, or low,high; empty: the prior's.",
                                          low=-89, high=89)  # fmt: skip
    distance: float | None = option(None, "Camera distance in metres; default: the prior's.", low=0.1, high=1000)
    fov: float | None = option(None, "Vertical field of view in degrees; default: the prior's.", low=1, high=170)
    height: int | None = _own("Rendered height in pixels.", low=8, high=4096)
    width: int | None = _own("Rendered width in pixels.", low=8, high=4096)
    background: tuple[float, ...] = option((), "Background r,g,b in 0..1; empty: the prior's.", low=0, high=1)
    supersample: int = option(2, "Samples a pixel and axis.", low=1, high=8)
    renderer: Literal["auto", "warp", "nvdiffrast"] = option(
        "auto", "Rasteriser; 'auto' takes the fastest that is there.")  # fmt: skip
    detail: Literal["auto", "full", "12000", "6000", "3000"] = option(
        "auto", "Triangles that the body is drawn with while it is optimised: 'auto' takes fewer for small pictures,"
        " 'full' all. Files always have all.")  # fmt: skip
    antialias: Literal["edge", "nvdiffrast"] = option("edge", "Antialiasing by all silhouette edges, or nvdiffrast's.")

    # Optimisation
    steps: int = _own("Optimisation steps.", low=1, first=True)
    learning_rate: float = _own("Learning rate.", low=0, first=True)
    optimizer: str = _own("Any optax optimiser named in md_jax/fit/optimizers.py.")
    schedule: Literal["constant", "cosine", "linear"] = _own("Learning-rate schedule.")
    grad_clip: float = _own("Clips each motion's gradient norm; 0 = off.", low=0)
    max_bad_steps: int = option(50, "Stop after this many non-finite gradients in a row.", low=1)
    fixed_draws: bool = option(False, "Use the first step's cameras, times and noise in every step (for debugging).")

    # Machine
    device: Literal["auto", "cpu", "cuda"] = option("auto", "Where both frameworks run.", first=True)
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = _own("Precision of the frozen prior; 'auto': by the"
                                                                    " device.")  # fmt: skip
    low_vram: bool = option(False, "Spare memory: one clip, text and encoded frame at once, activations recomputed.",
                            first=True)  # fmt: skip
    prior_batch: int = _own("Clips given to the prior at once.", low=1)
    encode_chunk: int = _own("Frames encoded at once for the gradient, where the VAE takes them one by one: less"
                             " memory, same result; 0 = all.", low=0)  # fmt: skip
    oom: Literal["stop", "retry"] = option("stop", "When a GPU's memory is full: stop, or do half as much at once.")
    compile: Literal["off", "on", "graphs"] = option("off", "torch.compile the prior; 'graphs': as a CUDA graph, too.")
    tiny_vae: str = option("", "Folder of an AutoencoderTiny that stands in for the VAE's encoder in the gradient.")
    transport: Literal["staged", "jit"] = option("staged", "How torch is reached from JAX; the result is the same.")

    # Files
    workdir: str = option("", "Where the run goes; empty: a fresh folder under runs/.", first=True)
    resume: bool = option(False, "Go on with the run in --workdir (or the newest under runs/).", first=True)
    log_every: int = _own("Steps between lines of metrics.jsonl.", low=1)
    checkpoint_every: int = _own("Steps between checkpoints.", low=1)
    preview_every: int = _own("Steps between preview pictures; 0 = none.", low=0)
    export_fps: float = option(30.0, "Frames a second of the motion files and the video, sampled from the PoseField:"
                               " 24, 30, 60, 120 ...", low=1, high=240, first=True)  # fmt: skip
    ground: Literal["auto", "travel", "inplace", "none"] = option(
        "auto", "Feet on the floor of the files: 'travel' takes the body where standing feet take it, 'inplace' as on"
        " a treadmill, 'none' leaves it where it is; 'auto': travel for actions that travel.", first=True)  # fmt: skip
    hands: Literal["relaxed", "flat"] = option("relaxed", "Fingers in the files: the body's own at rest, or straight.")
    up: Literal["z", "y"] = option("z", "Up axis of motion.npz: 'z' as AMASS and Blender have it, or 'y'.")
    character: str = option("", "A rigged .glb or .vrm of your own that gets the motion, too.", first=True)
    character_map: str = option("", "A JSON file of its bones by joint, where their names do not tell.")

    def __post_init__(self) -> None:
        for name in PROMPTS:  # a second line would be read as a flag of its own where flags are written down
            object.__setattr__(self, name, folded(getattr(self, name)))
        for name in PATHS:
            if isinstance(path := getattr(self, name), str) and path.startswith("~"):
                object.__setattr__(self, name, str(expanded(path)))
        missing = {name for name in OWN if getattr(self, name) is None}
        self._check_values(set(FIELDS) - missing)
        if any(not kind_of(name)[1] for name in missing):  # a copy of a Config has them all
            for name, value in own_values(self.prior, self.mode, self.prior_path).items():
                if name in missing:
                    object.__setattr__(self, name, value)
            if "steps" in missing:
                object.__setattr__(self, "steps", math.ceil(self.steps * self._clips()))
        self._check_values(missing)
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
        if len(self.betas) > 300:
            raise UserError(f"--betas takes at most 300 numbers, got {len(self.betas)}.")
        if self.guidance_scale == 0 and self.distillation != "sds":
            raise UserError(f"--guidance_scale=0 leaves --distillation={self.distillation} nothing to distil: give a"
                            " scale above 0, or --distillation=sds.")  # fmt: skip
        if self.image_prior != "none":
            self._check_image_term()

    def _check_values(self, names: Collection[str]) -> None:
        for field in dataclasses.fields(self):
            if field.name in names:
                text = {"path": field.name in PATHS, "sentence": field.name in PROMPTS}
                check(field, getattr(self, field.name), *kind_of(field.name), **text)

    def _clips(self) -> float:
        """How many of the prior's clips the motion lasts, at least 1: with as many more steps all are seen as often."""
        clip = clip_seconds(self.prior, self.prior_path, self.frames, self.fps)
        parts = parts_of("" if self.prompts_file else self.prompt)
        if clip is None or lasts_one_clip(parts, self.seconds):
            return 1.0
        if isinstance(self.seconds, float | int):
            return max(self.seconds / clip, 1.0)
        return max(sum(seconds_of(parts, None, clip)) / clip, 1.0)

    def _check_image_term(self) -> None:
        if self.mode == "latent":
            raise UserError(f"--image_prior={self.image_prior} judges pictures of the body, and --mode=latent has none:"
                            " add --image_prior=none.")  # fmt: skip
        if not self.image_prior_path:
            raise UserError(f"--image_prior={self.image_prior} does not ship with the program: give --image_prior_path,"
                            " its folder or hub id, or --image_prior=none.")  # fmt: skip
        if not self.image_weight or not self.distillation_weight:
            raise UserError("--image_prior needs --image_weight and --distillation_weight above 0: it stands beside the"
                            f" video prior; got {self.image_weight} and {self.distillation_weight}.")  # fmt: skip
        if self.image_guidance_scale == 0 and self.distillation in ("csd", "source"):
            raise UserError(f"--image_guidance_scale=0 leaves --distillation={self.distillation} nothing to distil:"
                            " give a scale above 0, or --image_prior=none.")  # fmt: skip


GROUPS = (  # of --help: title, and the field that it begins at
    ("What to make", "prompt"),
    ("Prior and guidance", "prior"),
    ("Motion", "seconds"),
    ("Control", "pin"),
    ("Body and camera", "body"),
    ("Optimisation", "steps"),
    ("Machine", "device"),
    ("Files", "workdir"),
)


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
    lines = sentences_in(config.prompts_file)
    if len(lines) * config.num_motions > MOST_MOTIONS:
        raise UserError(f"--prompts_file={config.prompts_file} and --num_motions ask for"
                        f" {len(lines) * config.num_motions} motions: expected at most {MOST_MOTIONS}.")  # fmt: skip
    if not lines:
        raise UserError(f"--prompts_file={config.prompts_file} holds no prompt: one prompt a line is expected.")
    return [line for line in lines for _ in range(config.num_motions)]


@functools.lru_cache
def kind_of(name: str) -> tuple[Any, bool]:
    """(a field's type without None, whether None is a value of its own there)."""
    hint = _hints()[name]
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not type(None)), True
    return hint, False


@functools.cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Config)


FIELDS = {field.name: field for field in dataclasses.fields(Config)}
OWN = tuple(name for name, field in FIELDS.items() if field.metadata["own"])  # whose default is the prior's own
