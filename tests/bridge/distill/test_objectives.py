"""The guidance core against closed forms: Gaussian priors in float64, and the identities between parametrisations."""

import dataclasses
import math

import pytest
import torch

from bridge.distill import objectives as distill
from bridge.distill.objectives import Guess, Guidance
from bridge.priors.schedule import alpha_sigma_from_table, timesteps

SHAPE = (3, 2, 4, 5, 6)  # N C f h w
VP = ["eps", "v", "sample"]


def schedule(prediction, n=3):
    sigma = torch.linspace(0.3, 0.9, n, dtype=torch.float64)
    return (1 - sigma if prediction == "flow" else (1 - sigma**2).sqrt()), sigma


def raw_of(sample, z_t, alpha, sigma, prediction):
    """The raw output of a model whose estimate of the clean sample is `sample` (written out independently)."""
    a, s = (x.reshape(-1, 1, 1, 1, 1) for x in (alpha, sigma))
    eps = (z_t - a * sample) / s
    return {"eps": eps, "sample": sample, "v": a * eps - s * sample, "flow": eps - sample}[prediction]


def random_guess(prediction, seed=0):
    g = torch.Generator().manual_seed(seed)
    z, noise, c, u, n = (torch.randn(SHAPE, generator=g, dtype=torch.float64) for _ in range(5))
    alpha, sigma = schedule(prediction)
    z_t = distill.add_noise(z, noise, alpha, sigma)
    raws = [raw_of(x, z_t, alpha, sigma, prediction) for x in (c, u, n)]
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)  # nfsd is another below 0.2
    return Guess(*raws[:2], z, z_t, noise, alpha, sigma, prediction, t, raws[2]), c, u


def wide(x):
    return x.reshape(-1, 1, 1, 1, 1)


@pytest.mark.parametrize("prediction", [*VP, "flow"])
def test_conversions_recover_the_sample_and_the_noise(prediction):
    guess, c, *_ = random_guess(prediction)
    args = (guess.z_t, guess.alpha, guess.sigma, prediction)
    torch.testing.assert_close(distill.to_sample(guess.conditional, *args), c)
    eps = distill.to_eps(guess.conditional, *args)
    wide = [x.reshape(-1, 1, 1, 1, 1) for x in (guess.alpha, guess.sigma)]
    torch.testing.assert_close(wide[0] * c + wide[1] * eps, guess.z_t)


@pytest.mark.parametrize("objective", distill.OBJECTIVES)
def test_eps_and_sample_models_give_the_same_residual(objective):
    residuals = [distill.residual(random_guess(p)[0], Guidance(objective, scale=7.5)) for p in ("eps", "sample")]
    torch.testing.assert_close(residuals[0], residuals[1])


def test_sds_with_sigma_squared_is_alpha_sigma_times_the_error():
    guess, c, u = random_guess("eps")
    g = distill.residual(guess, Guidance("sds", scale=30.0, weighting="sigma2"))
    wide = (guess.alpha * guess.sigma).reshape(-1, 1, 1, 1, 1)
    torch.testing.assert_close(g, wide * (guess.z - (u + 30.0 * (c - u))))


@pytest.mark.parametrize("prediction", ["v", "flow"])
@pytest.mark.parametrize("objective", ["sds", "csd"])
def test_velocity_models_use_their_own_residual(prediction, objective):
    guess, _, _ = random_guess(prediction)
    wide = [x.reshape(-1, 1, 1, 1, 1) for x in (guess.alpha, guess.sigma)]
    truth = guess.noise - guess.z if prediction == "flow" else wide[0] * guess.noise - wide[1] * guess.z
    difference = guess.conditional - guess.unconditional
    expected = 4.0 * difference if objective == "csd" else guess.unconditional + 4.0 * difference - truth
    torch.testing.assert_close(distill.residual(guess, Guidance(objective, 4.0, "one")), expected)


def test_velocity_residual_is_finite_at_zero_signal():
    z, noise = torch.randn(1, 1, 2, 2, 2), torch.randn(1, 1, 2, 2, 2)
    zero, one = torch.zeros(1), torch.ones(1)
    raw = torch.randn_like(z)
    g = distill.residual(Guess(raw, raw, z, noise, noise, zero, one, "v"), Guidance("sds", 1.0))
    torch.testing.assert_close(g, raw + z)


@pytest.mark.parametrize("prediction", [*VP, "flow"])
def test_sds_descends_to_the_mode_of_a_gaussian_prior(prediction):
    """Prior N(μ, s²): E[z | z_t] is known, SDS must bring any start to μ."""
    mean, std = 1.5, 0.4
    generator = torch.Generator().manual_seed(1)
    z = torch.full((8, 1, 1, 2, 2), -2.0, dtype=torch.float64)
    sigma = torch.linspace(0.3, 0.9, 8, dtype=torch.float64)
    alpha = 1 - sigma if prediction == "flow" else (1 - sigma**2).sqrt()
    a, s = (x.reshape(-1, 1, 1, 1, 1) for x in (alpha, sigma))
    trail = []
    for step in range(3000):
        noise = torch.randn(z.shape, generator=generator, dtype=torch.float64)
        z_t = distill.add_noise(z, noise, alpha, sigma)
        posterior = mean + a * std**2 / (a**2 * std**2 + s**2) * (z_t - a * mean)
        raw = raw_of(posterior, z_t, alpha, sigma, prediction)
        z = z - 0.02 * distill.residual(Guess(raw, raw, z, z_t, noise, alpha, sigma, prediction), Guidance("sds", 1.0))
        if step >= 1000:
            trail.append(z.mean())
    assert abs(torch.stack(trail).mean() - mean) < 0.05


@pytest.mark.parametrize("prediction", [*VP, "flow"])
def test_guided_sds_and_nfsd_descend_to_the_sharpened_mode(prediction):
    """Of N(μ_c, s²) and N(μ_u, s²), guidance of scale w has the mode μ_u + w(μ_c - μ_u); so has nfsd for t < 0.2."""
    means, std, scale = (1.0, 0.4), 0.3, 3.0
    generator = torch.Generator().manual_seed(1)
    z = torch.full((2, 8, 1, 2, 2), -1.0, dtype=torch.float64)
    sigma = torch.full((8,), 0.4, dtype=torch.float64)
    alpha = 1 - sigma if prediction == "flow" else (1 - sigma**2).sqrt()
    trail = []
    for step in range(1500):
        noise = torch.randn(z.shape, generator=generator, dtype=torch.float64)
        for i, objective in enumerate(("sds", "nfsd")):
            x = z[i][:, None]
            z_t = distill.add_noise(x, noise[i][:, None], alpha, sigma)
            a, s = wide(alpha), wide(sigma)
            raws = [
                raw_of(m + a * std**2 / (a**2 * std**2 + s**2) * (z_t - a * m), z_t, alpha, sigma, prediction)
                for m in means
            ]
            guess = Guess(
                *raws, x, z_t, noise[i][:, None], alpha, sigma, prediction, torch.full_like(sigma, 0.1), raws[0]
            )
            z[i] = z[i] - 0.03 * distill.residual(guess, Guidance(objective, scale))[:, 0]
        if step >= 500:
            trail.append(z.mean(dim=(1, 2, 3, 4)))
    expected = means[1] + scale * (means[0] - means[1])
    assert (torch.stack(trail).mean(dim=0) - expected).abs().max() < 0.05


def test_sds_residual_is_the_score_difference_of_a_gaussian():
    """σ·δ = -(σ² ∇log p_t(z_t) + σ ε): the closed-form score of N(αμ, α²s² + σ²)."""
    mean, std = 0.7, 0.5
    guess, _, _ = random_guess("eps")
    a, s = (x.reshape(-1, 1, 1, 1, 1) for x in (guess.alpha, guess.sigma))
    score = -(guess.z_t - a * mean) / (a**2 * std**2 + s**2)
    raw = -s * score
    g = distill.sds(Guess(raw, raw, guess.z, guess.z_t, guess.noise, guess.alpha, guess.sigma, "eps"), 1.0)
    torch.testing.assert_close(g, -s * score - guess.noise)


def test_csd_and_bridge_of_gaussians_are_the_difference_of_their_means():
    """Scores of N(αμ, α²s² + σ²) under two means differ by a constant: no noise, no dependence on z."""
    guess, _, _ = random_guess("eps")
    a, s = wide(guess.alpha), wide(guess.sigma)
    variance = a**2 * 0.5**2 + s**2
    raws = [s * (guess.z_t - a * mean) / variance for mean in (0.7, -0.2)]
    said = dataclasses.replace(guess, conditional=raws[0], unconditional=raws[1])
    for objective in ("csd", "source"):
        delta = distill.OBJECTIVES[objective](said, 5.0)
        torch.testing.assert_close(delta, (-5.0 * 0.9 * s * a / variance).expand_as(delta))


@pytest.mark.parametrize("prediction", [*VP, "flow"])
def test_identities_between_the_objectives(prediction):
    guess, *_ = random_guess(prediction)
    of = lambda name, scale, said=guess: distill.OBJECTIVES[name](said, scale)  # noqa: E731
    torch.testing.assert_close(of("sds", 7.0), of("sds", 0.0) + of("csd", 7.0))
    torch.testing.assert_close(of("source", 7.0), of("csd", 7.0))
    assert of("csd", 0.0).abs().max() == 0
    # where the negative prompt says what the empty one says, nfsd is csd for t >= 0.2 and has ε_u itself below
    same = dataclasses.replace(guess, negative=guess.unconditional)
    left = of("nfsd", 7.0, same) - of("csd", 7.0)
    assert left[1:].abs().max() < 1e-12
    eps = distill.to_eps(guess.unconditional, guess.z_t, guess.alpha, guess.sigma, prediction)
    own = eps / wide(guess.alpha) if prediction in ("v", "flow") else eps
    torch.testing.assert_close(left[:1], own[:1])
    # above, the negative prompt pushes away like a second sentence with the opposite sign
    pushed = dataclasses.replace(guess, conditional=guess.negative)
    torch.testing.assert_close((of("nfsd", 7.0) - of("csd", 7.0))[1:], -of("csd", 1.0, pushed)[1:])


def test_rectified_flow_residual_is_the_error_over_tau():
    guess, c, u = random_guess("flow")
    error = guess.z - (u + 4.0 * (c - u))
    torch.testing.assert_close(distill.sds(guess, 4.0), error / wide(guess.sigma))


def test_nfsd_is_finite_where_no_signal_is_left():
    z = torch.randn(1, 1, 2, 2, 2)
    raw, empty, negative = (torch.randn_like(z) for _ in range(3))
    zero, one = torch.zeros(1), torch.ones(1)
    guess = Guess(raw, empty, z, z, z, zero, one, "v", torch.tensor([0.99]), negative)
    torch.testing.assert_close(distill.nfsd(guess, 2.0), empty - negative + 2.0 * (raw - empty))


def test_every_objective_says_which_texts_it_reads():
    assert distill.TEXTS.keys() == distill.OBJECTIVES.keys()


def test_weightings_follow_their_formulas():
    alpha, sigma = schedule("eps")
    abar = alpha**2
    expected = {
        "sigma2": 1 - abar,
        "one": torch.ones_like(abar),
        "sqrt_abar_sigma2": abar.sqrt() * (1 - abar),
        "sigma_over_alpha": ((1 - abar) / abar).sqrt(),
    }
    assert expected.keys() == distill.WEIGHTINGS.keys()
    for name, value in expected.items():
        torch.testing.assert_close(distill.WEIGHTINGS[name](alpha, sigma), value)


def test_the_weight_of_pure_noise_is_bounded():
    assert distill.WEIGHTINGS["sigma_over_alpha"](torch.zeros(1), torch.ones(1)).item() == pytest.approx(100)


def test_motion_amplification_keeps_the_mean_over_frames():
    delta = torch.randn(SHAPE, dtype=torch.float64)
    amplified = distill.amplify_motion(delta, 3.0)
    torch.testing.assert_close(amplified.mean(2), delta.mean(2))
    torch.testing.assert_close(distill.amplify_motion(delta, 1.0), delta)
    torch.testing.assert_close(amplified[:, :, 1] - amplified[:, :, 0], 3 * (delta[:, :, 1] - delta[:, :, 0]))


def test_clip_bounds_each_clip_alone():
    g = torch.stack([torch.full((2, 2, 2, 2), x) for x in (0.01, 10.0)])
    clipped = distill.clip_norm(g, 1.0)
    assert torch.equal(clipped[0], g[0])
    assert clipped[1].norm().item() == pytest.approx(1.0, rel=1e-6)
    assert torch.equal(distill.clip_norm(g, 0.0), g)
    assert torch.isfinite(distill.clip_norm(torch.zeros_like(g), 1.0)).all()


def test_schedule_meets_the_table_and_stays_finite():
    table = torch.linspace(0.999, 0.0, 10, dtype=torch.float64)  # zero terminal SNR
    t = torch.arange(10, dtype=torch.float64) / 10
    alpha, sigma = alpha_sigma_from_table(t, table)
    torch.testing.assert_close(alpha.square(), table)
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(t))
    alpha, sigma = alpha_sigma_from_table(torch.tensor([1e-6, 0.33333, 0.999999]), table)
    assert alpha.dtype == torch.float32 and torch.isfinite(alpha).all() and torch.isfinite(sigma).all()
    assert math.isclose(timesteps(torch.tensor([0.25]), 1000).item(), 250.0)


def test_float32_agrees_with_float64():
    guess, _, _ = random_guess("sample")
    single = Guess(**{k: v.float() if torch.is_tensor(v) else v for k, v in vars(guess).items()})
    for objective in distill.OBJECTIVES:
        wide, narrow = (distill.residual(x, Guidance(objective, 30.0)) for x in (guess, single))
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", ["sds", "csd"])
def test_a_low_scale_grows_linearly_with_t(objective):
    guess, _, _ = random_guess("sample")  # at t = .1, .5, .9
    ramp = distill.residual(guess, Guidance(objective, 11.0, scale_low=1.0))
    for n, scale in enumerate((2.0, 6.0, 10.0)):
        torch.testing.assert_close(ramp[n], distill.residual(guess, Guidance(objective, scale))[n])
