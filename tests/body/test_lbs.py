"""The smplx package in float64 is the oracle; our gradients also face finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import smplx
import torch
from jax.test_util import check_grads

from benchmarks import synthetic
from md_jax.body import lbs
from md_jax.body import model as body_module
from md_jax.body.model import load_body
from md_jax.body.rotations import axis_angle_to_matrix
from md_jax.errors import UserError

FRAMES = 4
SIZES = {
    "betas": 10, "expression": 10, "global_orient": 3, "body_pose": 63, "jaw_pose": 3, "leye_pose": 3,
    "reye_pose": 3, "left_hand_pose": 45, "right_hand_pose": 45, "transl": 3,
}  # fmt: skip
SIDES = ("left", "right")
FIXED = ("jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose")


def random_parameters(batch, seed=0):
    """Large on purpose: whole turns of the root, half turns of joints."""
    rng = np.random.default_rng(seed)
    scales = dict.fromkeys(SIZES, 0.5) | {
        "betas": 2.0,
        "expression": 2.0,
        "global_orient": 3.0,
        "transl": 1.0,
    }
    return {key: rng.normal(size=(*batch, n)).astype(np.float32) * scales[key] for key, n in SIZES.items()}


@pytest.fixture(scope="module", params=["free", "dense"])
def path(request, tmp_path_factory):
    """The shipped body, and a file of the official size with dense pose correctives."""
    if request.param == "free":
        return body_module.FREE_BODY
    return synthetic.write(tmp_path_factory.mktemp("body") / "SMPLX_NEUTRAL.npz", synthetic.smplx_arrays(stray=True))


@pytest.fixture(scope="module")
def body(path):
    return load_body(path)


def oracle(path, **options):
    settings = {"num_betas": 10, "num_expression_coeffs": 10, "use_pca": False, "flat_hand_mean": True}
    return smplx.SMPLX(str(path), batch_size=FRAMES, dtype=torch.float64, **(settings | options))


def relative_error(ours, theirs):
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("relaxed_hands", [False, True])
def test_values_and_gradients_equal_smplx(path, body, relaxed_hands):
    """Every parameter at once, at random; hands full and flat, or from PCA coefficients about their mean."""
    parameters = random_parameters((FRAMES,))
    hands = {"use_pca": True, "num_pca_comps": 12, "flat_hand_mean": False} if relaxed_hands else {}
    if relaxed_hands:
        parameters |= {key: parameters[key][:, :12] for key in ("left_hand_pose", "right_hand_pose")}
    rng = np.random.default_rng(1)
    to_vertices = rng.normal(size=(FRAMES, *body.v_template.shape))
    to_joints = rng.normal(size=(FRAMES, 55, 3)) * 100  # 55 joints should count beside thousands of vertices

    tensors = {key: torch.tensor(x, dtype=torch.float64, requires_grad=True) for key, x in parameters.items()}
    out = oracle(path, **hands)(**tensors)
    theirs = (out.vertices, out.joints[:, :55])
    loss = sum((x * torch.tensor(w)).sum() for x, w in zip(theirs, (to_vertices, to_joints), strict=True))
    their_gradients = dict(zip(tensors, torch.autograd.grad(loss, tensors.values()), strict=True))

    def ours(parameters):
        if relaxed_hands:
            full = {f"{s}_hand_pose": lbs.expand_hand_pca(body, parameters[f"{s}_hand_pose"], s) for s in SIDES}
            parameters = parameters | full
        return lbs.forward(body, **parameters)

    def scalar(parameters):
        vertices, joints = ours(parameters)
        return jnp.sum(vertices * to_vertices) + jnp.sum(joints * to_joints), (vertices, joints)

    gradients, values = jax.jit(jax.grad(scalar, has_aux=True))(parameters)
    for value, expected in zip(values, theirs, strict=True):
        assert np.abs(np.asarray(value) - expected.detach().numpy()).max() < 1e-5
    errors = {key: relative_error(gradients[key], their_gradients[key]) for key in parameters}
    assert max(errors.values()) < 1e-4, errors


def test_shape_counts(path, body):
    """16 or all 300 coefficients, as motion files have them; none means the template."""
    model = oracle(path, num_betas=300, num_expression_coeffs=100)
    for n in (16, 300):
        betas = np.random.default_rng(n).normal(size=(1, n)).astype(np.float32)
        padded = torch.zeros(FRAMES, 300, dtype=torch.float64)
        padded[:, :n] = torch.tensor(betas)
        vertices, _ = lbs.forward(body, betas=betas)
        assert np.abs(np.asarray(vertices[0]) - model(betas=padded).vertices[0].detach().numpy()).max() < 1e-5
    assert np.abs(lbs.pose(lbs.bake(body), np.zeros((21, 3))) - body.v_template).max() < 1e-6


def test_landmarks_equal_smplx(path, body):
    parameters = random_parameters((FRAMES,))
    joints = oracle(path)(**{k: torch.tensor(v, dtype=torch.float64) for k, v in parameters.items()}).joints
    ours = lbs.landmarks(body, lbs.forward(body, **parameters)[0])
    assert np.abs(np.asarray(ours) - joints[:, -51:].detach().numpy()).max() < 1e-5


# --- the fast path --------------------------------------------------------------------------------------


@pytest.mark.parametrize("posed_hands", [False, True])
def test_pose_equals_forward(body, posed_hands):
    """Values, joints and gradients, with everything fixed folded in, in both forms of rotations."""
    parameters = random_parameters((FRAMES,), seed=2)
    fixed = {key: parameters.pop(key)[0] for key in ("betas", "expression", *FIXED)}
    if not posed_hands:
        fixed = {key: x for key, x in fixed.items() if key not in FIXED}
    moving = {key: parameters[key] for key in ("body_pose", "global_orient", "transl")}
    moving["body_pose"] = moving["body_pose"].reshape(FRAMES, 21, 3)
    weight = np.random.default_rng(3).normal(size=(FRAMES, *body.v_template.shape)).astype(np.float32)

    def full(moving):
        vertices, joints = lbs.forward(body, **fixed, **moving)
        return jnp.sum(vertices * weight), (vertices, joints)

    def fast(moving):
        vertices = lbs.pose(baked, **moving)
        return jnp.sum(vertices * weight), (vertices, lbs.joints_of(baked, **moving))

    baked = lbs.bake(body, **fixed)
    expected_gradient, expected = jax.jit(jax.grad(full, has_aux=True))(moving)
    gradient, values = jax.jit(jax.grad(fast, has_aux=True))(moving)
    for ours, theirs in zip(values, expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5
    for key in moving:
        assert relative_error(gradient[key], expected_gradient[key]) < 1e-4, key
    matrices = {key: axis_angle_to_matrix(moving[key]) for key in ("body_pose", "global_orient")}
    assert np.abs(lbs.pose(baked, **(moving | matrices)) - values[0]).max() < 1e-5
    assert np.abs(lbs.joints_of(baked, **(moving | matrices)) - values[1]).max() < 1e-5


# --- small bodies: derivatives, batch axes, errors ------------------------------------------------------


@pytest.fixture(scope="module", params=["skinning alone", "correctives"])
def small(request, tmp_path_factory):
    """A 150-vertex body; the code paths are those of a large one."""
    arrays = synthetic.smplx_arrays(150, columns=20, dense=request.param == "correctives", stray=True)
    arrays["vertex_colors"] = np.zeros((150, 3), np.uint8)
    return load_body(synthetic.write(tmp_path_factory.mktemp("small") / "body.npz", arrays))


def test_zeros_for_hands_equal_no_hands(small):
    pose = random_parameters((FRAMES,))["body_pose"].reshape(FRAMES, 21, 3)
    zeros = {key: np.zeros(SIZES[key]) for key in FIXED}
    assert np.abs(lbs.pose(lbs.bake(small), pose) - lbs.pose(lbs.bake(small, **zeros), pose)).max() < 2e-6


def as_float64(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if x.dtype == np.float32 else x, tree)


@pytest.mark.parametrize("at", ["zero", "random"])
def test_finite_differences_in_float64(small, at):
    """Full model, baking and fast path; also at the zero pose, where formulas of rotations divide by the angle."""
    with jax.enable_x64(True):
        body = as_float64(small)
        scale = np.float64(at == "random")
        parameters = {key: scale * x.astype(np.float64) for key, x in random_parameters((2,)).items()}

        @jax.jit
        def everything(parameters):
            fixed = {key: parameters[key][0] for key in ("betas", "expression", *FIXED)}
            moving = {key: parameters[key] for key in ("global_orient", "transl")}
            moving["body_pose"] = parameters["body_pose"].reshape(2, 21, 3)
            baked = lbs.bake(body, **fixed)
            return lbs.forward(body, **parameters), lbs.pose(baked, **moving), lbs.joints_of(baked, **moving)

        assert {x.dtype.name for x in jax.tree.leaves(everything(parameters))} == {"float64"}
        check_grads(everything, (parameters,), order=1, modes=["rev"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_leading_axes_broadcast(small, seed):
    """Any mixture of leading axes equals the same bodies posed one by one."""
    rng = np.random.default_rng(seed)
    batch = rng.integers(1, 4, size=seed).tolist()
    parameters = {
        key: rng.normal(size=(*(n if rng.random() < 0.7 else 1 for n in batch), size)).astype(np.float32)
        for key, size in SIZES.items()
    }
    shape = np.broadcast_shapes(*(x.shape[:-1] for x in parameters.values()))
    vertices, joints = lbs.forward(small, **parameters)
    assert vertices.shape == (*shape, 150, 3) and joints.shape == (*shape, 55, 3)
    for index in np.ndindex(shape):
        one = {key: np.broadcast_to(x, (*shape, x.shape[-1]))[index] for key, x in parameters.items()}
        single, single_joints = lbs.forward(small, **one)
        assert np.abs(vertices[index] - single).max() < 2e-6
        assert np.abs(joints[index] - single_joints).max() < 2e-6


def test_pose_takes_any_batch_and_vmaps(small):
    baked = lbs.bake(small)
    pose = random_parameters((2, 3))["body_pose"].reshape(2, 3, 21, 3)
    orient = random_parameters((3,))["global_orient"]
    together = lbs.pose(baked, pose, orient)
    assert together.shape == (2, 3, 150, 3)
    assert np.abs(together[1, 2] - lbs.pose(baked, pose[1, 2], orient[2])).max() < 2e-6
    mapped = jax.vmap(lbs.pose, (None, 0, None))(baked, pose, orient)
    assert np.abs(together - mapped).max() < 2e-6

    def energy(pose):
        return jnp.sum(lbs.pose(baked, pose, orient) ** 2)

    assert relative_error(jax.jit(jax.vmap(jax.grad(energy)))(pose), jax.jit(jax.grad(energy))(pose)) < 1e-5


def test_global_orientation_turns_about_the_pelvis(small):
    pose = random_parameters((1,))["body_pose"]
    _, joints = lbs.forward(small, body_pose=pose)
    _, turned = lbs.forward(small, body_pose=pose, global_orient=[[0.0, np.pi, 0.0]])
    pelvis = joints[:, :1]
    assert np.abs((turned - pelvis) - (joints - pelvis) * np.array([-1, 1, -1])).max() < 1e-5


def test_hand_pca_without_coefficients_is_the_mean(small):
    mean = lbs.expand_hand_pca(small, np.zeros(0), "right")
    assert np.array_equal(mean, small.hands_mean_right)
    assert not lbs.expand_hand_pca(small, np.zeros((2, 6)), "left", mean=False).any()


def test_errors_say_what_was_expected(small):
    baked = lbs.bake(small)
    pose = np.zeros((5, 21, 3))
    with pytest.raises(UserError, match=r"betas: this body has 10 components, got .*\(16,\)"):
        lbs.bake(small, betas=np.zeros(16))
    with pytest.raises(UserError, match="expression: this body has 10 components"):
        lbs.forward(small, expression=np.zeros((2, 11)))
    with pytest.raises(ValueError, match=r"left_hand_pose: expected shape \(..., 45\) or \(..., 15, 3\)"):
        lbs.forward(small, left_hand_pose=np.zeros((2, 12)))
    with pytest.raises(ValueError, match=r"jaw_pose: expected shape \(..., 3\)"):
        lbs.bake(small, jaw_pose=np.zeros(4))
    with pytest.raises(ValueError, match="no batch axes"):
        lbs.bake(small, betas=np.zeros((2, 10)))
    with pytest.raises(ValueError, match="no batch axes"):
        lbs.bake(small, jaw_pose=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"body_pose: expected .* got \(5, 63\)"):
        lbs.pose(baked, pose.reshape(5, 63))
    with pytest.raises(ValueError, match=r"global_orient: expected \(5, 3\) axis-angle or \(5, 3, 3\)"):
        lbs.pose(baked, pose, np.zeros((5, 4)))
    with pytest.raises(ValueError, match="transl"):
        lbs.pose(baked, pose, transl=np.zeros((5, 2)))
    with pytest.raises(UserError, match="45 PCA components, got 46"):
        lbs.expand_hand_pca(small, np.zeros(46), "left")
    with pytest.raises(UserError, match="side"):
        lbs.expand_hand_pca(small, np.zeros(6), "both")
    bare = dataclasses.replace(small, hands_components_left=None, landmark_triangles=None)
    with pytest.raises(UserError, match="no hand PCA"):
        lbs.expand_hand_pca(bare, np.zeros(6), "left")
    with pytest.raises(UserError, match="no face landmarks"):
        lbs.landmarks(bare, np.zeros((150, 3)))
