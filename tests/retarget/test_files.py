"""What a retargeted file keeps, how a character says which bones are which, and what is refused."""

import json
import re
import struct

import numpy as np
import pygltflib
import pytest
from scipy.spatial.transform import Rotation

from md_jax.body.model import JOINT_NAMES
from md_jax.errors import UserError
from md_jax.mocap.motion import save_motion
from md_jax.options.command import ending_in_one_line
from md_jax.retarget import command
from md_jax.retarget.animate import read_character, write_retargeted
from md_jax.retarget.names import FINGERS
from tests.retarget.characters import A_POSE, NAMINGS, Played, affine, joints_of, moved, worst_angle, write_character


def furnished(document, add):
    """What a character brings along and has to keep."""
    document.materials = [pygltflib.Material(name="skin", extensions={"VRMC_materials_mtoon": {"specVersion": "1.0"}},
                                             extras={"kept": [1, 2.5, "ü"]})]  # fmt: skip
    document.meshes[0].primitives[0].material = 0
    document.extensionsUsed = ["VRMC_materials_mtoon", "EXT_unheard_of"]
    document.extensions = {"EXT_unheard_of": {"deep": {"er": [None, True]}}}
    times = add(np.array([0, 1], np.float32), "SCALAR")
    turns = add(np.array([[0, 0, 0, 1], [0, 1, 0, 0]], np.float32), "VEC4")
    target = pygltflib.AnimationChannelTarget(node=2, path="rotation")
    document.animations = [
        pygltflib.Animation(name=name, channels=[pygltflib.AnimationChannel(sampler=0, target=target)],
                            samplers=[pygltflib.AnimationSampler(input=times, output=turns)])
        for name in ("it moves", "wave")
    ]  # fmt: skip


def chunks_of(path):
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :], data


def test_everything_else_stays_as_it_is(motion, body, tmp_path):
    path = write_character(tmp_path / "a.glb", NAMINGS["mixamo"], extra=furnished)
    odd = chunks_of(path)[0] | {"noBodyKnows": {"this": "key"}}  # what a reader with classes of its own would drop
    path.write_bytes(rebuilt(odd, chunks_of(path)[1]))
    original = path.read_bytes()
    played = moved(path, motion, body)
    assert path.read_bytes() == original
    before, binary, _ = chunks_of(path)
    after, new_binary, data = chunks_of(path.with_name("out.glb"))
    assert new_binary[: len(binary)] == binary and len(data) % 4 == 0
    assert struct.unpack_from("<I", data, 8)[0] == len(data)
    assert after["buffers"][0]["byteLength"] <= len(new_binary) < after["buffers"][0]["byteLength"] + 4
    for name in ("accessors", "bufferViews", "animations"):
        assert after[name][: len(before[name])] == before[name] and len(after[name]) > len(before[name])
    assert len(after["animations"]) == 3 and played.name == "it moves 2", "the file had one of that name"
    grown = ("accessors", "bufferViews", "animations", "buffers", "nodes")
    assert {k: v for k, v in after.items() if k not in grown} == {k: v for k, v in before.items() if k not in grown}
    assert after["nodes"] == before["nodes"]


def test_a_bone_with_a_matrix_gets_the_same_parts(motion, body, tmp_path):
    """A node that is animated must not have a matrix."""
    path = write_character(tmp_path / "a.glb", NAMINGS["mixamo"], axes=3, pose=A_POSE)
    document, binary, _ = chunks_of(path)
    for node in document["nodes"]:
        if "rotation" in node:
            turn = Rotation.from_quat(node.pop("rotation")).as_matrix()
            node["matrix"] = affine(turn, node.pop("translation")).T.reshape(-1).tolist()
            node.pop("scale", None)
    path.write_bytes(rebuilt(document, binary))
    played = moved(path, motion, body)
    assert worst_angle(played, motion, NAMINGS["mixamo"])[0] < 0.02
    after = chunks_of(path.with_name("out.glb"))[0]
    for n, node in enumerate(after["nodes"]):
        if (n, "rotation") in played.curves:
            assert "matrix" not in node
            made = affine(Rotation.from_quat(node["rotation"]).as_matrix(), node["translation"])
            np.testing.assert_allclose(made, np.reshape(document["nodes"][n]["matrix"], (4, 4)).T, atol=1e-6)


def rebuilt(document, binary):
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    size = 28 + len(text) + len(binary)
    return (
        struct.pack("<4sIII4s", b"glTF", 2, size, len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(binary), b"BIN\0")
        + binary
    )


VRM = {"pelvis": "hips", "spine1": "spine", "spine2": "chest", "spine3": "upperChest", "neck": "neck", "head": "head"}
VRM_LIMBS = {"collar": "Shoulder", "shoulder": "UpperArm", "elbow": "LowerArm", "wrist": "Hand", "hip": "UpperLeg",
             "knee": "LowerLeg", "ankle": "Foot", "foot": "Toes"}  # fmt: skip


def humanoid(version):
    parts = {1: "Proximal", 2: "Intermediate", 3: "Distal"}
    thumb = {1: "Metacarpal", 2: "Proximal", 3: "Distal"} if version else parts
    named = dict(VRM)
    for side in ("left", "right"):
        named |= {f"{side}_{ours}": side + theirs for ours, theirs in VRM_LIMBS.items()}
        for finger in FINGERS:
            title = {"pinky": "Little"}.get(finger, finger.title())
            named |= {
                f"{side}_{finger}{k}": f"{side}{title}{(thumb if finger == 'thumb' else parts)[k]}" for k in parts
            }
    return named


@pytest.mark.parametrize("version", [0, 1])
def test_a_vrm_says_itself_which_bones_are_which(version, motion, body, tmp_path):
    """Names mean nothing there; VRM 0.x faces the other way."""
    turn = np.diag([-1.0, 1, -1]) if version == 0 else np.eye(3)
    naming = {name: f"bone {n * 7 % 55}" for n, name in enumerate(JOINT_NAMES)}

    def extra(document, add):
        index = {node.name: n for n, node in enumerate(document.nodes)}
        bones = {theirs: index[naming[ours]] for ours, theirs in humanoid(version).items()}
        if version == 0:
            listed = [{"bone": bone, "node": node, "useDefaultValues": True} for bone, node in bones.items()]
            document.extensions = {"VRM": {"specVersion": "0.0", "humanoid": {"humanBones": listed}}}
        else:
            listed = {bone: {"node": node} for bone, node in bones.items()}
            document.extensions = {"VRMC_vrm": {"specVersion": "1.0", "humanoid": {"humanBones": listed}}}

    path = write_character(tmp_path / "a.vrm", naming, axes=5, where=affine(turn), extra=extra)
    played = moved(path, motion, body)
    assert worst_angle(played, motion, naming, turned=turn)[0] < 0.02
    assert (tmp_path / "out.vrm").is_file() and played.document.extensions == pygltflib.GLTF2().load_binary(
        str(path)).extensions  # fmt: skip


def test_a_map_names_what_names_do_not_tell(motion, body, tmp_path):
    naming = {name: f"Knochen {n}" for n, name in enumerate(JOINT_NAMES)}
    path = write_character(tmp_path / "a.glb", naming, axes=5)
    entries = {ours: naming[ours] for ours in naming if not ours.startswith("spine")}
    entries["spine"] = [naming[f"spine{k}"] for k in (1, 2, 3)]
    (tmp_path / "bones.json").write_text(json.dumps(entries))
    played = moved(path, motion, body, map_path=tmp_path / "bones.json")
    assert worst_angle(played, motion, naming)[0] < 0.02
    # a few missing ones are enough where the others are found by name
    naming = NAMINGS["mixamo"] | {"left_knee": "Knie", "right_knee": "das andere"}
    path = write_character(tmp_path / "b.glb", naming, axes=5)
    (tmp_path / "bones.json").write_text(json.dumps({"left_knee": "Knie", "right_knee": "das andere"}))
    assert worst_angle(moved(path, motion, body, map_path=tmp_path / "bones.json"), motion, naming)[0] < 0.02


def compressed(document, binary):
    """As Draco leaves a mesh: accessors without data."""
    for index in document["meshes"][0]["primitives"][0]["attributes"].values():
        del document["accessors"][index]["bufferView"]
    document["meshes"][0]["primitives"][0]["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": 0}}
    document["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    return document, binary


def test_a_compressed_mesh_stands_on_the_ground_below_its_feet(motion, body, tmp_path):
    path = write_character(tmp_path / "a.glb", NAMINGS["mixamo"], axes=2)
    plain = moved(path, motion, body).place(NAMINGS["mixamo"]["pelvis"])
    path.write_bytes(rebuilt(*compressed(*chunks_of(path)[:2])))
    without = moved(path, motion, body).place(NAMINGS["mixamo"]["pelvis"])
    assert 0 < np.abs(without - plain).max() < 0.1, "the heel and the tips of the toes are not known"


# --- what is refused --------------------------------------------------------------------------------------------------


def edited(path, change):
    document, binary, _ = chunks_of(path)
    change(document)
    path.write_bytes(rebuilt(document, binary))
    return path


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "expected binary glTF"),
        (b"Kaydara FBX Binary  \0", "it is FBX; open it in Blender"),
        (b'{"asset": {"version": "2.0"}}', "glTF as text; export it as one binary file"),
        (b"glTF\x01\0\0\0\x14\0\0\0" + b"\0" * 20, "version 2"),
        (b"glTF\x02\0\0\0\x14\0\0\0\xff\xff\0\0JSON{}", "ends before its data does"),
        (rebuilt([], b""), "no glTF asset"),
        (rebuilt({"asset": {}, "buffers": 1}, b"1234"), "does not list its buffers"),
        (rebuilt({"asset": {}, "buffers": [{"uri": "a.bin", "byteLength": 4}]}, b"1234"), "in other files"),
        (rebuilt({"asset": {}, "nodes": [{}]}, b""), "has no skin"),
    ],
)
def test_other_files_are_told_apart(data, said, tmp_path):
    (tmp_path / "a.glb").write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_character(tmp_path / "a.glb")


def test_missing_bones_are_named_beside_those_there_are(tmp_path):
    naming = {name: f"Knochen {n}" for n, name in enumerate(JOINT_NAMES)}
    path = write_character(tmp_path / "a.glb", NAMINGS["mixamo"] | {"left_knee": "Knie"})
    with pytest.raises(UserError, match=r"no bone found for left_knee; its bones are Knie, .*--map=FILE") as error:
        read_character(path)
    assert "\n" not in str(error.value) and "mixamorig:Hips" in str(error.value)
    with pytest.raises(UserError, match="no bone found for pelvis, spine, head, left_hip"):
        read_character(write_character(tmp_path / "b.glb", naming))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "expected a JSON object"),
        ('{"left_thigh": "x"}', "'left_thigh' is no joint: expected one of spine, neck, pelvis"),
        ('{"left_knee": 3}', "expected one name of bones for left_knee"),
        ('{"left_knee": ["mixamorig:Hips", "mixamorig:Spine"]}', "expected one name"),
        ('{"spine": []}', "expected one or several names"),
        ('{"left_knee": "Knie"}', "has no node 'Knie'"),
        ('{"left_knee": "mixamorig:RightLeg"}', "left_knee and right_knee are the same bone"),
    ],
)
def test_a_map_that_cannot_be_used(text, said, character, tmp_path):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(said)):
        read_character(character, tmp_path / "map.json")


@pytest.fixture(scope="module")
def character(tmp_path_factory):
    return write_character(tmp_path_factory.mktemp("character") / "a.glb", NAMINGS["mixamo"])


def circle(document):
    document["nodes"][1]["children"].append(1)


def away(document):
    document["skins"][0]["joints"][3] = 9999


def beyond(document):
    document["bufferViews"][document["accessors"][0]["bufferView"]]["byteOffset"] = 10**12


def huge(document):
    document["accessors"][document["skins"][0]["inverseBindMatrices"]]["count"] = 10**14


def flat(document):
    document["nodes"][5]["matrix"] = [0.0] * 16


def texts(document):
    document["nodes"][5]["translation"] = ["a", "b", "c"]


def nested(document):
    document["nodes"][2]["children"] = {"a": 1}


def endless(document):
    document["nodes"][5]["translation"] = [1e308, 1e308, 1e308]
    document["nodes"][4]["scale"] = [1e308] * 3


@pytest.mark.parametrize("change", [circle, away, beyond, huge, flat, texts, nested, endless])
def test_a_damaged_file_is_one_line(change, character, tmp_path):
    path = tmp_path / "a.glb"
    path.write_bytes(character.read_bytes())
    with pytest.raises(UserError, match="is damaged, or no glTF"):
        read_character(edited(path, change))


def test_the_character_itself_is_not_written_over(character, motion, body):
    with pytest.raises(UserError, match="is the character itself"):
        write_retargeted(character, motion, body, read_character(character))


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_beside_the_motion(character, motion, body, tmp_path, capsys):
    save_motion(tmp_path / "motion.npz", motion, up="z", pelvis=joints_of(motion)[0, 0] * 0)
    command.main([str(tmp_path), str(character)])
    out = tmp_path / "motion-a.glb"
    said = capsys.readouterr().out
    assert "52 bones" in said and "(Mixamo)" in said and f"wrote {out}: 9 frames at 30 a second" in said
    assert worst_angle(Played(out), motion, NAMINGS["mixamo"])[0] < 0.02


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{motion}"], "name a motion and a character"),
        (["{motion}", "{character}", "--out=a.vrm"], "expected a name that ends with .glb"),
        (["{motion}", "nowhere.glb"], "nowhere.glb cannot be read: No such file"),
        (["{character}", "{character}"], "cannot be read as an npz file"),
        (["{motion}", "{character}", "--mop=x"], "did you mean --map?"),
        (["{motion}", "{character}", "--out=/nowhere/a.glb"], "/nowhere/a.glb cannot be written"),
    ],
)
def test_the_command_refuses_in_one_line(words, said, character, motion, tmp_path, capsys):
    save_motion(tmp_path / "m.npz", motion)
    with pytest.raises(SystemExit) as stopped, ending_in_one_line():
        command.main([word.format(motion=tmp_path / "m.npz", character=character) for word in words])
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and said in printed and printed.count("\n") == 1
