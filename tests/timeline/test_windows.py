"""Windows of long motions: where they lie, what they show, and the step that is taken through them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from md_jax.body import lbs
from md_jax.body.model import load_body
from md_jax.config import Config
from md_jax.draws.draw import draw
from md_jax.errors import UserError
from md_jax.fit import posefield, train
from md_jax.fit.problems import PoseProblem, make_fields
from md_jax.mocap.statistics import load_statistics
from md_jax.timeline import features
from md_jax.timeline.windows import Stretch, make_windows

ONE = [[Stretch(0, 0.0, 40.0)]]


def seen(windows):
    """How often each frame is in a window."""
    count = np.zeros(windows.frames, int)
    for start in windows.starts:
        frames = start + np.arange(windows.length)
        np.add.at(count, frames % windows.frames if windows.loop else frames, 1)
    return count


def test_one_clip_needs_no_windows():
    assert make_windows([[Stretch(0, 0.0, 10.0)]], length=10, frames=10, loop=False) is None


def test_windows_lie_anywhere():
    windows = make_windows(ONE, length=10, frames=40, loop=False)
    assert set(windows.starts) == set(range(31))
    count = seen(windows)
    assert count.min() >= count[10:30].max() / 2  # the ends are seen, too
    loop = make_windows(ONE, length=10, frames=40, loop=True)
    assert set(loop.starts) == set(range(40)) and set(seen(loop)) == {10}


@pytest.mark.parametrize("loop", [False, True])
def test_windows_begin_at_whole_latents(loop):
    frames = 40 if loop else 41
    windows = make_windows([[Stretch(0, 0.0, frames)]], length=9, frames=frames, loop=loop, frame_stride=4)
    assert set(windows.starts) == set(range(0, 40 if loop else 33, 4))


def test_a_window_shows_the_sentence_of_its_middle():
    parts = [[Stretch(3, 0.0, 20.0), Stretch(4, 20.0, 41.0)]]
    windows = make_windows(parts, length=10, frames=41, loop=False)
    for start, sentence in zip(windows.starts, windows.sentences[0], strict=True):
        assert sentence == (3 if start + 5 < 20 else 4)


def test_a_part_too_short_to_be_seen_is_refused():
    parts = [[Stretch(0, 0.0, 38.0), Stretch(1, 38.0, 41.0)]]
    with pytest.raises(UserError, match="too short to be seen"):
        make_windows(parts, length=10, frames=41, loop=False)


# --- draws ------------------------------------------------------------------------------------------------------


def draws_of(windows, step, fixed=True, views=2):
    return draw(
        jax.random.key(5),
        jnp.int32(step),
        (jnp.float32(0.2), jnp.float32(0.6)),
        motions=1,
        views=views,
        latent_shape=(2, windows.length // windows.frame_stride if windows else 10, 3, 3),
        azimuth_ranges=[[(-np.pi, np.pi)]],
        elevation_range=(0.1, 0.3),
        noise="fixed" if fixed else "fresh",
        windows=windows,
    )


@pytest.mark.parametrize(("loop", "stride"), [(False, 1), (True, 1), (True, 4)])
def test_fixed_noise_stays_with_its_frame(loop, stride):
    windows = make_windows(ONE, length=12, frames=40, loop=loop, frame_stride=stride)
    of_frame: dict[tuple[int, int], np.ndarray] = {}
    met = 0
    for step in range(30):
        drawn = draws_of(windows, step)
        for view, start in enumerate(np.asarray(drawn.start)):
            for k in range(12 // stride):
                place = (start // stride + k) % (40 // stride) if loop else start // stride + k
                noise = np.asarray(drawn.noise[view, :, k])
                met += (view, place) in of_frame
                np.testing.assert_array_equal(of_frame.setdefault((view, place), noise), noise)
    assert met > 100
    stacked = np.stack(list(of_frame.values()))
    assert abs(stacked.mean()) < 0.1 and abs(stacked.std() - 1) < 0.1
    assert len(np.unique(stacked)) > 0.99 * stacked.size  # no two frames share any


def test_fresh_noise_and_cameras_are_those_of_a_run_without_windows():
    windows = make_windows(ONE, length=10, frames=40, loop=False)
    plain = draws_of(None, 3, fixed=False)
    for a, b in zip(draws_of(windows, 3, fixed=False)[:4], plain[:4], strict=True):
        np.testing.assert_array_equal(a, b)


# --- the field --------------------------------------------------------------------------------------------------


def key_of(count=1):
    return jax.random.split(jax.random.key(0), count)


def moving(fields_and_params, size=0.4):
    fields, params = fields_and_params
    kernel = size * jax.random.normal(jax.random.key(9), params["head"]["kernel"].shape)
    return fields, {**params, "head": {**params["head"], "kernel": kernel}}


def test_octaves_follow_the_length():
    assert features.octaves_for(3, 10, 10) == features.octaves(3)
    long = features.octaves_for(3, 10, 100)
    assert max(long) / 99 <= max(features.octaves(3)) / 9 < 2 * max(long) / 99  # as fine as a clip's, no finer
    assert len(features.octaves_for(3, 10, 7, loop=True)) >= 1


def test_a_loop_comes_round():
    frequencies = features.octaves_for(3, 10, 20, loop=True)
    made = posefield.init_fields([load_statistics("walking")], key_of(), frames=20, loop=True, frequencies=frequencies)
    fields, params = moving(made)
    tau = jnp.array([0.0, 3.25, 20.0, 23.25])
    values = np.asarray(posefield.apply_fields(fields, params, tau))[0]
    np.testing.assert_allclose(values[2:], values[:2], atol=2e-5)
    whole = np.asarray(posefield.apply_fields(fields, params))[0]
    steps = np.abs(np.diff(np.concatenate([whole, whole[:1]]), axis=0)).max(axis=(1, 2))
    assert steps[-1] < 1.5 * steps[:-1].max()  # the way back is an ordinary step


def test_each_motion_may_have_its_own_frames():
    fields, params = moving(
        posefield.init_fields([load_statistics(a) for a in ("walking", "running")], key_of(2), frames=30)
    )
    tau = jnp.array([[0.0, 7.0], [20.0, 3.5]])
    own = posefield.poses(fields, params, tau).body
    for m in range(2):
        np.testing.assert_array_equal(own[m], posefield.poses(fields, params, tau[m]).body[m])


@pytest.mark.parametrize("period", [0.0, 60.0])
def test_spans_pass_into_each_other(period):
    spans = jnp.array([[0.0, 20.0], [20.0, 45.0], [45.0, 60.0], [60.0, 60.0]])
    tau = jnp.linspace(0, 59.9, 300)
    weights = np.asarray(features.span_weights(tau, spans, 6.0, period))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    assert weights.min() >= 0 and not weights[:, 3].any()
    at = {frame: weights[np.argmin(np.abs(np.asarray(tau) - frame))] for frame in (0, 10, 20, 30, 52)}
    np.testing.assert_allclose(at[10], [1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(at[30], [0, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(at[20], [0.5, 0.5, 0, 0], atol=0.06)
    np.testing.assert_allclose(at[0], [0.5, 0, 0.5, 0] if period else [1, 0, 0, 0], atol=1e-6)


def test_a_part_starts_at_its_own_mean_and_a_single_part_as_without_parts():
    walking, punching = load_statistics("walking"), load_statistics("punching")
    spans = [posefield.Span(walking, 0.0, 20.0), posefield.Span(punching, 20.0, 40.0)]
    fields, params = posefield.init_fields([spans, running := load_statistics("running")], key_of(2), frames=40,
                                           blend=5.0)  # fmt: skip
    values = np.asarray(posefield.apply_fields(fields, params))
    np.testing.assert_allclose(values[0, :17], np.broadcast_to(walking.body_mean, (17, 21, 3)), atol=1e-6)
    np.testing.assert_allclose(values[0, 23:], np.broadcast_to(punching.body_mean, (17, 21, 3)), atol=1e-6)
    np.testing.assert_allclose(values[1], np.broadcast_to(running.body_mean, (40, 21, 3)), atol=1e-6)


# --- a step through windows -------------------------------------------------------------------------------------


EVERY = 97  # of so many vertices one is pulled: a float32 sum over all of them is too coarse to compare


class Spring:
    """A critic in JAX: pulls some of each view's vertices to a place of its own."""

    def __call__(self, x, draws):
        views = len(draws.azimuth) // len(x)
        clips = x.reshape(len(draws.azimuth), -1, *x.shape[2:])
        loss = 0.5 * jnp.square(clips[:, :, ::EVERY] - jnp.cos(draws.azimuth)[:, None, None, None]).sum(axis=(1, 2, 3))
        return loss.reshape(-1, views).mean(axis=1), {}

    def loss_and_grad(self, x, draws):
        (loss, _), pull = jax.vjp(lambda x: self(x, draws), x)
        return loss, pull((jnp.ones_like(loss), {}))[0], {}


@pytest.mark.parametrize(
    ("loop", "transport"),
    [
        (False, "staged"),
        (True, "jit"),
        pytest.param(True, "staged", marks=pytest.mark.slow),
        pytest.param(False, "jit", marks=pytest.mark.slow),
    ],
)
def test_a_step_has_the_gradient_of_the_windows_frames(loop, transport):
    """Beside autodiff of a plain sum over the frames of the whole motion that the windows show."""
    frames, length = (24 if loop else 25), 10
    config = Config(steps=5, views=2, loop=loop, reg_weight=0.3, transport=transport, optimizer="sgd",
                    schedule="constant", learning_rate=1e-3, grad_clip=0.0, distillation_weight=0.7,
                    mode="pose", root="fixed", noise="fresh")  # fmt: skip
    fields, params = moving(make_fields(config, [load_statistics("walking")], frames, length), 0.1)
    baked = lbs.bake(load_body())
    windows = make_windows([[Stretch(0, 0.0, float(frames))]], length=length, frames=frames, loop=loop)
    problem = PoseProblem(fields, baked, jax.random.key(2), (3, length, 4, 4), [[(-np.pi, np.pi)]], (0.1, 0.2),
                          windows=windows)  # fmt: skip
    state = train.init_state(config, params)
    after, report = train.make_step(config, problem, Spring())(state)

    drawn = train.draws_at(config, problem, 1, jnp.int32(0), problem.key)
    index = np.asarray(drawn.start)[:, None] + np.arange(length)
    index = index % frames if loop else index

    def plain(p):
        whole = problem.vertices(p)[0]
        values = posefield.apply_fields(fields, p)[0]
        steps = np.roll(np.arange(frames), -1) if loop else np.arange(1, frames)
        jumps = values[steps] - values[: len(steps)]
        reg = jnp.square(jumps).sum() * (length - 1) / len(steps)
        pull = sum(jnp.square(whole[index[v]][:, ::EVERY] - jnp.cos(drawn.azimuth[v])).sum() for v in range(2)) / 4
        return 0.7 * pull + 0.3 * reg

    loss, grads = jax.value_and_grad(plain)(params)
    np.testing.assert_allclose(report.terms["loss"][0], loss, rtol=1e-4)
    moved = jax.tree.map(lambda a, b: (b - a) / config.learning_rate, after.params, params)
    for one, other in zip(jax.tree.leaves(moved), jax.tree.leaves(grads), strict=True):
        scale = np.abs(np.asarray(other)).max()
        np.testing.assert_allclose(one, other, atol=2e-2 * scale + 1e-4)
    assert report.shown.shape[1] == 2 * length
