"""A small classifier of motions, trained on the spot from windows of motion capture: a few seconds on one core.

Two versions: with the pose, and with the mean pose removed (motion only). Both have a class "static", learned from
windows whose motion is shrunk to nearly nothing, so that a frozen pose is called frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

STATIC = "static"
HIDDEN = 128
STEPS, BATCH, LEARNING_RATE = 400, 128, 2e-3
NOISE = 0.1  # of the standardised features, in training
DROPOUT = 0.5
SHRUNK = 0.2  # a motion shrunk by at least this factor about its mean pose is static
MEMBERS = 3  # networks whose probabilities are averaged


@dataclass(frozen=True)
class Classifier:
    """Weights of an ensemble; `probabilities` applies it.

    Attributes:
        classes: names of the classes; the last is "static".
        motion_only: whether the mean pose is removed.
        mean, std: of the features.
        weights: {"w1" (E, D, H), "b1" (E, H), "w2" (E, H, C), "b2" (E, C)}.
    """

    classes: tuple[str, ...]
    motion_only: bool
    mean: Float[np.ndarray, "D"]
    std: Float[np.ndarray, "D"]
    weights: dict[str, Array]


def features(joints: Float[np.ndarray, "N F 21 3"], fps: float, motion_only: bool) -> Float[np.ndarray, "N D"]:
    """What the classifier sees of windows: mostly quantities that do not depend on the phase.

    Of every coordinate the temporal spectrum's magnitude and standard deviation, of every joint its mean speed, and the
    covariance between coordinates (signed square root, to be in metres); with the pose, also its mean, the positions
    and the velocities.
    """
    count, frames = joints.shape[:2]
    moving = joints - joints.mean(axis=1, keepdims=True)
    velocity = np.diff(joints, axis=1) * fps
    flat = moving.reshape(count, frames, -1)
    covariance = np.einsum("nfa,nfb->nab", flat, flat) / frames
    upper = np.triu_indices(flat.shape[-1])
    covariance = covariance[:, upper[0], upper[1]]
    parts = [
        np.abs(np.fft.rfft(moving, axis=1))[:, 1:5] / 3,
        np.linalg.norm(velocity, axis=-1).mean(axis=1),
        3 * moving.std(axis=1),
        np.sign(covariance) * np.sqrt(np.abs(covariance)),
    ]
    if not motion_only:
        parts += [joints.mean(axis=1), joints, velocity * 0.3]
    return np.concatenate([part.reshape(count, -1) for part in parts], axis=1).astype(np.float32)


def train_classifier(
    joints: Float[np.ndarray, "N F 21 3"],
    labels: Int[np.ndarray, "N"],
    actions: tuple[str, ...],
    fps: float,
    *,
    motion_only: bool,
    seed: int = 0,
) -> Classifier:
    """Train on windows of the actions, balanced as they come, and on as many static ones as an action has.

    Args:
        joints: positions of the body joints about the pelvis, metres.
        labels: index into `actions` of each window.
        actions: names of the classes but "static".
        fps: frames a second of the windows.
        motion_only: remove the mean pose.
        seed: of the initial weights and the training.
    """
    rng = np.random.default_rng(seed)
    still = joints[rng.choice(len(joints), size=max(len(joints) // len(actions), 1))]
    centre = still.mean(axis=1, keepdims=True)
    still = centre + (still - centre) * rng.uniform(0, SHRUNK, size=(len(still), 1, 1, 1))
    inputs = features(np.concatenate([joints, still]), fps, motion_only)
    targets = np.concatenate([labels, np.full(len(still), len(actions))])
    mean, std = inputs.mean(axis=0), inputs.std(axis=0)
    std = np.maximum(std, 0.1 * std.mean())
    keys = jax.random.split(jax.random.key(seed), MEMBERS)
    weights = _train(keys, jnp.asarray((inputs - mean) / std), jnp.asarray(targets), len(actions) + 1)
    return Classifier((*actions, STATIC), motion_only, mean, std, weights)


def probabilities(
    classifier: Classifier, joints: Float[np.ndarray, "N F 21 3"], fps: float
) -> Float[np.ndarray, "N C"]:
    """Probability of each class for each window."""
    inputs = (features(joints, fps, classifier.motion_only) - classifier.mean) / classifier.std
    logits = jax.vmap(_logits, in_axes=(0, None))(classifier.weights, jnp.asarray(inputs))
    return np.asarray(jax.nn.softmax(logits).mean(axis=0))


def _logits(weights: dict[str, Array], inputs: Array, keep: Array | float = 1.0) -> Array:
    hidden = jax.nn.relu(inputs @ weights["w1"] + weights["b1"]) * keep
    return hidden @ weights["w2"] + weights["b2"]


@partial(jax.jit, static_argnames="classes")
def _train(keys: Array, inputs: Float[Array, "N D"], targets: Int[Array, "N"], classes: int) -> dict[str, Array]:
    """AdamW with a cosine schedule, dropout and noisy features; one network a key."""
    optimizer = optax.adamw(optax.cosine_decay_schedule(LEARNING_RATE, STEPS), weight_decay=1e-2)
    size = inputs.shape[1]

    def step(carry: tuple[dict, optax.OptState], key: Array) -> tuple[tuple[dict, optax.OptState], None]:
        weights, state = carry
        k_rows, k_noise, k_drop = jax.random.split(key, 3)
        rows = jax.random.randint(k_rows, (BATCH,), 0, len(inputs))
        seen = inputs[rows] + NOISE * jax.random.normal(k_noise, (BATCH, size))
        keep = jax.random.bernoulli(k_drop, 1 - DROPOUT, (BATCH, HIDDEN)) / (1 - DROPOUT)

        def loss(weights: dict) -> Array:
            logits = _logits(weights, seen, keep)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets[rows]).mean()

        updates, state = optimizer.update(jax.grad(loss)(weights), state, weights)
        return (optax.apply_updates(weights, updates), state), None

    def one(key: Array) -> dict[str, Array]:
        k_first, k_second, k_steps = jax.random.split(key, 3)
        weights = {
            "w1": jax.random.normal(k_first, (size, HIDDEN)) / size**0.5,
            "b1": jnp.zeros(HIDDEN),
            "w2": 0.01 * jax.random.normal(k_second, (HIDDEN, classes)),
            "b2": jnp.zeros(classes),
        }
        (weights, _), _ = jax.lax.scan(step, (weights, optimizer.init(weights)), jax.random.split(k_steps, STEPS))
        return weights

    return jax.lax.map(one, keys)
