"""Prompts as cameras see them: view phrases, the placeholder, and the texts that each objective reads."""

import math

import pytest
import torch

from bridge.distill.objectives import TEXTS
from bridge.distill.prompts import embed_prompts
from bridge.errors import BridgeError
from bridge.priors import PriorSpec
from bridge.priors.spec import Conditioning, Text


def seen(sentence):
    return [f"{sentence}, {side}" for side in ("front", "left", "back", "right")]


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


@pytest.mark.parametrize("objective", TEXTS)
def test_each_objective_gets_its_texts(objective):
    prior, motion, azimuth = Recorder(), torch.tensor([0, 1]), torch.tensor([0.0, math.pi])
    sources = [seen("a man stands"), ["a dog"] * 4] if objective == "source" else None
    prompts = embed_prompts(prior, [seen("a man walks"), seen("a dog runs")], "a statue", sources)
    found = dict(zip(TEXTS[objective], prior.read(prompts.of_clips(motion, azimuth, TEXTS[objective])), strict=True))
    expected = {
        "prompt": ["a man walks, front", "a dog runs, back"],
        "source": ["a man stands, front", "a dog"],
        "negative": ["a statue"] * 2,
        "empty": [""] * 2,
    }
    assert found == {kind: expected[kind] for kind in TEXTS[objective]}


def test_without_a_negative_prompt_the_empty_one_is_embedded_once():
    prior = Recorder()
    prompts = embed_prompts(prior, [["a man walks"] * 4])
    assert (prior.prompts, prior.negative) == (["a man walks"], "")
    texts = prompts.of_clips(torch.tensor([0]), torch.tensor([0.0]), TEXTS["unguided"])
    assert prior.read(texts) == [[""]]


@pytest.mark.parametrize("sentences", [["a man walks"], [["a man walks"]], [["a"] * 4, ["a"] * 5]])
def test_four_sentences_a_motion_are_expected(sentences):
    with pytest.raises(BridgeError, match="expects 4 sentences a motion"):
        embed_prompts(Recorder(), sentences)
