"""Two small classifiers of windows of motion: which action it is, and whether it is real.

The first sees the motion alone (the mean pose is removed), learns from clips that no prior has seen, and ships trained.
It has a class "static", learned from windows whose motion is shrunk to nearly nothing, so that a frozen pose is called
frozen. The second is trained by cross-validation on the motions at hand: the better they are, the less it can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

STATIC = "static"
HIDDEN = 64
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
        mean, std: of the features.
        weights: {"w1" (E, D, H), "b1" (E, H), "w2" (E, H, C), "b2" (E, C)}.
    """

    classes: tuple[str, ...]
    mean: Float[np.ndarray, "D"]
    std: Float[np.ndarray, "D"]
    weights: dict[str, np.ndarray]


def features(joints: Float[np.ndarray, "N F 21 3"], fps: float) -> Float[np.ndarray, "N D"]:
    """What the classifier sees of windows: quantities that depend neither on the mean pose nor on the phase.

    Of every coordinate the temporal spectrum's magnitude and standard deviation, of every joint its mean speed, and the
    covariance between coordinates (signed square root, to be in metres).
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
    return np.concatenate([part.reshape(count, -1) for part in parts], axis=1).astype(np.float32)


def train_classifier(
    joints: Float[np.ndarray, "N F 21 3"],
    labels: Int[np.ndarray, "N"],
    actions: tuple[str, ...],
    fps: float,
    *,
    seed: int = 0,
) -> Classifier:
    """Train on windows of the actions, balanced as they come, and on as many static ones as an action has.

    Args:
        joints: positions of the body joints about the pelvis, metres.
        labels: index into `actions` of each window.
        actions: names of the classes but "static".
        fps: frames a second of the windows.
        seed: of the initial weights and the training.
    """
    rng = np.random.default_rng(seed)
    still = joints[rng.choice(len(joints), size=max(len(joints) // len(actions), 1))]
    centre = still.mean(axis=1, keepdims=True)
    still = centre + (still - centre) * rng.uniform(0, SHRUNK, size=(len(still), 1, 1, 1))
    inputs = features(np.concatenate([joints, still]), fps)
    targets = np.concatenate([labels, np.full(len(still), len(actions))])
    mean, std = inputs.mean(axis=0), inputs.std(axis=0)
    std = np.maximum(std, 0.1 * std.mean())
    keys = jax.random.split(jax.random.key(seed), MEMBERS)
    weights = _train(keys, jnp.asarray((inputs - mean) / std), jnp.asarray(targets), len(actions) + 1)
    return Classifier((*actions, STATIC), mean, std, {name: np.asarray(part) for name, part in weights.items()})


def probabilities(
    classifier: Classifier, joints: Float[np.ndarray, "N F 21 3"], fps: float, among: Sequence[str] = ()
) -> Float[np.ndarray, "N C"]:
    """Probability of each class for each window.

    Args:
        classifier: from `train_classifier`.
        joints, fps: the windows.
        among: the actions that come into question, all of which it must know; empty: all. "static" always does, and is
            the last column.
    """
    inputs = (features(joints, fps) - classifier.mean) / classifier.std
    weights = classifier.weights
    hidden = np.maximum(np.einsum("nd,edh->enh", inputs, weights["w1"]) + weights["b1"][:, None], 0)
    logits = np.einsum("enh,ehc->enc", hidden, weights["w2"]) + weights["b2"][:, None]
    if among:
        logits = logits[..., [classifier.classes.index(name) for name in (*among, STATIC)]]
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (shares / shares.sum(axis=-1, keepdims=True)).mean(axis=0)


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


# --- real or not ------------------------------------------------------------------------------------------------


RIDGE = 30.0  # weight of the squared norm: a few hundred features, some eighty windows
FOLDS, LEAST = 5, 8  # LEAST windows of either kind
RESAMPLES = 1000


@dataclass(frozen=True)
class RealOrNot:
    """How well a classifier tells motions from real windows that it has not seen: .5 is not at all, 1 is always.

    Attributes:
        auc: probability that a motion looks less real than a real window of its action.
        interval: its 95 % interval, by resampling actions, and windows within them.
        by_action: of each action.
        count: windows of either kind.
    """

    auc: float
    interval: tuple[float, float]
    by_action: dict[str, float]
    count: int


def typical(
    joints: Float[np.ndarray, "N F 21 3"], fps: float, of: Float[np.ndarray, "R F 21 3"]
) -> Float[np.ndarray, "N D"]:
    """How far windows are from the typical window of an action, feature by feature, in standard deviations (at most 5).

    Where each joint is on average, how far it moves along each axis, how fast, and how jerkily; signed, and its size.

    Args:
        joints, fps: the windows.
        of: real windows of the action, none of which is judged.
    """

    def raw(windows: np.ndarray) -> np.ndarray:
        velocity = np.linalg.norm(np.diff(windows, axis=1), axis=-1).mean(axis=1) * fps
        jerky = np.linalg.norm(np.diff(windows, n=3, axis=1), axis=-1).mean(axis=1) * fps**3
        parts = [windows.mean(axis=1), windows.std(axis=1), np.log(velocity + 0.01), np.log(jerky + 0.1)]
        return np.concatenate([part.reshape(len(windows), -1) for part in parts], axis=1)

    known = raw(of)
    away = (raw(joints) - known.mean(axis=0)) / (known.std(axis=0) + 0.02)
    away = np.clip(away, -5, 5)
    return np.concatenate([away, np.abs(away)], axis=1)


def real_or_not(
    made: Float[np.ndarray, "N D"],
    real: Float[np.ndarray, "N D"],
    action: Sequence[str],
    groups: tuple[Sequence[str], Sequence[str]],
    seed: int = 0,
) -> RealOrNot | None:
    """Cross-validate a logistic regression between motions and real windows of the same actions.

    Windows of one motion, or of one recording, are all in one of five folds. Every fold is judged by what was learned
    from the others, where each action counts the same, and its motions as much as its real windows; an action of which
    only the one kind is there is left out, for else its pose alone would say which kind. The regression has a part
    common to all actions and a part for each (Evgeniou and Pontil 2004).

    Args:
        made, real: features (`typical`) of motions and of as many real windows; row n of both shows action[n].
        action: of each row.
        groups: of each row of `made` its motion, of each row of `real` its recording.
        seed: of the resampling.

    Returns:
        None where there is too little to learn from or to judge.
    """
    names = np.array(action)
    if len(made) < LEAST:
        return None
    folds = [_folds(names, np.array([f"{a}/{g}" for a, g in zip(action, of, strict=True)])) for of in groups]
    scores = np.empty((2, len(made)))
    for fold in range(FOLDS):
        known = [part != fold for part in folds]
        both = sorted(set(names[known[0]]) & set(names[known[1]]))
        rows = [np.flatnonzero(part & np.isin(names, both)) for part in known]
        if any(len(part) < LEAST // 2 for part in rows):
            return None
        shown = np.concatenate([made[rows[0]], real[rows[1]]])
        shows = names[np.concatenate(rows)]
        target = np.repeat([1.0, 0.0], [len(part) for part in rows])
        count = np.array([np.sum((shows == a) & (target == t)) for a, t in zip(shows, target, strict=True)])
        alpha = _logistic(_kernel(shown, shows, shown, shows), target, len(target) / (2 * len(both)) / count)
        for kind, (values, part) in enumerate(zip((made, real), known, strict=True)):
            scores[kind, ~part] = _kernel(values[~part], names[~part], shown, shows) @ alpha
    wins = {}
    for name in dict.fromkeys(action):
        a, b = scores[:, names == name]
        wins[name] = np.sign(a[:, None] - b[None]) / 2 + 0.5
    by_action = {name: float(pairs.mean()) for name, pairs in wins.items()}
    rng, tables = np.random.default_rng(seed), list(wins.values())

    def resampled(pairs: np.ndarray) -> float:
        rows, columns = (rng.integers(size, size=size) for size in pairs.shape)
        return pairs[np.ix_(rows, columns)].mean()

    draws = [np.mean([resampled(tables[i]) for i in rng.integers(len(tables), size=len(tables))])
             for _ in range(RESAMPLES)]  # fmt: skip
    low, high = np.quantile(draws, [0.025, 0.975])
    return RealOrNot(float(np.mean(list(by_action.values()))), (float(low), float(high)), by_action, len(made))


def _folds(action: np.ndarray, group: np.ndarray) -> Int[np.ndarray, "N"]:
    """The fold of each row: an action's groups go to the folds in turn, the first of each to another one."""
    fold = np.zeros(len(group), int)
    for place, name in enumerate(dict.fromkeys(action)):
        for turn, member in enumerate(dict.fromkeys(group[action == name])):
            fold[group == member] = (place + turn) % FOLDS
    return fold


def _kernel(
    left: Float[np.ndarray, "N D"], shows_left: np.ndarray, right: Float[np.ndarray, "M D"], shows_right: np.ndarray
) -> Float[np.ndarray, "N M"]:
    """Products of rows: once for the common part of the regression, once more between rows of one action."""
    return (left @ right.T + 1) * (1.0 + (shows_left[:, None] == shows_right)) / RIDGE


def _logistic(
    kernel: Float[np.ndarray, "N N"], targets: Float[np.ndarray, "N"], weight: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """Weighted ridge logistic regression by Newton's method, in the rows' span: the coefficients of the rows."""
    alpha = np.zeros(len(kernel))
    for _ in range(50):
        share = 1 / (1 + np.exp(-kernel @ alpha))
        curvature = weight * np.maximum(share * (1 - share), 1e-6)
        wanted = kernel @ alpha + weight * (targets - share) / curvature
        step = np.linalg.solve(kernel + np.diag(1 / curvature), wanted) - alpha
        alpha = alpha + step
        if np.abs(step).max() < 1e-8:
            break
    return alpha
