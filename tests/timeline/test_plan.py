"""How long motions are: seconds, parts, loops."""

import pytest

from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.prompts.parts import parts_of
from md_jax.timeline.plan import Clip, plan

OURS = Clip(10, 10.0, 1)
SLOW = Clip(16, 8.0, 1)
CAUSAL = Clip(17, 16.0, 4)


def planned(clip, *prompts, **options):
    config = Config(prompt=prompts[0], **options)
    return plan(config, [parts_of(prompt) for prompt in prompts], clip)


@pytest.mark.parametrize(
    ("clip", "prompt", "options", "frames", "windows"),
    [
        (OURS, "a person is walking", {}, 10, False),
        (OURS, "a person is walking", {"seconds": 4.0}, 41, True),
        (OURS, "a person is walking", {"seconds": 4.0, "loop": True}, 40, True),
        (OURS, "a person is walking", {"loop": True}, 10, True),
        (OURS, "walking: 2 | running: 1.5", {}, 36, True),
        (OURS, "walking | running", {}, 21, True),  # a clip each
        (OURS, "walking: 1 | running", {"seconds": 4.0}, 41, True),
        (SLOW, "a man is sweeping", {}, 16, False),
        (SLOW, "a man is sweeping", {"seconds": 5.0}, 41, True),
        (SLOW, "a man is sweeping", {"loop": True}, 16, True),
        (CAUSAL, "a man is sweeping", {"seconds": 3.1}, 53, True),  # 17 and whole latents of four frames
        (CAUSAL, "a man is sweeping", {"seconds": 3.1, "loop": True}, 52, True),
    ],
)
def test_frames(clip, prompt, options, frames, windows):
    found = planned(clip, prompt, **options)
    assert (found.frames, found.windows is not None) == (frames, windows)
    ends = [stretch.end for stretch in found.stretches[0]]
    assert ends[-1] == pytest.approx(frames) and ends == sorted(ends)


def test_sentences_count_through_all_motions():
    found = planned(OURS, "walking: 2 | running: 2", "running: 1 | walking: 3")
    assert [[s.sentence for s in each] for each in found.stretches] == [[0, 1], [2, 3]]
    assert set(found.windows.sentences[1].tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (["walking"], {"seconds": 0.5}, "expected at least 0.9 s"),
        (["walking: 2 | running: 2", "running: 3 | walking: 3"], {}, "of one length"),
        (["walking: 2 | running: 2"], {"seconds": 3.0}, "--seconds=3"),
        (["walking: 3 | running: .2"], {}, "too short to be seen"),
    ],
)
def test_refusals(prompts, options, message):
    with pytest.raises(UserError, match=message):
        planned(OURS, *prompts, **options)


@pytest.mark.parametrize(
    ("options", "factor"),
    [({}, 1.0), ({"seconds": 4.0}, 4.0), ({"seconds": 0.5}, 1.0), ({"prompt": "walking: 2 | punching: 1"}, 3.0)],
)
def test_a_longer_motion_takes_as_many_more_steps(options, factor):
    own = Config().steps
    assert Config(**options).steps == pytest.approx(own * factor, abs=1)
    assert Config(**options, steps=70).steps == 70
