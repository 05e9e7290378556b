"""Rigged characters made of our own free body: other names, other rest poses, other bones, other legs; and a player of
their files that knows the glTF specification alone (pygltflib reads, scipy turns)."""

import functools

import numpy as np
import pygltflib
from scipy.spatial.transform import Rotation

from md_jax.body import lbs
from md_jax.body.model import JOINT_NAMES, PARENTS, load_body
from md_jax.retarget.animate import read_character, write_retargeted

_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")


def _sided(pattern, words):
    """{joint: name} for both sides; the pattern gets S (Left), s (left), L, l and the word."""
    found = {}
    for side in ("left", "right"):
        letters = {"S": side.title(), "s": side, "L": side[0].upper(), "l": side[0]}
        for joint, word in words.items():
            found[f"{side}_{joint}"] = pattern.format(word=word, **letters)
    return found


def _fingers(pattern, **other):
    return {f"{f.lower()}{k}": pattern.format(f=other.get(f, f), low=other.get(f, f).lower(), k=k)
            for f in _FINGERS for k in (1, 2, 3)}  # fmt: skip


LIMBS = ("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")


def _limbs(*words):
    return dict(zip(LIMBS, words, strict=True))


def _trunk(*words):
    return dict(zip(("pelvis", "spine1", "spine2", "spine3", "neck", "head"), words, strict=True))


_MIXAMO = _limbs("Shoulder", "Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase") | _fingers("Hand{f}{k}")
_UNITY = _limbs("Shoulder", "UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot", "Toes")
_TORSO = _trunk("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head")
_CHEST = _trunk("Hips", "Spine", "Chest", "UpperChest", "Neck", "Head")
# Names of our joints in other tools.
NAMINGS = {
    "mixamo": {j: f"mixamorig:{n}" for j, n in (_TORSO | _sided("{S}{word}", _MIXAMO)).items()},
    "mixamo1": {j: f"mixamorig1:{n}" for j, n in (_TORSO | _sided("{S}{word}", _MIXAMO)).items()},
    "mixamo in three.js": {j: f"mixamorig{n}" for j, n in (_TORSO | _sided("{S}{word}", _MIXAMO)).items()},
    "unreal": _trunk("pelvis", "spine_01", "spine_02", "spine_03", "neck_01", "head")
    | _sided("{word}_{l}", _limbs("clavicle", "upperarm", "lowerarm", "hand", "thigh", "calf", "foot", "ball")
             | _fingers("{low}_0{k}")),
    "rigify": _trunk("DEF-spine", "DEF-spine.001", "DEF-spine.002", "DEF-spine.003", "DEF-spine.004", "DEF-spine.006")
    | _sided("DEF-{word}.{L}", _limbs("shoulder", "upper_arm", "forearm", "hand", "thigh", "shin", "foot", "toe")
             | _fingers("f_{low}.0{k}") | {f"thumb{k}": f"thumb.0{k}" for k in (1, 2, 3)}),
    "smplx": {name: name for name in JOINT_NAMES},
    "vroid": {j: f"J_Bip_C_{n}" for j, n in _CHEST.items()}
    | _sided("J_Bip_{L}_{word}", _UNITY | {"foot": "ToeBase"} | _fingers("{f}{k}", Pinky="Little")),
    "blender": {j: n.lower() for j, n in _CHEST.items()}
    | _sided("{word}.{L}", _limbs("shoulder", "upper_arm", "lower_arm", "hand", "upper_leg", "lower_leg", "foot",
                                  "toe")),
}  # fmt: skip


@functools.cache
def the_body():
    return load_body()


def free_body(pose=None, legs=1.0):
    """(vertices, joints, world rotations) of the free body in a rest pose: rotation vectors by joint, longer legs."""
    body = the_body()
    full = np.zeros((55, 3))
    for joint, turn in (pose or {}).items():
        full[JOINT_NAMES.index(joint)] = turn
    rest = np.asarray(body.J_regressor) @ np.asarray(body.v_template, np.float64)
    longer = rest.copy()
    for j in range(1, 55):
        name = JOINT_NAMES[j]
        scale = legs if name.endswith(("knee", "ankle")) else 1.0
        longer[j] = longer[PARENTS[j]] + scale * (rest[j] - rest[PARENTS[j]])
    weights = np.asarray(body.weights, np.float64)
    vertices = np.asarray(body.v_template, np.float64) + weights @ (longer - rest)
    world, places = np.zeros((55, 3, 3)), np.zeros((55, 3))
    for j in range(55):
        own = Rotation.from_rotvec(full[j]).as_matrix()
        parent = PARENTS[j]
        world[j] = own if parent < 0 else world[parent] @ own
        places[j] = longer[j] if parent < 0 else places[parent] + world[parent] @ (longer[j] - longer[parent])
    shifts = places - np.einsum("jab,jb->ja", world, longer)
    blended = (weights @ np.concatenate([world, shifts[..., None]], axis=2).reshape(55, 12)).reshape(-1, 3, 4)
    vertices = np.einsum("vab,vb->va", blended[..., :3], vertices) + blended[..., 3]
    lift = np.array([0, -vertices[:, 1].min(), 0])  # it stands on the floor
    return vertices + lift, places + lift, world


def affine(rotation=None, translation=(0, 0, 0), scale=1.0):
    matrix = np.eye(4)
    matrix[:3, :3] = scale * (np.eye(3) if rotation is None else rotation)
    matrix[:3, 3] = translation
    return matrix


MIXAMO_ARMATURE = affine(Rotation.from_euler("x", 90, degrees=True).as_matrix(), scale=0.01)


def write_character(
    path, naming, *, pose=None, legs=1.0, armature=None, axes=None, leave_out=(), flat=False, standing=None, extra=None,
    bind=True, where=None,
):  # fmt: skip
    """Write a skinned glb of the free body.

    Args:
        naming: name by joint; joints without one hang on as "extra_…".
        pose: the rest pose, rotation vectors by joint.
        armature: transform of a node above the bones.
        axes: seed of a random orientation of every bone's axes; None: as the body's.
        leave_out: joints that are no bones at all.
        flat: every bone right below the armature.
        standing: rotation vectors that the nodes hold on top of the rest pose, as a file saved in the middle of a walk.
        extra: called with the document, to add what a test wants to find again.
        bind: write inverse bind matrices.
        where: a rigid transform that puts the figure elsewhere in the scene.
    """
    vertices, places, turns = free_body(pose, legs)
    if where is not None:
        vertices, places = (points @ where[:3, :3].T + where[:3, 3] for points in (vertices, places))
        turns = where[:3, :3] @ turns
    armature = np.eye(4) if armature is None else armature
    rng = np.random.default_rng(axes)
    kept = [j for j in range(55) if JOINT_NAMES[j] not in leave_out]
    world = {}
    for j in kept:
        own = turns[j] if axes is None else turns[j] @ Rotation.random(random_state=rng).as_matrix()
        world[j] = np.linalg.inv(armature) @ affine(own, places[j])
        world[j][:3, :3] /= np.cbrt(np.linalg.det(world[j][:3, :3]))  # bones have no scale of their own
    document = pygltflib.GLTF2(asset=pygltflib.Asset(version="2.0", generator="a test"))
    document.nodes = [pygltflib.Node(name="Armature", matrix=armature.T.reshape(-1).tolist(), children=[])]
    above = {}
    for j in kept:
        parent = PARENTS[j]
        while parent >= 0 and parent not in world:
            parent = PARENTS[parent]
        above[j] = -1 if flat else parent
    index = {j: n + 1 for n, j in enumerate(kept)}
    for j in kept:
        local = world[j] if above[j] < 0 else np.linalg.inv(world[above[j]]) @ world[j]
        turn = Rotation.from_matrix(local[:3, :3])
        if standing and JOINT_NAMES[j] in standing:
            turn = turn * Rotation.from_rotvec(standing[JOINT_NAMES[j]])
        node = pygltflib.Node(name=naming.get(JOINT_NAMES[j], f"extra_{JOINT_NAMES[j]}"), children=[],
                              translation=local[:3, 3].tolist(), rotation=turn.as_quat().tolist())  # fmt: skip
        document.nodes.append(node)
        document.nodes[index[above[j]] if above[j] >= 0 else 0].children.append(index[j])
    document.nodes.append(pygltflib.Node(name="Figure", mesh=0, skin=0))
    document.scenes, document.scene = [pygltflib.Scene(nodes=[0, len(kept) + 1])], 0

    chunks = []

    def add(array, kind, bounds=False):
        data = np.ascontiguousarray(array).tobytes()
        document.bufferViews.append(
            pygltflib.BufferView(buffer=0, byteOffset=sum(map(len, chunks)), byteLength=len(data))
        )
        chunks.append(data + b"\0" * (-len(data) % 4))
        codes = {"f": pygltflib.FLOAT, "B": pygltflib.UNSIGNED_BYTE, "H": pygltflib.UNSIGNED_SHORT}
        document.accessors.append(pygltflib.Accessor(
            bufferView=len(document.bufferViews) - 1, componentType=codes[array.dtype.char], count=len(array),
            type=kind,
            min=array.min(0).tolist() if bounds else None, max=array.max(0).tolist() if bounds else None))  # fmt: skip
        return len(document.accessors) - 1

    body = the_body()
    weights = np.asarray(body.weights, np.float64)
    for j in range(54, -1, -1):  # what is left out hands its vertices up
        if j not in world:
            weights[:, PARENTS[j]] += weights[:, j]
    weights = weights[:, kept]
    order = np.argsort(-weights, axis=1)[:, :4]
    shares = np.take_along_axis(weights, order, axis=1)
    shares /= shares.sum(axis=1, keepdims=True)
    local = (np.linalg.inv(armature) @ np.pad(vertices, ((0, 0), (0, 1)), constant_values=1.0).T).T[:, :3]
    attributes = pygltflib.Attributes(
        POSITION=add(local.astype(np.float32), "VEC3", True), JOINTS_0=add(order.astype(np.uint8), "VEC4"),
        WEIGHTS_0=add(shares.astype(np.float32), "VEC4"))  # fmt: skip
    indices = add(np.asarray(body.triangles).astype(np.uint16).reshape(-1), "SCALAR")
    document.meshes = [pygltflib.Mesh(primitives=[pygltflib.Primitive(attributes=attributes, indices=indices)])]
    inverse = np.stack([np.linalg.inv(world[j]).T.reshape(16) for j in kept]).astype(np.float32)
    matrices = add(inverse, "MAT4") if bind else None
    document.skins = [pygltflib.Skin(joints=[index[j] for j in kept], inverseBindMatrices=matrices)]
    if extra:
        extra(document, add)
    document.buffers = [pygltflib.Buffer(byteLength=sum(map(len, chunks)))]
    document.set_binary_blob(b"".join(chunks))
    path.write_bytes(b"".join(document.save_to_bytes()))
    return path


# --- playing --------------------------------------------------------------------------------------------------------

_TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def array(document, index):
    accessor = document.accessors[index]
    view = document.bufferViews[accessor.bufferView]
    data = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    return np.frombuffer(data, _TYPES[accessor.componentType]).reshape(accessor.count, _WIDTHS[accessor.type])


class Played:
    """The last animation of a file: places of nodes and of vertices at its keyframes."""

    def __init__(self, path):
        self.document = document = pygltflib.GLTF2().load_binary(str(path))
        animation = document.animations[-1]
        curves = {}
        for channel in animation.channels:
            sampler = animation.samplers[channel.sampler]
            curves[channel.target.node, channel.target.path] = array(document, sampler.output).astype(float)
            self.times = array(document, sampler.input)[:, 0]
        self.name, self.curves = animation.name, curves
        self.world = {}
        for root in document.scenes[document.scene].nodes:
            self._visit(root, np.eye(4))
        self.names = {node.name: n for n, node in enumerate(document.nodes)}

    def _visit(self, n, parent):
        node = self.document.nodes[n]
        local = np.tile(np.eye(4), (len(self.times), 1, 1))
        if node.matrix and not np.allclose(np.reshape(node.matrix, (4, 4)), np.eye(4)):
            local[:] = np.reshape(node.matrix, (4, 4)).T
        else:
            turn = self.curves.get((n, "rotation"), np.asarray(node.rotation or (0, 0, 0, 1))[None])
            local[:, :3, :3] = Rotation.from_quat(turn).as_matrix() * np.asarray(node.scale or (1, 1, 1))
            local[:, :3, 3] = self.curves.get((n, "translation"), np.asarray(node.translation or (0, 0, 0)))
        self.world[n] = parent @ local
        for child in node.children or []:
            self._visit(child, self.world[n])

    def place(self, name):
        """(F, 3) of a node."""
        return self.world[self.names[name]][:, :3, 3]

    def vertices(self):
        """(F, V, 3) of the mesh, by the specification's rule."""
        document = self.document
        skin, attributes = document.skins[0], document.meshes[0].primitives[0].attributes
        inverse = array(document, skin.inverseBindMatrices).astype(float).reshape(-1, 4, 4).swapaxes(1, 2)
        matrices = np.stack([self.world[j] @ m for j, m in zip(skin.joints, inverse, strict=True)], axis=1)
        points = np.pad(array(document, attributes.POSITION), ((0, 0), (0, 1)), constant_values=1.0)
        joints, weights = array(document, attributes.JOINTS_0), array(document, attributes.WEIGHTS_0)
        carried = (m[joints] @ points[:, None, :, None] for m in matrices)
        return np.stack([(weights[..., None] * c[..., 0]).sum(1)[:, :3] for c in carried])


def directions(ends, starts):
    d = ends - starts
    return d / np.linalg.norm(d, axis=-1, keepdims=True)


def joints_of(motion):
    """The motion's own joints, (F, 55, 3)."""
    hands = motion.face_and_hands[:, 3:].reshape(-1, 2, 45)
    _, joints = lbs.forward(
        the_body(), global_orient=motion.root_orient, body_pose=motion.body_pose, transl=motion.transl,
        left_hand_pose=hands[:, 0], right_hand_pose=hands[:, 1])  # fmt: skip
    return np.asarray(joints, np.float64)


# --- comparing ------------------------------------------------------------------------------------------------------

A_POSE = {"left_shoulder": [0.1, 0.2, -0.8], "right_shoulder": [0.1, -0.2, 0.8], "left_elbow": [0, -0.3, 0],
          "right_elbow": [0, 0.3, 0], "left_hip": [0, 0, 0.12], "right_hip": [0, 0, -0.12],
          "left_ankle": [0, 0, -0.12], "right_ankle": [0, 0, 0.12],  # soles stay flat
          "left_thumb1": [0.3, 0.2, 0], "left_index2": [0, 0, -0.4]}  # fmt: skip
# Bones by the joints at both ends; the torso's follow where its rest pose is the source's, as it is here.
BONES = [
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"), ("shoulder", "elbow"), ("elbow", "wrist"),
                 ("collar", "shoulder"), ("wrist", "middle1"),
                 *((f"{f.lower()}{k}", f"{f.lower()}{k + 1}") for f in _FINGERS for k in (1, 2)))
]  # fmt: skip
BONES += [("pelvis", "spine1"), ("spine1", "spine2"), ("spine2", "spine3"), ("spine3", "neck"), ("neck", "head")]


def moved(path, motion, body, **options):
    out = path.with_name("out" + path.suffix)
    write_retargeted(out, motion, body, read_character(path, **options))
    return Played(out)


def worst_angle(played, motion, naming, bones=BONES, turned=None):
    """The largest angle in degrees between a bone and the source's, over bones and frames."""
    ours = joints_of(motion) @ (np.eye(3) if turned is None else turned).T
    angles = {}
    for a, b in bones:
        if a in naming and b in naming:
            wanted = directions(ours[:, JOINT_NAMES.index(b)], ours[:, JOINT_NAMES.index(a)])
            found = directions(played.place(naming[b]), played.place(naming[a]))
            angles[a, b] = np.degrees(2 * np.arcsin(np.linalg.norm(found - wanted, axis=1).max() / 2))
    assert len(angles) > 12
    return max(angles.values()), max(angles, key=angles.get)
