"""What bones are called: the names of a dozen tools, each as a joint of SMPL-X.

A name is split into its side and its stem ("mixamorig:LeftUpLeg", "DEF-thigh.L" and "J_Bip_L_UpperLeg" become left and
"upleg", "thigh", "upperleg"); a convention says which stems are which joint. One table cannot serve all: Mixamo's
LeftFoot is the ankle, SMPL-X's left_foot the toes.
"""

from __future__ import annotations

import re

SIDES = ("left", "right")
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
CENTRE = ("pelvis", "spine", "neck", "head")
LIMBS = ("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")
# What every humanoid has. Source: the required bones of VRM 1.0.
REQUIRED = (
    "pelvis", "spine", "head",
    *(f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in SIDES),
)  # fmt: skip

_PREFIX = re.compile(r"^(.*[:|])?(mixamorig\d*_?|def[-_]|j_bip_(c_)?|bip\d+[ _]|[mf]_avg_|cc_base_)?", re.IGNORECASE)
_SIDED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (r"(?P<s>left|right)[-_. ]?(?P<rest>.+)", r"(?P<rest>.+)[-_. ](?P<s>left|right|l|r)",
                    r"(?P<s>l|r)[-_. ](?P<rest>.+)", r"(?P<rest>.+)[-_. ](?P<s>l|r)(?P<end>[-_. ].+)")
)  # fmt: skip


def side_and_stem(name: str) -> tuple[str, str]:
    """("left", "right" or "", the name without side, prefix and punctuation, in lower case)."""
    bare = name[_PREFIX.match(name).end() :]  # type: ignore[union-attr]  # it matches the empty string, too
    side = ""
    for pattern in _SIDED:
        if found := pattern.fullmatch(bare):
            side = SIDES[found["s"].lower().startswith("r")]
            bare = found["rest"] + (found.groupdict().get("end") or "")
            break
    return side, re.sub(r"[-_. ]", "", bare).lower()


def _limbs(*stems: str) -> dict[str, str]:
    return dict(zip(LIMBS, stems, strict=True))


def _fingers(stem: str) -> dict[str, str]:
    """`stem` with {name} and {k} filled in for every joint of the fingers, k = 1 at the palm."""
    return {f"{finger}{k}": stem.format(name=finger, k=k) for finger in FINGERS for k in (1, 2, 3)}


_PHALANX = ("proximal", "intermediate", "distal")
_GENERIC_FINGERS = {
    f"{finger}{k}": rf"f?{'(pinky|little)' if finger == 'pinky' else finger}(finger)?(0?{k}|{_PHALANX[k - 1]})"
    for finger in FINGERS
    for k in (1, 2, 3)
}

# Joint -> pattern of its stems; "spine" and "neck" take as many bones as there are, from the hips up.
CONVENTIONS: dict[str, dict[str, str]] = {
    "Mixamo": {
        "pelvis": "hips", "spine": r"spine\d*", "neck": r"neck\d*", "head": "head",
        **_limbs("shoulder", "arm", "forearm", "hand", "upleg", "leg", "foot", "toe(base)?"),
        **_fingers("hand{name}{k}"),
    },
    "Rigify": {
        "pelvis": "spine", "spine": "spine00[123]", "neck": "spine00[45]", "head": "spine006",
        **_limbs("shoulder", "upperarm", "forearm", "hand", "thigh", "shin", "foot", "toe"),
        **_fingers("f{name}0{k}"), **{f"thumb{k}": f"thumb0{k}" for k in (1, 2, 3)},
    },
    "SMPL-X": {
        "pelvis": "pelvis", "spine": r"spine\d", "neck": "neck", "head": "head",
        **_limbs("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot"),
        **_fingers("{name}{k}"),
    },
    # Unreal, VRoid, Unity, 3ds Max Biped, Blender's own: they do not contradict each other.
    "other": {
        "pelvis": "hips?|pelvis", "spine": r"(lower|mid|middle|upper)?(spine|chest|torso|abdomen)\d*",
        "neck": r"neck\d*", "head": "head",
        **_limbs("clavicle|collar(bone)?|shoulder", "upperarm", "lowerarm|forearm", "hand|wrist",
                 "thigh|upperleg|upleg", "calf|shin|lowerleg", "foot|ankle", r"ball|toes?|toebase|toe0"),
        **_GENERIC_FINGERS,
    },
}  # fmt: skip


VRM_SPINE = ("spine", "chest", "upperchest")  # from the hips up; the last two may be missing


def vrm_names(version: int) -> dict[str, str]:
    """Humanoid bones of VRM 0.x or 1.0, in lower case, that are one joint of ours each."""
    found = {"hips": "pelvis", "head": "head"}
    limbs = ("shoulder", "upperarm", "lowerarm", "hand", "upperleg", "lowerleg", "foot", "toes")
    for side in SIDES:
        found |= {f"{side}{theirs}": f"{side}_{ours}" for theirs, ours in zip(limbs, LIMBS, strict=True)}
        for finger in FINGERS:
            parts = ("metacarpal", "proximal", "distal") if finger == "thumb" and version == 1 else _PHALANX
            theirs = "little" if finger == "pinky" else finger
            found |= {f"{side}{theirs}{part}": f"{side}_{finger}{k}" for k, part in enumerate(parts, 1)}
    return found
