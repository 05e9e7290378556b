"""Named vertices and the 51 + 17 face landmarks (ibug order) of the free body, found on its own geometry.

Eyelids: where the face hides the eyeball. Lips: where opening the jaw parts them, and their profile.
Brows: what the brow actions move. Nose: profile and silhouette. Contour: the outline of the face at each yaw.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tools.body_rig import FINGERS, JOINT

SMPLX_VERTICES = {
    "nose": 9120, "R_eye": 9929, "L_eye": 9448, "R_ear": 616, "L_ear": 6,
    "R_thumb": 8079, "R_index": 7669, "R_middle": 7794, "R_ring": 7905, "R_pinky": 8022,
    "L_thumb": 5361, "L_index": 4933, "L_middle": 5058, "L_ring": 5169, "L_pinky": 5286,
    "L_big_toe": 5770, "L_small_toe": 5780, "L_heel": 8846,
    "R_big_toe": 8463, "R_small_toe": 8474, "R_heel": 8635,
}  # fmt: skip
"""Vertex numbers by which SMPL-X software knows extremities; the mesh is renumbered to agree with them."""

YAWS = 79
"""Rows of the contour table: head yaw 0 to -39 degrees, then +1 to +39, as SMPL-X software looks them up."""

Points = Float[np.ndarray, "P 2"]


def named_vertices(
    vertices: Float[np.ndarray, "V 3"],
    weights: Float[np.ndarray, "V 55"],
    joints: Float[np.ndarray, "55 3"],
    component: Int[np.ndarray, "V"],
) -> dict[str, int]:
    """The vertices that belong at the numbers of `SMPLX_VERTICES`."""

    def top(candidates, direction):
        return int(candidates[np.argmax(vertices[candidates] @ direction)])

    skull = np.flatnonzero((weights[:, JOINT["Head"]] > 0.5) & (component == 0))
    middle = skull[np.abs(vertices[skull, 0]) < 0.004]
    found = {"nose": top(middle, [0, 0, 1])}
    for side, sign, eyeball in (("L", 1.0, 2), ("R", -1.0, 3)):
        found[f"{side}_eye"] = top(np.flatnonzero(component == eyeball), [0, 0, 1])
        found[f"{side}_ear"] = top(skull, [sign, 0, 0])
        for finger in FINGERS:
            tip, knuckle = (JOINT[f"{side}_{finger.capitalize()}{k}"] for k in (3, 2))
            found[f"{side}_{finger}"] = top(np.flatnonzero(weights[:, tip] > 0.6), joints[tip] - joints[knuckle])
        toe_weight, ankle_weight = weights[:, JOINT[f"{side}_Foot"]], weights[:, JOINT[f"{side}_Ankle"]]
        toes, foot = np.flatnonzero(toe_weight > 0.8), np.flatnonzero(toe_weight + ankle_weight > 0.9)
        across = sign * vertices[toes, 0]
        across = (across - across.min()) / np.ptp(across)
        found[f"{side}_big_toe"] = top(toes[across < 0.35], [0, 0, 1])
        found[f"{side}_small_toe"] = top(toes[across > 0.78], [0, 0, 1])
        sole = foot[vertices[foot, 1] < vertices[foot, 1].min() + 0.03]
        found[f"{side}_heel"] = top(sole, [0, 0, -1])
    return found


@dataclass(frozen=True)
class Face:
    """What the landmarks are found on: the body, the triangles of the head, and how facial actions move them.

    `head` numbers the triangles looked at; `motion[name]` is how far an action moves each vertex, metres.
    """

    vertices: Float[np.ndarray, "V 3"]
    triangles: Int[np.ndarray, "T 3"]
    head: Int[np.ndarray, "S"]
    component: Int[np.ndarray, "V"]
    joints: Float[np.ndarray, "55 3"]
    motion: dict[str, Float[np.ndarray, "V"]]

    def seen_at(self, points: Points) -> tuple[Int[np.ndarray, "P"], Float[np.ndarray, "P 3"]]:
        """The triangle seen from the front (along -z) at each (x, y) and the barycentric place in it."""
        a, b, c = (self.vertices[self.triangles[self.head, k]] for k in range(3))
        area = (b[:, 1] - c[:, 1]) * (a[:, 0] - c[:, 0]) + (c[:, 0] - b[:, 0]) * (a[:, 1] - c[:, 1])
        front = np.flatnonzero(area > 1e-12)
        a, b, c, area = a[front], b[front], c[front], area[front]
        found, places = [], []
        for x, y in points:
            first = ((b[:, 1] - c[:, 1]) * (x - c[:, 0]) + (c[:, 0] - b[:, 0]) * (y - c[:, 1])) / area
            second = ((c[:, 1] - a[:, 1]) * (x - c[:, 0]) + (a[:, 0] - c[:, 0]) * (y - c[:, 1])) / area
            place = np.stack([first, second, 1 - first - second], 1)
            inside = place.min(1) >= -1e-9
            depth = np.einsum("sk,sk->s", place, np.stack([a[:, 2], b[:, 2], c[:, 2]], 1))
            best = np.argmax(np.where(inside, depth, -np.inf))
            if not inside[best]:
                raise ValueError(f"expected the face to be hit at x, y = {x:.4f}, {y:.4f} m, found nothing there")
            found.append(self.head[front[best]])
            places.append(place[best])
        return np.array(found), np.array(places)

    def sample(self, field: np.ndarray, points: Points) -> np.ndarray:
        """A vertex field where it is seen from the front at each (x, y)."""
        triangle, place = self.seen_at(points)
        return np.einsum("pk...,pk->p...", field[self.triangles[triangle]], place)

    def column(self, x: float, low: float, high: float, count: int = 200) -> Points:
        return np.stack([np.full(count, x), np.linspace(low, high, count)], 1)


def inner_face(face: Face) -> Points:
    """The 51 inner landmarks, as (x, y) seen from the front, ibug points 17 to 67."""
    eye = _left_eye(face)
    brow = _left_brow(face, eye)
    bridge, base = _nose(face)
    upper, inner_upper, inner_lower, lower = _left_mouth(face, base[0, 1])
    flip = np.array([-1.0, 1.0])
    right_eye = eye[[3, 2, 1, 0, 5, 4]] * flip

    def both(half):
        """Right to left from the left half, which begins at the middle."""
        return np.concatenate([half[:0:-1] * flip, half])

    outer = np.concatenate([both(upper), both(lower)[-2:0:-1]])
    inside = np.concatenate([both(inner_upper), both(inner_lower)[-2:0:-1]])
    return np.concatenate([brow[::-1] * flip, brow, bridge, both(base), right_eye, eye, outer, inside])


def _left_eye(face: Face) -> Points:
    """Inner corner, upper lid twice, outer corner, lower lid twice."""
    ball = face.vertices[face.component == 2]
    centre, radius = 0.5 * (ball.max(0) + ball.min(0)), 0.5 * np.ptp(ball[:, 1])
    steps = np.linspace(-1, 1, 81) * radius
    grid = np.stack(np.meshgrid(centre[0] + steps, centre[1] + steps, indexing="ij"), -1)
    triangle, _ = face.seen_at(grid.reshape(-1, 2))
    seen = (face.component[face.triangles[triangle, 0]] == 2).reshape(81, 81)
    columns = np.flatnonzero(seen.any(1))
    outside = 0.03 * radius

    def lid(share: float, upper: bool) -> np.ndarray:
        column = grid[columns[round(share * (len(columns) - 1))]][seen[columns[round(share * (len(columns) - 1))]]]
        return column[-1] + [0, outside] if upper else column[0] - [0, outside]

    inner, outer = (0.5 * (lid(share, True) + lid(share, False)) for share in (0.0, 1.0))
    inner, outer = inner - np.array([outside, 0]), outer + np.array([outside, 0])
    return np.array([inner, lid(0.3, True), lid(0.7, True), outer, lid(0.7, False), lid(0.3, False)])


def _left_brow(face: Face, eye: Points) -> Points:
    """Five points from the inner to the outer end: the middle of what the brow actions move."""
    width = eye[3, 0] - eye[0, 0]
    moved = np.sum([face.motion[n] for n in ("browDownLeft", "browInnerUp", "browOuterUpLeft")], axis=0)
    points = []
    for x in np.linspace(eye[0, 0] - 0.05 * width, eye[3, 0] + 0.25 * width, 5):
        column = face.column(x, eye[1, 1] + 0.1 * width, eye[1, 1] + 1.2 * width)
        weight = face.sample(moved, column) ** 2
        points.append([x, weight @ column[:, 1] / weight.sum()])
    return np.array(points)


def _nose(face: Face) -> tuple[Points, Points]:
    """Four points down the bridge to the tip, and three along the base from the middle to the left wing."""
    eyes = 0.5 * (face.joints[JOINT["L_Eye"]] + face.joints[JOINT["R_Eye"]])
    apart = face.joints[JOINT["L_Eye"], 0] - face.joints[JOINT["R_Eye"], 0]
    profile = face.column(0.0, eyes[1] - 1.2 * apart, eyes[1])
    depth = face.sample(face.vertices, profile)[:, 2]
    tip = int(np.argmax(depth))
    # Below the tip the profile turns in, then out again to the lip: the base is innermost between.
    lip = int(np.argmax(np.where(profile[:tip, 1] < profile[tip, 1] - 0.3 * apart, depth[:tip], -np.inf)))
    base_y = profile[lip + int(np.argmin(depth[lip:tip])), 1]
    bridge = np.stack([np.zeros(4), np.linspace(eyes[1] + 0.05 * apart, profile[tip, 1], 4)], 1)
    # The wing ends where the surface falls furthest behind the chord from the tip's side to the cheek.
    wing_y = 0.6 * base_y + 0.4 * profile[tip, 1]
    row = np.stack([np.linspace(0.0, 0.55 * apart, 200), np.full(200, wing_y)], 1)
    depth = face.sample(face.vertices, row)[:, 2]
    wing = row[int(np.argmin(depth - np.linspace(depth[0], depth[-1], 200))), 0]
    rise = 0.25 * (wing_y - base_y)
    return bridge, np.array([[0, base_y], [0.42 * wing, base_y + rise], [0.8 * wing, base_y + 2 * rise]])


def _left_mouth(face: Face, nose_base: float) -> tuple[Points, Points, Points, Points]:
    """Left half, middle to corner: upper border (4), inner upper (3), inner lower (3), lower border (4)."""
    eyes = face.joints[JOINT["L_Eye"]]
    low, high = nose_base - 0.8 * eyes[0] * 2, nose_base - 0.02 * eyes[0]
    jaw = face.motion["jawOpen"]

    def seam(x: float) -> tuple[float, float]:
        column = face.column(x, low, high)
        jump = np.abs(np.diff(face.sample(jaw, column)))
        at = int(np.argmax(jump))
        return 0.5 * (column[at, 1] + column[at + 1, 1]), jump[at]

    widths = np.linspace(0.0, 1.2 * eyes[0], 61)
    seams = [seam(x) for x in widths]
    jumps = np.array([jump for _, jump in seams])
    corner = int(np.argmax(jumps < 0.2 * jumps[0])) - 1
    corner_point = np.array([widths[corner], seams[corner][0]])

    def upper_border(x: float) -> np.ndarray:
        """The ridge of the upper lip: furthest in front of the chord from the seam to the nose."""
        column = face.column(x, seam(x)[0] + 0.002, nose_base)
        depth = face.sample(face.vertices, column)[:, 2]
        return column[int(np.argmax(depth - np.linspace(depth[0], depth[-1], len(depth))))]

    def lower_border(x: float) -> np.ndarray:
        """Where the lower lip falls back most steeply towards the chin."""
        middle = seam(x)[0]
        column = face.column(x, middle - 0.002, middle - 0.8 * (nose_base - middle))
        depth = face.sample(face.vertices, column)[:, 2]
        window = 20
        return column[int(np.argmin(depth[window:] - depth[:-window])) + window // 2]

    def inside(x: float, sign: float) -> np.ndarray:
        return np.array([x, seam(x)[0] + sign * 0.0012])

    reach = corner_point[0]
    upper = [upper_border(share * reach) for share in (0.0, 0.22, 0.6)]
    lower = [lower_border(share * reach) for share in (0.0, 0.28, 0.62)]
    inner_corner = corner_point - [0.06 * reach, 0]
    inner = [[*(inside(share * reach, sign) for share in (0.0, 0.35)), inner_corner] for sign in (1.0, -1.0)]
    return (
        np.array([*upper, corner_point]),
        np.array(inner[0]),
        np.array(inner[1]),
        np.array([*lower, corner_point]),
    )


def contour_table(
    face: Face, normals: Float[np.ndarray, "V 3"]
) -> tuple[Int[np.ndarray, "79 17"], Float[np.ndarray, "79 17 3"]]:
    """Triangles and places of the 17 contour landmarks (right ear, chin, left ear) for each head yaw."""
    jaw, chin_to_eye = face.joints[JOINT["Jaw"]], face.joints[JOINT["L_Eye"], 1]
    v, corners = face.vertices, face.triangles[face.head]
    facing = (
        (normals[:, 2] + 0.6 * normals[:, 1] > 0)
        & (v[:, 2] > jaw[2] + 0.008)
        & (v[:, 1] < chin_to_eye + 0.02)
        & (face.component == 0)
    )
    kept = face.head[facing[corners].all(1)]
    edge_corner = np.array([[0, 1], [1, 2], [2, 0]])
    ends = face.triangles[kept][:, edge_corner].reshape(-1, 2)
    chin = v[ends, 1].min()
    centre = np.array([0.0, 0.55 * chin_to_eye + 0.45 * chin, jaw[2] + 0.04])
    width = np.abs(v[ends, 0]).max()
    first = np.arctan2(chin_to_eye - centre[1], width)
    angles = np.linspace(np.pi - first, 2 * np.pi + first, 17)
    triangle, place = np.zeros((YAWS, 17), int), np.zeros((YAWS, 17, 3))
    for row in range(YAWS):
        yaw = np.radians(-row if row < 40 else row - 39)
        seen = v - centre
        across = np.cos(yaw) * seen[:, 0] + np.sin(yaw) * seen[:, 2]
        for index, angle in enumerate(angles):
            along = np.cos(angle) * across + np.sin(angle) * seen[:, 1]
            beside = np.cos(angle) * seen[:, 1] - np.sin(angle) * across
            start, end = beside[ends[:, 0]], beside[ends[:, 1]]
            crosses = start * end < 0
            share = np.where(crosses, start / np.where(crosses, start - end, 1), 0.0)
            far = np.where(crosses, (1 - share) * along[ends[:, 0]] + share * along[ends[:, 1]], -np.inf)
            best = int(np.argmax(far))
            triangle[row, index] = kept[best // 3]
            place[row, index, edge_corner[best % 3]] = 1 - share[best], share[best]
    return triangle, place
