"""Names of the SMPL-X joints, in the order of the model's files."""

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
