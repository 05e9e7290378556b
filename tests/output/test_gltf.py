"""GLB, read back by pygltflib and skinned by the rules of the glTF 2.0 specification, against our own skinning."""

import numpy as np
import pygltflib
import pytest
from scipy.spatial.transform import Rotation

from md_jax.body.model import JOINT_NAMES, load_body
from md_jax.mocap.motion import Motion
from md_jax.mocap.posing import vertices_of
from md_jax.output.export import write_skinned
from md_jax.output.gltf import largest_weights, vertex_normals, write_glb

TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def _array(document, index):
    accessor = document.accessors[index]
    view = document.bufferViews[accessor.bufferView]
    kind = np.dtype(TYPES[accessor.componentType])
    assert view.byteOffset % 4 == 0
    assert view.byteLength == accessor.count * WIDTHS[accessor.type] * kind.itemsize
    data = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    array = np.frombuffer(data, kind).reshape(accessor.count, WIDTHS[accessor.type])
    if accessor.min:
        np.testing.assert_array_equal(array.min(0), np.asarray(accessor.min, kind))
        np.testing.assert_array_equal(array.max(0), np.asarray(accessor.max, kind))
    return array.astype(np.float64) / 65535 if accessor.normalized else array.astype(np.float64)


def _attributes(document):
    attributes = document.meshes[0].primitives[0].attributes
    names = ("POSITION", "NORMAL", "COLOR_0", "JOINTS_0", "WEIGHTS_0", "JOINTS_1", "WEIGHTS_1")
    return {name: _array(document, getattr(attributes, name)) for name in names}


def _skinned(document, frame):
    """Vertices of a keyframe: skin matrix = global transform of the joint x inverse bind matrix."""
    turns = [np.asarray(n.rotation or (0, 0, 0, 1), float) for n in document.nodes]
    places = [np.asarray(n.translation or (0, 0, 0), float) for n in document.nodes]
    animation = document.animations[0]
    for channel in animation.channels:
        values = _array(document, animation.samplers[channel.sampler].output)[frame]
        (turns if channel.target.path == "rotation" else places)[channel.target.node] = values
    world = {}

    def visit(index, parent):
        local = np.eye(4)
        local[:3, :3] = Rotation.from_quat(turns[index]).as_matrix()
        local[:3, 3] = places[index]
        world[index] = parent @ local
        for child in document.nodes[index].children or []:
            visit(child, world[index])

    for root in document.scenes[document.scene].nodes:
        visit(root, np.eye(4))
    skin = document.skins[0]
    bind = _array(document, skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices = np.stack([world[j] for j in skin.joints]) @ bind
    a = _attributes(document)
    joints = np.concatenate([a["JOINTS_0"], a["JOINTS_1"]], 1).astype(int)
    weights = np.concatenate([a["WEIGHTS_0"], a["WEIGHTS_1"]], 1)
    blended = np.einsum("vk,vkab->vab", weights, matrices[joints])
    return np.einsum("vab,vb->va", blended, np.pad(a["POSITION"], ((0, 0), (0, 1)), constant_values=1.0))[:, :3]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    rng = np.random.default_rng(0)
    motion = Motion(
        body_pose=rng.normal(0, 0.6, (5, 21, 3)),
        root_orient=rng.normal(0, 1.5, (5, 3)),
        transl=rng.normal(0, 1.0, (5, 3)),
        face_and_hands=np.tile(rng.normal(0, 0.3, (33, 3)), (5, 1, 1)),
        fps=30.0,
        betas=rng.normal(0, 1, 10),
        prompt="a person is walking",
    )
    body = load_body()
    path = tmp_path_factory.mktemp("glb") / "motion.glb"
    write_skinned(path, motion, body)
    return body, motion, pygltflib.GLTF2().load(str(path)), path


def test_skinning_the_file_gives_our_vertices(written):
    body, motion, document, _ = written
    wanted = vertices_of(body, motion)
    for frame in range(5):
        assert np.abs(_skinned(document, frame) - wanted[frame]).max() < 1e-4


def test_the_file_keeps_to_the_format(written):
    body, motion, document, path = written
    assert path.stat().st_size < 3e6 and path.stat().st_size % 4 == 0
    a = _attributes(document)
    weights = np.concatenate([a["WEIGHTS_0"], a["WEIGHTS_1"]], 1)
    joints = np.concatenate([a["JOINTS_0"], a["JOINTS_1"]], 1)
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-6)
    assert (np.diff(weights, axis=1) <= 0).all(), "largest first, for readers of one set only"
    assert (joints[weights == 0] == 0).all() and joints.max() < 55
    np.testing.assert_allclose(np.linalg.norm(a["NORMAL"], axis=1), 1.0, atol=1e-5)
    indices = _array(document, document.meshes[0].primitives[0].indices).astype(int).reshape(-1, 3)
    np.testing.assert_array_equal(indices, np.asarray(body.triangles))

    animation = document.animations[0]
    times = _array(document, animation.samplers[0].input)[:, 0]
    np.testing.assert_allclose(times, np.arange(5) / 30, atol=1e-6)
    for channel in animation.channels:
        sampler = animation.samplers[channel.sampler]
        assert sampler.interpolation in (None, "LINEAR")
        values = _array(document, sampler.output)
        if channel.target.path == "rotation":
            np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1.0, atol=1e-6)
            assert ((values[1:] * values[:-1]).sum(1) >= 0).all(), "signs never flip"
    moving = {document.nodes[c.target.node].name for c in animation.channels}
    assert moving == set(JOINT_NAMES[:22]), "hands and face held still need no curves"
    assert [n.name for n in document.nodes[:55]] == list(JOINT_NAMES)
    assert document.asset.extras["title"] == motion.prompt


def test_colours_are_linear_light(written):
    body, _, document, _ = written
    rgb = _attributes(document)["COLOR_0"][:, :3]
    srgb = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(srgb, np.asarray(body.vertex_colors), atol=2e-3)


def test_the_largest_eight_weights_are_kept():
    rng = np.random.default_rng(3)
    weights = rng.dirichlet(np.full(20, 0.3), 50)
    joints, kept = largest_weights(weights)
    for row, j, w in zip(weights, joints, kept, strict=True):
        best = np.sort(row)[::-1][:8]
        np.testing.assert_allclose(w, best / best.sum(), atol=1e-6)
        np.testing.assert_allclose(row[j], best)
    joints, kept = largest_weights(np.array([[0.25, 0.75, 0.0]]))
    np.testing.assert_allclose(kept[0], [0.75, 0.25, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(joints[0], [1, 0, 0, 0, 0, 0, 0, 0])


def test_normals_point_out_of_a_tetrahedron_and_ignore_flat_triangles():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [5, 5, 5]], float)
    triangles = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3], [1, 1, 2]])
    normals = vertex_normals(vertices, triangles)
    centre = vertices[:4].mean(0)
    assert ((normals[:4] * (vertices[:4] - centre)).sum(1) > 0).all()
    np.testing.assert_allclose(normals[0], -np.ones(3) / np.sqrt(3), atol=1e-6)
    np.testing.assert_array_equal(normals[4], [0, 1, 0])


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"quaternions \(F, 2, 4\)"):
        write_glb(
            tmp_path / "a.glb",
            vertices=np.zeros((3, 3)),
            triangles=np.array([[0, 1, 2]]),
            colors=np.zeros((3, 3)),
            joints=np.zeros((2, 3)),
            parents=(-1, 0),
            weights=np.eye(3)[:, :2],
            quaternions=np.zeros((4, 3, 4)),
            transl=np.zeros((4, 3)),
            fps=30.0,
        )
