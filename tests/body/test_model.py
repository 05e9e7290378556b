"""What load_body accepts, and the one line it says about what it does not."""

import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import synthetic
from md_jax.body.model import PARENTS, BodyFileError, load_body
from md_jax.errors import UserError


@pytest.fixture(scope="module")
def arrays():
    """A 150-vertex model in the old layout (10 + 10 shape columns)."""
    colors = np.random.default_rng(0).integers(0, 256, (150, 3), np.uint8)
    return synthetic.smplx_arrays(150, columns=20) | {"vertex_colors": colors}


@pytest.fixture
def write(tmp_path, arrays):
    """Write the model with changes; an array given as None is left out."""

    def write(name="body.npz", **changes):
        changed = {key: array for key, array in (arrays | changes).items() if array is not None}
        return synthetic.write(tmp_path / name, changed)

    return write


def test_free_body():
    body = load_body("free")
    v, t = len(body.v_template), len(body.triangles)
    assert v > 10_000 and t > 20_000 and body.posedirs is None and body.parents == PARENTS
    assert body.shapedirs.shape == (v, 3, 300) and body.exprdirs.shape == (v, 3, 100)
    assert body.vertex_colors.shape == (v, 3) and 0 <= body.vertex_colors.min() <= body.vertex_colors.max() <= 1
    assert body.vertex_colors.std() > 0.1  # painted
    height = np.ptp(np.asarray(body.v_template)[:, 1])
    assert 1.4 < height < 2.1
    joints = np.asarray(body.J_regressor @ body.v_template)
    assert joints[15, 1] > joints[0, 1] > joints[7, 1]  # head, pelvis, ankle: y up
    assert joints[20, 0] > 0 > joints[21, 0]  # the left wrist is at +x: the body faces +z
    assert joints[10, 2] > joints[7, 2]  # toes in front of the ankle


def test_body_is_a_pytree_of_float32(write):
    body = load_body(write())
    assert {x.dtype.name for x in jax.tree.leaves(body)} == {"float32", "int32"}
    assert jax.jit(lambda b: b.v_template.sum() + len(b.parents))(body) is not None


def test_columns_split_into_shape_and_expression(write, arrays):
    old = load_body(write())
    assert old.shapedirs.shape == old.exprdirs.shape == (150, 3, 10)
    assert np.array_equal(old.exprdirs, arrays["shapedirs"][:, :, 10:])
    new = load_body(write(shapedirs=np.ones((150, 3, 400)) * np.arange(400)))
    assert new.shapedirs.shape == (150, 3, 300) and new.exprdirs.shape == (150, 3, 100)
    assert new.exprdirs[0, 0, 0] == 300


def test_posedirs_are_ordered_as_in_the_smpl_papers(write, arrays):
    body = load_body(write())
    assert np.array_equal(body.posedirs.reshape(486, 150, 3)[7, 11], arrays["posedirs"][11, :, 7])
    assert load_body(write(posedirs=np.zeros((150, 3, 486)))).posedirs is None


def test_colors(write, arrays):
    assert np.allclose(load_body(write()).vertex_colors * 255, arrays["vertex_colors"])
    painted = load_body(synthetic.write(write().parent / "large.npz", synthetic.smplx_arrays(3000, columns=20)))
    assert painted.vertex_colors.shape == (3000, 3) and painted.vertex_colors.std() > 0.1


def test_locked_head_file_without_hand_pca_or_landmarks(write):
    missing = dict.fromkeys(f"hands_{kind}{side}" for kind in ("components", "mean") for side in "lr")
    body = load_body(write(**missing, lmk_faces_idx=None, lmk_bary_coords=None))
    assert body.hands_components_left is None and body.hands_mean_right is None and body.landmark_triangles is None


def test_folder_and_gender(write, tmp_path):
    female = write("SMPLX_FEMALE.npz", v_template=np.ones((150, 3)))
    write("SMPLX_NEUTRAL.npz")
    assert (load_body(tmp_path, "female").v_template == 1).all()
    assert not (load_body(tmp_path).v_template == 1).all()
    with pytest.raises(BodyFileError, match=r"no SMPLX_MALE\.npz in the folder .*smpl-x\.is\.tue\.mpg\.de.*--body"):
        load_body(str(tmp_path), "male")
    (tmp_path / "models" / "smplx").mkdir(parents=True)
    female.rename(tmp_path / "models" / "smplx" / "SMPLX_FEMALE.npz")
    assert (load_body(tmp_path / "models", "female").v_template == 1).all()
    with pytest.raises(BodyFileError, match="unknown gender 'other'"):
        load_body(tmp_path, "other")


# --- what cannot be loaded -------------------------------------------------------------------------------


def test_missing_file_says_where_to_get_one():
    with pytest.raises(
        UserError, match=r"no body file at no/such\.npz.*smpl-x\.is\.tue\.mpg\.de.*--body=free"
    ) as error:
        load_body("no/such.npz")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [(b"", "not a readable"), (b"hello", "not a readable"), (b"PK\x03\x04 cut short", "not a readable")],
)
def test_not_an_archive(tmp_path, content, message):
    (tmp_path / "body.npz").write_bytes(content)
    with pytest.raises(BodyFileError, match=message):
        load_body(tmp_path / "body.npz")


def test_single_array_and_truncated_archive(write, tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(BodyFileError, match="found a single array"):
        load_body(tmp_path / "array.npy")
    path = write()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BodyFileError, match="not a readable"):
        load_body(path)


class Malicious:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_never_unpickles(write, tmp_path):
    """An object member that is not needed is not touched; one that is needed is refused."""
    mark = tmp_path / "mark"
    bomb = np.array(Malicious(mark), dtype=object)
    load_body(write(joint2num=bomb))
    with pytest.raises(BodyFileError, match=r"'weights' is not a plain array .*never unpickled"):
        load_body(write(weights=bomb))
    with pytest.raises(BodyFileError, match="'hands_meanl' is not a plain array"):
        load_body(write(hands_meanl=bomb))
    (tmp_path / "SMPLX_NEUTRAL.pkl").write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(BodyFileError, match="is a pickle"):
        load_body(tmp_path / "SMPLX_NEUTRAL.pkl")
    assert not mark.exists()
    Path.touch(mark)
    assert mark.exists()  # the mark would have shown


SHAPES = {
    "v_template": (149, 3), "shapedirs": (150, 3), "posedirs": (150, 3, 207), "J_regressor": (24, 150),
    "weights": (150, 24), "kintree_table": (2, 24), "f": (258, 4), "hands_componentsl": (12, 45),
    "hands_meanr": (44,), "lmk_bary_coords": (51, 2), "vertex_colors": (150, 4),
}  # fmt: skip


@pytest.mark.parametrize("key", SHAPES)
def test_every_shape_is_checked(write, key):
    """Among them an SMPL file: 24 joints, 207 pose columns."""
    with pytest.raises(BodyFileError, match=r"'\w+' should be numbers of shape .* found \w+ of shape") as error:
        load_body(write(**{key: np.zeros(SHAPES[key], np.float32)}))
    assert "body.npz" in str(error.value)


@pytest.mark.parametrize("key", ["v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f"])
def test_missing_arrays_are_named(write, key):
    with pytest.raises(BodyFileError, match=f"expected an array '{key}'"):
        load_body(write(**{key: None}))


def test_values_that_no_model_has(write, arrays):
    def changed(key, index, value):
        array = np.array(arrays[key])
        array[index] = value
        return {key: array}

    for changes, message in [
        (changed("v_template", (3, 1), np.nan), "'v_template' holds values that are not finite"),
        (changed("weights", 5, 0), "'weights' of a vertex should sum to 1"),
        (changed("f", (0, 0), 150), "'f' should be integers from 0 to 149"),
        ({"f": arrays["f"] + 0.5}, "'f' should be integers"),
        (changed("lmk_faces_idx", 0, 9999), "'lmk_faces_idx' should be integers"),
        (changed("kintree_table", (0, 5), 3), "not the SMPL-X skeleton"),
        ({"shapedirs": np.zeros((150, 3, 50))}, "400 columns .* or 20 .* found 50"),
        ({"v_template": np.array([["a"] * 3] * 150)}, "'v_template' should be numbers"),
    ]:
        with pytest.raises(BodyFileError, match=message):
            load_body(write(**changes))
