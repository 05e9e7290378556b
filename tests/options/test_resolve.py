"""Where a value comes from: given, preset, the prior's recipe, the field's own default, in this order."""

import dataclasses

import pytest

from bridge.recipes import PRIORS, Recipe, recipe_of
from md_jax.config import FIELDS, GROUPS, OWN, Config, kind_of
from md_jax.errors import UserError
from md_jax.options.resolve import resolve


def test_the_fields_left_to_the_prior_are_those_of_a_recipe():
    assert set(OWN) == {field.name for field in dataclasses.fields(Recipe)}


@pytest.mark.parametrize("mode", ["pose", "latent"])
@pytest.mark.parametrize("prior", PRIORS)
def test_every_value_is_there(prior, mode):
    config = resolve({"prior": prior, "mode": mode})
    assert all(getattr(config, name) == value for name, value in dataclasses.asdict(recipe_of(prior, mode)).items())
    assert all(getattr(config, name) is not None or kind_of(name)[1] for name in FIELDS)


def test_given_over_preset_over_recipe():
    given = {"preset": "corrected", "steps": 7}
    config = resolve(given)
    assert (config.steps, config.frames, config.guidance_scale, config.bound) == (7, 10, 100.0, "tanh")
    assert resolve({}) == Config() and resolve({}).guidance_scale == recipe_of("embedded").guidance_scale


def test_the_main_job():
    """The recipe of docs/appendix/recipe.md."""
    config = Config()
    assert (config.mode, config.guidance_scale, config.t_min, config.t_max) == ("fit", 1.5, (0.1,), (0.4,))
    assert (config.reg_weight, config.frequencies, config.steps, config.views) == (0.5, 3, 30, 1)
    assert (config.learning_rate, config.schedule, config.grad_clip, config.optimizer) == (0.003, "cosine", 1.0, "adam")


def test_a_fit_can_be_asked_for_more_than_a_sentence():
    """It has met what is asked before its first step, so that less weight holds it; a preset is of pose mode."""
    for asked in ({"pin": "left_hand:0,1,0@0-1"}, {"avoid": True}):
        fit, pose = resolve(asked), resolve({"mode": "pose", **asked})
        assert fit.mode == "fit" and fit.steps == Config().steps and fit.control_weight < pose.control_weight
        with pytest.raises(UserError, match="which has no joints"):
            resolve({"mode": "latent", **asked})
    assert resolve({"preset": "corrected", "avoid": True}).mode == "pose"


def test_latent_mode():
    config = Config(mode="latent")
    assert (config.optimizer, config.learning_rate, config.steps, config.azimuths) == ("adamw", 0.025, 1000, (90.0,))
    assert resolve({"mode": "latent", "azimuths": ()}).azimuths == ()


def test_a_copy_keeps_its_values():
    other = dataclasses.replace(Config(), prior="zeroscope", prior_path="x")
    assert (other.guidance_scale, other.frames) == (1.5, None)


def test_an_unknown_prior_lists_the_known():
    with pytest.raises(UserError, match="unknown prior 'sora': the priors are embedded, modelscope"):
        Config(prior="sora")


def test_groups_begin_at_fields():
    order = list(FIELDS)
    places = [order.index(first) for _, first in GROUPS]
    assert places == sorted(places) and places[0] == 0
