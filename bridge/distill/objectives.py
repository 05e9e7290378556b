"""The guidance core: from a frozen model's raw output to the residual g that moves the latents.

Pure functions in the precision of their inputs (float32 in a run, float64 in tests), for models that predict the noise
(``eps``), the velocity (``v``), the flow (``flow``, α + σ = 1) or the clean sample (``sample``). With z_t = α z + σ ε
and the estimate x̂0 of z, every residual is a multiple of z - x̂0: ε̂ - ε = (α/σ)(z - x̂0), and v̂ - v = (z - x̂0)/σ for
both kinds of velocity. Shapes: latents (N, C, f, h, w); alpha, sigma and t (N,).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.spec import Prediction

Latents = Float[Tensor, "N C f h w"]
PerClip = Float[Tensor, "N"]


def add_noise(z: Latents, noise: Latents, alpha: PerClip, sigma: PerClip) -> Latents:
    """z_t = α z + σ ε."""
    return _wide(alpha, z) * z + _wide(sigma, z) * noise


def to_sample(raw: Latents, z_t: Latents, alpha: PerClip, sigma: PerClip, prediction: Prediction) -> Latents:
    """x̂0 of a raw prediction. An ``eps`` prediction needs α > 0."""
    a, s = _wide(alpha, z_t), _wide(sigma, z_t)
    if prediction == "eps":
        return (z_t - s * raw) / a
    if prediction == "v":
        return a * z_t - s * raw
    if prediction == "flow":
        return z_t - s * raw
    return raw


def to_eps(raw: Latents, z_t: Latents, alpha: PerClip, sigma: PerClip, prediction: Prediction) -> Latents:
    """ε̂ of a raw prediction: (z_t - α x̂0)/σ."""
    if prediction == "eps":
        return raw
    sample = to_sample(raw, z_t, alpha, sigma, prediction)
    return (z_t - _wide(alpha, z_t) * sample) / _wide(sigma, z_t)


def cfg(conditional: Latents, unconditional: Latents, scale: float | Tensor) -> Latents:
    """Classifier-free guidance u + s (c - u) (Ho & Salimans 2022); it commutes with `to_sample` and `to_eps`."""
    return unconditional + scale * (conditional - unconditional)


@dataclasses.dataclass(frozen=True)
class Guess:
    """What a model said about noised latents, and what they were made of.

    Which text each raw prediction was made under is the objective's affair (`TEXTS`).
    """

    conditional: Latents  # raw predictions
    unconditional: Latents
    z: Latents
    z_t: Latents
    noise: Latents
    alpha: PerClip
    sigma: PerClip
    prediction: Prediction
    t: PerClip | None = None  # nfsd needs both
    negative: Latents | None = None


def sds(guess: Guess, scale: float | Tensor) -> Latents:
    """Score distillation: δ = ε_u + s(ε_c - ε_u) - ε (DreamFusion, Poole et al. 2023, eq. 3)."""
    combined = cfg(guess.conditional, guess.unconditional, scale)
    if guess.prediction == "eps":
        return combined - guess.noise
    sample = to_sample(combined, guess.z_t, guess.alpha, guess.sigma, guess.prediction)
    return _wide(_own_scale(guess), guess.z) * (guess.z - sample)


def unguided(guess: Guess, scale: float | Tensor) -> Latents:
    """Score distillation without the sentence: δ = ε_u - ε at any scale; the control of every objective."""
    return sds(guess, 0.0)


def csd(guess: Guess, scale: float | Tensor) -> Latents:
    """Classifier score distillation: δ = s(ε_c - ε_u) (Yu et al. 2024, eq. 8)."""
    return _of_difference(guess, scale * (guess.conditional - guess.unconditional))


def nfsd(guess: Guess, scale: float | Tensor) -> Latents:
    """Noise-free score distillation: δ = δ_D + s(ε_c - ε_u); a scale s of 7.5 is enough (Katzir et al. 2024, sec. 4).

    δ_D, the way into the domain of good samples, is ε_u for t < 0.2, where ε_u holds little noise, and ε_u - ε_n above,
    where ε_n under a negative prompt holds the same noise.
    """
    assert guess.t is not None and guess.negative is not None
    eps = to_eps(guess.unconditional, guess.z_t, guess.alpha, guess.sigma, guess.prediction)
    to_own = _own_scale(guess) * guess.sigma / guess.alpha  # a velocity's residual is that of ε over α
    domain = torch.where(
        _wide(guess.t, guess.z) < NFSD_SWITCH,
        _wide(to_own, eps) * eps,
        _of_difference(guess, guess.unconditional - guess.negative),
    )
    return domain + csd(guess, scale)


NFSD_SWITCH = 0.2  # 200 of 1000 steps

# `source` is csd with words for what the picture looks like so far in place of no words: δ = s(ε_tgt - ε_src)
# (McAllister et al. 2024, "Rethinking score distillation as a bridge between image distributions").
OBJECTIVES: dict[str, Callable[[Guess, float | Tensor], Latents]] = {
    "sds": sds,
    "csd": csd,
    "nfsd": nfsd,
    "source": csd,
    "unguided": unguided,
}

# What the model is asked under, in this order: `Guess.conditional`, `.unconditional` and, for nfsd, `.negative`.
TEXTS: dict[str, tuple[str, ...]] = {
    "sds": ("prompt", "negative"),  # the negative prompt replaces the empty one
    "csd": ("prompt", "negative"),
    "nfsd": ("prompt", "empty", "negative"),
    "source": ("prompt", "source"),
    "unguided": ("empty",),
}

WEIGHTINGS: dict[str, Callable[[PerClip, PerClip], PerClip]] = {
    "sigma2": lambda alpha, sigma: sigma.square(),
    "one": lambda alpha, sigma: torch.ones_like(sigma),
    "sqrt_abar_sigma2": lambda alpha, sigma: alpha * sigma.square(),
    # makes the residual of a noise z - x̂0, as strong at high noise, where a clip is planned, as at low
    "sigma_over_alpha": lambda alpha, sigma: sigma / alpha.clamp(min=0.01),
}


def amplify_motion(delta: Latents, factor: float) -> Latents:
    """δ̄ + m(δ - δ̄) with δ̄ the mean over frames (4D-fy, Bahmani et al. 2024, §3.3)."""
    mean = delta.mean(dim=2, keepdim=True)
    return mean + factor * (delta - mean)


def clip_norm(g: Latents, limit: float) -> Latents:
    """Scale each clip's g down to a norm of at most `limit`; 0 leaves it alone."""
    if limit <= 0:
        return g
    norm = g.flatten(1).norm(dim=1)
    return _wide(limit / norm.clamp(min=limit), g) * g


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How residuals are made: the options of `residual`."""

    objective: str = "sds"
    scale: float = 7.5
    weighting: str = "sigma2"
    motion_amp: float = 1.0
    clip: float = 0.0  # largest norm of a clip's g; 0 = off
    scale_low: float | None = None  # the scale at t = 0, from which it grows linearly to `scale` at t = 1


def residual(guess: Guess, guidance: Guidance) -> Latents:
    """g = w(t) δ, the descent direction of the latents (its sign: z - g is better)."""
    scale: float | Tensor = guidance.scale
    if guidance.scale_low is not None:
        assert guess.t is not None
        scale = _wide(guidance.scale_low + (guidance.scale - guidance.scale_low) * guess.t, guess.z)
    delta = OBJECTIVES[guidance.objective](guess, scale)
    if guidance.motion_amp != 1:
        delta = amplify_motion(delta, guidance.motion_amp)
    weight = WEIGHTINGS[guidance.weighting](guess.alpha, guess.sigma)
    return clip_norm(_wide(weight, delta) * delta, guidance.clip)


def _of_difference(guess: Guess, difference: Latents) -> Latents:
    """The part of a residual that a difference of two raw predictions makes."""
    if guess.prediction == "eps":
        return difference
    # x̂0 is affine in the raw output, so that z_t cancels in a difference
    sample = to_sample(difference, torch.zeros_like(guess.z_t), guess.alpha, guess.sigma, guess.prediction)
    return -_wide(_own_scale(guess), sample) * sample


def _own_scale(guess: Guess) -> PerClip:
    """The factor of z - x̂0 in the model's own residual; for velocities it does not vanish where α does."""
    velocity = guess.prediction in ("v", "flow")
    return 1 / guess.sigma if velocity else guess.alpha / guess.sigma


def _wide(per_clip: PerClip, like: Latents) -> Tensor:
    """(N,) as (N, 1, 1, ...) of the dtype of `like`."""
    return per_clip.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
