"""Body files in the SMPL-X layout: the shipped free body or the official model, never unpickling anything."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from md_jax.body import appearance
from md_jax.errors import UserError
from md_jax.files import is_file, is_folder, shown
from md_jax.outside.npz import described, read_npz

# fmt: off
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15,
           20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38,
           21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53)
# fmt: on
# Names of the joints, in the order of the model's files.
_FINGERS = ("index", "middle", "pinky", "ring", "thumb")

# The pelvis and the 21 joints that a motion moves.
BODY_JOINTS: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
    "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip

JOINT_NAMES: tuple[str, ...] = (
    *BODY_JOINTS,
    "jaw",
    "left_eye",
    "right_eye",
    *(f"{side}_{finger}{k}" for side in ("left", "right") for finger in _FINGERS for k in (1, 2, 3)),
)

GENDERS = ("neutral", "male", "female")
LARGEST = 10.0  # metres from the origin to any vertex
# fmt: off
READ = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f", "vertex_colors",
        "hands_componentsl", "hands_componentsr", "hands_meanl", "hands_meanr", "lmk_faces_idx", "lmk_bary_coords")
# fmt: on
FREE_BODY = Path(__file__).parents[1] / "assets" / "body.npz"
_WHERE = (
    "Register (free for non-commercial use) at https://smpl-x.is.tue.mpg.de, download 'SMPL-X v1.1 (NPZ)' and"
    " pass --body=PATH (an .npz file, or the folder of SMPLX_NEUTRAL.npz, SMPLX_MALE.npz, SMPLX_FEMALE.npz);"
    " --body=free uses the shipped body, which needs no download."
)


class BodyFileError(UserError):
    """A body file that is missing or does not hold an SMPL-X model."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Body:
    """A body model in the SMPL-X layout, T-pose at rest: y up, facing +z, metres. A JAX pytree."""

    v_template: Float[Array, "V 3"]
    shapedirs: Float[Array, "V 3 S"]  # metres a unit of beta
    exprdirs: Float[Array, "V 3 E"]
    posedirs: Float[Array, "486 V*3"] | None  # pose correctives; None where the file's are all zero
    J_regressor: Float[Array, "55 V"]
    weights: Float[Array, "V 55"]
    triangles: Int[np.ndarray, "T 3"]
    vertex_colors: Float[np.ndarray, "V 3"]  # in [0, 1]
    hands_components_left: Float[Array, "45 45"] | None  # None in files with neither (locked-head files)
    hands_components_right: Float[Array, "45 45"] | None
    hands_mean_left: Float[Array, "45"] | None
    hands_mean_right: Float[Array, "45"] | None
    landmark_triangles: Int[np.ndarray, "L"] | None  # triangle of each of the 51 fixed face landmarks
    landmark_barycentric: Float[Array, "L 3"] | None
    parents: tuple[int, ...] = dataclasses.field(default=PARENTS, metadata={"static": True})


def load_body(source: str | Path = "free", gender: str = "neutral") -> Body:
    """Load a body model and check the shape of every array in it.

    Only plain arrays are read, so a file from an untrusted place cannot run code.

    Args:
        source: "free" (shipped, CC0), an SMPL-X .npz file, or a folder with SMPLX_{NEUTRAL,MALE,FEMALE}.npz.
        gender: which file of a folder; a single file is taken as it is.

    Returns:
        The body, float32, on the default device.

    Raises:
        BodyFileError: the file is missing, unreadable, or not an SMPL-X model.
    """
    path = find_body(source, gender)
    return _shipped(path) if source == "free" else _load(path)


@functools.lru_cache(maxsize=1)
def _shipped(path: Path) -> Body:
    """The body that ships, unpacked once a process: a run, its ground and its measures ask for it."""
    # Its correctives are 79 MB of zeros (a test looks): to unpack them is half the time.
    return _load(path, [name for name in READ if name != "posedirs"])


def _load(path: Path, names: Sequence[str] = READ) -> Body:
    try:
        return _read(_Reader(path, read_npz(path, names)), correctives="posedirs" in names)
    except BodyFileError:
        raise
    except UserError as error:
        raise BodyFileError(f"{str(error).rstrip('.')}; this is not a readable SMPL-X .npz file. {_WHERE}") from error


def find_body(source: str | Path, gender: str = "neutral") -> Path:
    """The file that `source` and `gender` name, as in `load_body`.

    Raises:
        BodyFileError: there is none.
    """
    if gender not in GENDERS:
        raise BodyFileError(f"unknown gender {gender!r}; expected one of {', '.join(GENDERS)}.")
    if source == "free":
        return FREE_BODY
    path = Path(os.path.expanduser(source))
    if is_folder(path):
        name = f"SMPLX_{gender.upper()}.npz"
        # The official archive unpacks to models/smplx/, and people point at either level.
        candidates = [path / name, path / "smplx" / name]
        found = [candidate for candidate in candidates if is_file(candidate)]
        if not found:
            raise BodyFileError(f"no {name} in the folder {path}. {_WHERE}")
        return found[0]
    if not is_file(path):
        raise BodyFileError(f"no body file at {shown(str(path))}. {_WHERE}")
    if path.suffix == ".pkl":
        raise BodyFileError(f"{path} is a pickle, which could run code when read; use the .npz of the same model.")
    return path


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads single arrays of an archive, with errors that name the file and the array."""

    path: Path
    archive: dict[str, np.ndarray]

    def raw(self, key: str) -> np.ndarray:
        if key not in self.archive:
            raise BodyFileError(
                f"{self.path}: expected an array '{key}' as in SMPL-X files, found only"
                f" {described(self.path)}. {_WHERE}"
            )
        return self.archive[key]

    def array(self, key: str, *shape: int | None) -> np.ndarray:
        """A finite number array of `shape`, where None stands for any length."""
        array = self.raw(key)
        wanted = f"({', '.join('any' if n is None else str(n) for n in shape)})"
        fits = array.ndim == len(shape) and all(n is None or n == m for n, m in zip(shape, array.shape, strict=True))
        if not fits or array.dtype.kind not in "fiu":
            raise BodyFileError(
                f"{self.path}: '{key}' should be numbers of shape {wanted}, found {array.dtype} of shape"
                f" {array.shape}; this is not an SMPL-X file. {_WHERE}"
            )
        if array.dtype.kind != "f":
            return array
        array = np.asarray(array, np.float32)
        if not np.isfinite(array).all():
            raise BodyFileError(f"{self.path}: '{key}' holds values that are not finite; the file is damaged.")
        return array

    def optional(self, key: str, *shape: int | None) -> np.ndarray | None:
        return self.array(key, *shape) if key in self.archive else None

    def indices(self, key: str, below: int, *shape: int | None) -> np.ndarray:
        array = self.array(key, *shape)
        if array.dtype.kind == "f" or (array.size and not 0 <= array.min() <= array.max() < below):
            raise BodyFileError(f"{self.path}: '{key}' should be integers from 0 to {below - 1}.")
        return array.astype(np.int32)


def _read(file: _Reader, correctives: bool) -> Body:
    """All arrays of a body, checked."""
    v_template = file.array("v_template", None, 3)
    v = v_template.shape[0]
    if not v or np.abs(v_template).max() > LARGEST:
        found = f"{v} vertices up to {np.abs(v_template).max(initial=0):g}"
        raise BodyFileError(f"{file.path}: 'v_template' should be the vertices of a body in metres, at most {LARGEST:g}"
                            f" from its origin; found {found}.")  # fmt: skip
    shapedirs, exprdirs = _split_shapedirs(file, v)
    posedirs = file.array("posedirs", v, 3, 486) if correctives else None
    J_regressor = file.array("J_regressor", 55, v)
    weights = file.array("weights", v, 55)
    if not np.allclose(weights.sum(axis=1), 1, atol=1e-2):
        raise BodyFileError(f"{file.path}: the skinning 'weights' of a vertex should sum to 1.")
    parents = file.array("kintree_table", 2, 55)[0]
    if tuple(parents[1:].tolist()) != PARENTS[1:]:  # the root's own entry is -1 or 2³² − 1
        raise BodyFileError(f"{file.path}: 'kintree_table' is not the SMPL-X skeleton: parents {parents.tolist()}.")
    triangles = file.indices("f", v, None, 3)

    def hands(key: str, *shape: int) -> Float[Array, "..."] | None:
        array = file.optional(key, *shape)
        return None if array is None else jnp.asarray(array)

    landmarks = "lmk_faces_idx" in file.archive and "lmk_bary_coords" in file.archive
    return Body(
        v_template=jnp.asarray(v_template),
        shapedirs=jnp.asarray(shapedirs),
        exprdirs=jnp.asarray(exprdirs),
        posedirs=None if posedirs is None or not posedirs.any() else jnp.asarray(posedirs.reshape(v * 3, 486).T),
        J_regressor=jnp.asarray(J_regressor),
        weights=jnp.asarray(weights),
        triangles=triangles,
        vertex_colors=_colors(file, v_template, weights, J_regressor @ v_template),
        hands_components_left=hands("hands_componentsl", 45, 45),
        hands_components_right=hands("hands_componentsr", 45, 45),
        hands_mean_left=hands("hands_meanl", 45),
        hands_mean_right=hands("hands_meanr", 45),
        landmark_triangles=file.indices("lmk_faces_idx", len(triangles), None) if landmarks else None,
        landmark_barycentric=jnp.asarray(file.array("lmk_bary_coords", None, 3)) if landmarks else None,
    )


def _split_shapedirs(file: _Reader, v: int) -> tuple[np.ndarray, np.ndarray]:
    """Shape and expression directions: 300 + 100 columns, or 10 + 10 in old files."""
    dirs = file.array("shapedirs", v, 3, None)
    split = {400: 300, 20: 10}.get(dirs.shape[2])
    if split is None:
        raise BodyFileError(
            f"{file.path}: 'shapedirs' should have 400 columns (300 shape, 100 expression) or 20 (10 + 10),"
            f" found {dirs.shape[2]}."
        )
    return dirs[:, :, :split], dirs[:, :, split:]


def _colors(file: _Reader, v_template: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """The file's own vertex colours where it has them (ours does), else painted from the geometry."""
    stored = file.optional("vertex_colors", v_template.shape[0], 3)
    if stored is None:
        return np.asarray(appearance.paint(v_template, weights, joints), np.float32)
    return stored.astype(np.float32) / (255.0 if stored.dtype.kind == "u" else 1.0)
