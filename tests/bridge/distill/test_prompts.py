"""Prompts as cameras see them: view phrases, the placeholder, and the texts that each objective reads."""

import math

import pytest
import torch

from bridge.distill.objectives import TEXTS
from bridge.distill.prompts import as_seen, embed_prompts
from bridge.priors import PriorError, PriorSpec, load_prior
from bridge.priors.spec import Conditioning, Text
from tests.bridge.priors import tiny_priors

AZIMUTHS = [0.1, math.pi / 2, math.pi, -math.pi / 2]


class Recorder:
    """A prior whose text is the number of the sentence; the negative one is -1."""

    spec = PriorSpec("recorder", "video", "sample", 4, 10, 16, 16, 3)

    def embed(self, prompts, negative=""):
        self.prompts, self.negative = list(prompts), negative
        return Conditioning(Text(torch.arange(len(prompts)).float()[:, None, None]), Text(-torch.ones(1, 1, 1)))

    def read(self, texts):
        """The sentences behind embedded texts."""
        sentences = [*self.prompts, self.negative]
        return [[sentences[int(i)] for i in text.hidden.flatten()] for text in texts]


@pytest.mark.parametrize(
    ("prompt", "views"),
    [
        ("a man walks.", ["front view", "left side view", "back view", "right side view"]),
        ("a shot of {view} view of a man", ["front", "side", "back", "side"]),
    ],
)
def test_a_sentence_reads_from_every_side(prompt, views):
    seen = [as_seen(prompt, azimuth) for azimuth in AZIMUTHS]
    if "{view}" in prompt:
        assert seen == [f"a shot of {view} view of a man" for view in views]
        assert [as_seen(prompt, azimuth, view_prompts=False) for azimuth in AZIMUTHS] == seen
    else:
        assert seen == [f"a man walks, {view}" for view in views]
        assert as_seen(prompt, 0.0, view_prompts=False) == prompt


@pytest.mark.parametrize("objective", TEXTS)
def test_each_objective_gets_its_texts(objective):
    prior, motion, azimuth = Recorder(), torch.tensor([0, 1]), torch.tensor([0.0, math.pi])
    sources = ["a man stands", "a dog, side view"] if objective == "source" else None
    prompts = embed_prompts(prior, ["a man walks", "a dog runs"], "a statue", sources=sources)
    found = dict(zip(TEXTS[objective], prior.read(prompts.of_clips(motion, azimuth, TEXTS[objective])), strict=True))
    expected = {
        "prompt": ["a man walks, front view", "a dog runs, back view"],
        "source": ["a man stands, front view", "a dog, side view"],
        "negative": ["a statue"] * 2,
        "empty": [""] * 2,
    }
    assert found == {kind: expected[kind] for kind in TEXTS[objective]}


def test_without_a_negative_prompt_the_empty_one_is_embedded_once():
    prior = Recorder()
    prompts = embed_prompts(prior, ["a man walks"], view_prompts=False)
    assert (prior.prompts, prior.negative) == (["a man walks"], "")
    texts = prompts.of_clips(torch.tensor([0]), torch.tensor([0.0]), TEXTS["unguided"])
    assert prior.read(texts) == [[""]]


def test_an_unknown_prompt_is_told_in_the_users_words(tmp_path):
    prior = load_prior("embedded", str(tiny_priors.packed_folder(tmp_path / "p")))
    with pytest.raises(PriorError) as info:
        embed_prompts(prior, ["a man is walking", "a cat is sleeping"])
    assert "in the prompt 'a cat is sleeping'. It knows: walking, washing a window." in str(info.value)
