"""What each prior wants of a run: guidance, times, weights, clip, steps and rate, the only place where they stand.

Readable in milliseconds: this module imports no framework and loads no weights. The embedded prior's recipe lies in its
own folder (prior.json, under "recipe"), so that a retrained one brings its own. Options that are given, and presets,
override single values.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError

EMBEDDED = "embedded"
IMAGE_PRIORS = ("sd15", "sd21")
_SHIPPED = Path(__file__).resolve().parent / "priors" / "embedded" / "assets"
_SETTINGS = "prior.json"
MODES = ("pose", "fit", "latent")
_LARGEST = 2**20  # bytes of it


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The values that a run takes from its prior, under the names of the options that override them.

    The defaults are the method of Janson et al. 2024 (sec. 4), for which the open video priors have no other yet.

    Attributes:
        mode: "pose", "fit" or "latent".
        t_min, t_max: of the diffusion times drawn, in (0, 1): one number, or (start, end).
        root: "fixed", "orient" or "full": what of the root is optimised.
        frequencies: octaves of the PoseField's time features.
        frames, fps, height, width: of the clip; None: what the loaded model was trained on.
        azimuths: fixed cameras in degrees; empty: the whole circle.
        prior_batch: clips judged at once.
        encode_chunk: frames encoded at once for the gradient; 0: all.
        dtype: of the weights; "auto": by the device.
        log_every, checkpoint_every, preview_every: steps.
    """

    guidance_scale: float = 100.0
    mode: str = "pose"
    t_min: tuple[float, ...] = (0.02,)
    t_max: tuple[float, ...] = (0.98,)
    t_schedule: str = "constant"
    noise: str = "fresh"
    weighting: str = "sigma2"
    distillation_weight: float = 1e-3
    reg_weight: float = 1e-3
    control_weight: float = 30.0
    fit_steps: int = 60
    fit_smoothness: float = 0.03
    root: str = "fixed"
    frequencies: int = 4
    frames: int | None = None
    fps: float | None = None
    height: int | None = None
    width: int | None = None
    views: int = 1
    azimuths: tuple[float, ...] = ()
    steps: int = 10_000
    optimizer: str = "adam"
    learning_rate: float = 5e-4
    schedule: str = "constant"
    grad_clip: float = 1.0
    prior_batch: int = 16
    encode_chunk: int = 0
    dtype: str = "auto"
    log_every: int = 50
    checkpoint_every: int = 500
    preview_every: int = 500


# Guidance of the first four is the paper's; of the others the one published for sampling (docs/priors.md). Of the
# transformers about a second of the models' own 81, 121, 49 and 161 frames.
_LIBRARY: dict[str, Recipe] = {
    "modelscope": Recipe(frames=16, fps=8.0, height=256, width=256),
    "zeroscope": Recipe(frames=24, fps=8.0, height=320, width=576, encode_chunk=4),
    "videocrafter1": Recipe(frames=16, fps=8.0, encode_chunk=4),  # two models of two sizes
    "videocrafter2": Recipe(frames=16, fps=8.0, height=320, width=512, encode_chunk=4),
    "animatediff": Recipe(7.5, frames=16, fps=8.0, height=512, width=512, encode_chunk=4),
    "wan21": Recipe(6.0, frames=17, fps=16.0, height=480, width=832, prior_batch=1, dtype="bfloat16"),
    "wan22": Recipe(5.0, frames=25, fps=24.0, height=704, width=1280, prior_batch=1, dtype="bfloat16"),
    "skyreels2": Recipe(6.0, frames=25, fps=24.0, height=544, width=960, prior_batch=1, dtype="bfloat16"),
    "cogvideox": Recipe(6.0, frames=9, fps=8.0, height=480, width=720, prior_batch=1),
    "cogvideox15": Recipe(6.0, frames=17, fps=16.0, height=768, width=1360, prior_batch=1, dtype="bfloat16"),
    "ltx": Recipe(3.0, frames=25, fps=25.0, height=512, width=704, prior_batch=1, dtype="bfloat16"),
}
PRIORS = (EMBEDDED, *_LIBRARY)
BORROWED: dict[str, str] = {}  # priors that a benchmark or test adds, by the prior whose recipe they take

# The paper's ablation, on any prior: AdamW on the latents of the first render, filmed from the side.
_LATENT: dict[str, Any] = {
    "t_min": (0.02,),
    "t_max": (0.98,),
    "t_schedule": "constant",
    "noise": "fresh",
    "weighting": "sigma2",
    "distillation_weight": 1.0,
    "views": 1,
    "azimuths": (90.0,),
    "steps": 1000,
    "optimizer": "adamw",
    "learning_rate": 0.025,
    "schedule": "constant",
    "grad_clip": 0.0,
    "log_every": 50,
    "checkpoint_every": 250,
    "preview_every": 250,
}

# A body that has been fitted to a sample is refined at low times, with little smoothness: the embedded prior's own
# weight, made for a guidance of 30, would leave it still. docs/guidance.md tells how these were chosen.
_FIT: dict[str, Any] = {
    "guidance_scale": 6.0,
    "t_min": (0.02,),
    "t_max": (0.6,),
    "t_schedule": "constant",
    "reg_weight": 0.005,
    "control_weight": 2.0,  # the fit has met what is asked; more would drown what the prior says
    "frequencies": 4,
    "steps": 60,
    "learning_rate": 0.005,
}


def recipe_of(prior: str, mode: str = "", path: str = "") -> Recipe:
    """The recipe of a video prior.

    Args:
        prior: one of PRIORS.
        mode: one of MODES; empty: the prior's own.
        path: of the embedded prior, a folder of its kind; one that states no recipe is run by the shipped one.

    Raises:
        BridgeError: there is no such video prior, or the folder's recipe cannot be read.
    """
    borrowed, prior = prior in BORROWED, BORROWED.get(prior, prior)
    if prior in IMAGE_PRIORS:
        raise BridgeError(f"--prior={prior} makes pictures, not videos: choose a video prior, e.g. --prior=embedded.")
    if prior not in PRIORS:
        raise BridgeError(f"unknown prior {prior!r}: the priors are {', '.join(PRIORS)}.")
    pose, own = _embedded(path) if prior == EMBEDDED else (_LIBRARY[prior], {})
    mode = mode or (MODES[0] if borrowed else pose.mode)  # who borrows a recipe shows no body of ours
    of_mode: dict[str, dict[str, Any]] = {"pose": {}, "fit": _FIT, "latent": _LATENT}
    return dataclasses.replace(pose, **(of_mode[mode] | own.get(mode, {}) | {"mode": mode}))


def clip_of(prior: str, path: str = "") -> tuple[int | None, float | None]:
    """(frames, frames a second) of a video prior's clip; None: only the loaded prior knows.

    Raises:
        BridgeError: as in `recipe_of`.
    """
    recipe = recipe_of(prior, path=path)
    if BORROWED.get(prior, prior) != EMBEDDED or recipe.frames:
        return recipe.frames, recipe.fps
    stated = _settings(Path(path or _SHIPPED) / _SETTINGS) or {}
    frames, fps = stated.get("frames"), stated.get("fps")
    if not (isinstance(frames, int) and isinstance(fps, int | float) and frames > 0 and fps > 0):
        return None, None  # a wrong value is told where the prior is loaded
    return frames, float(fps)


@dataclasses.dataclass(frozen=True)
class Camera:
    """How the videos look that a prior was trained on: a run is filmed alike. Radians, metres, pixels."""

    elevation: tuple[float, float] = (math.radians(15.0), math.radians(15.0))  # low and high
    fov: float = math.radians(50.0)  # vertical
    distance: float = 3.0  # from the body's centre
    height: int | None = None  # None: only the loaded prior knows
    width: int | None = None  # of one camera
    cameras: int = 1  # whose pictures stand side by side in a clip


def camera_of(prior: str, path: str = "") -> Camera | None:
    """The camera of a video prior, without its weights; None where its folder states none that can be used.

    Raises:
        BridgeError: as in `recipe_of`.
    """
    recipe = recipe_of(prior, path=path)
    if BORROWED.get(prior, prior) != EMBEDDED:
        return Camera(height=recipe.height, width=recipe.width)
    stated = _settings(Path(path or _SHIPPED) / _SETTINGS) or {}
    elevation: Any = stated.get("elevation")
    cameras = stated.get("cameras", [0.0])
    numbers: list[Any] = [stated.get(name) for name in ("fov", "distance", "height", "width")]
    lists = isinstance(elevation, list) and len(elevation) == 2 and isinstance(cameras, list) and len(cameras) > 0
    if not lists or not all(map(_is_number, elevation)) or not all(_is_number(x) and x > 0 for x in numbers):
        return None  # a wrong value is told where the prior is loaded
    low, high = map(math.radians, elevation)
    fov, distance, height, width = map(float, numbers)
    sizes = recipe.height or int(height), (recipe.width or int(width)) // len(cameras)
    return Camera((low, high), math.radians(fov), distance, *sizes, len(cameras))


@functools.lru_cache
def _embedded(path: str) -> tuple[Recipe, dict[str, dict[str, Any]]]:
    """The recipe of pose mode in a folder (but its own mode), and what differs in the other modes."""
    file = Path(path or _SHIPPED) / _SETTINGS
    own = _read(file)
    if own is None:  # by the shipped one's values, but from the mean pose
        file = _SHIPPED / _SETTINGS
        own = (_read(file) or {}) | {"mode": "pose"}
    try:
        others = {mode: _values(own.get(mode, {}), file) for mode in MODES[1:]}
        mode = own.get("mode", MODES[0])
        if mode not in MODES:
            raise BridgeError(f'{file}: "recipe" states mode={str(mode)[:60]!r}; expected one of {", ".join(MODES)}.')
        return Recipe(**_values(own["pose"], file) | {"mode": mode}), others
    except (KeyError, TypeError, AttributeError) as error:
        raise BridgeError(f'{file}: "recipe" is incomplete ({type(error).__name__}: {error}).') from error


def _read(file: Path) -> dict[str, Any] | None:
    """The "recipe" of a prior.json; None where there is none."""
    return (_settings(file) or {}).get("recipe")


def _settings(file: Path) -> dict[str, Any] | None:
    """What a prior.json states; None where it cannot be read (loading the prior tells what is wrong with it)."""
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST:  # a pipe or a device would never end
            return None
        settings = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def _values(stated: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Values of a Recipe as JSON states them: lists become tuples, whole numbers floats where those are meant."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(Recipe) if field.name != "mode"}
    values: dict[str, Any] = {}
    for name, value in stated.items():
        kind = kinds.get(name)
        fits = {
            "tuple[float, ...]": isinstance(value, list) and len(value) < 100 and all(map(_is_number, value)),
            "str": isinstance(value, str),
            "int": _is_whole(value),
            "int | None": value is None or _is_whole(value),
            "float": _is_number(value),
            "float | None": value is None or _is_number(value),
        }
        if kind is None or isinstance(value, bool) or not fits[kind]:
            expected = f"expected {kind}" if kind else f"the names are {', '.join(kinds)}"
            raise BridgeError(f'{file}: "recipe" states {name[:60]}={str(value)[:60]!r}; {expected}.')
        is_float = kind.startswith("float") and value is not None
        values[name] = tuple(map(float, value)) if isinstance(value, list) else float(value) if is_float else value
    return values


def _is_whole(value: Any) -> bool:
    """A whole number of 64 bits: nothing that is counted is larger, and a float could not hold some that are."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    """A finite number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
