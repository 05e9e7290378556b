"""Runs inside Blender (a Python that has bpy, or `blender --background --python`): takes a JSON list of tasks from the
file named last, and writes what Blender made of each beside it, as "<file>.out". It imports nothing of ours."""

import json
import sys
from pathlib import Path

import bpy


def imported(task):
    """Import a file as a person would, and read the bones' heads in the world, frame by frame."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    if "fps" in task:
        scene.render.fps = task["fps"]
    if task["file"].endswith(".bvh"):
        bpy.ops.import_anim.bvh(filepath=task["file"], **task.get("options", {}))
    else:
        path = task["file"]
        bpy.ops.import_scene.gltf(filepath=path, **task.get("options", {}))
    rig = next(o for o in scene.objects if o.type == "ARMATURE")
    if "action" in task:
        action = bpy.data.actions[task["action"]]
        rig.animation_data.action = action
        rig.animation_data.action_slot = action.slots[0]
        for track in rig.animation_data.nla_tracks:
            track.mute = True
    else:
        action = rig.animation_data.action
    first, last = (round(x) for x in action.frame_range)
    heads, lowest = [], []
    for frame in range(first, last + 1):
        scene.frame_set(frame)
        view = bpy.context.evaluated_depsgraph_get()
        posed = rig.evaluated_get(view)
        heads.append({bone.name: list(posed.matrix_world @ bone.head) for bone in posed.pose.bones})
        meshes = [o.evaluated_get(view) for o in scene.objects if o.type == "MESH" and o.name not in ("Icosphere",)]
        lowest.append(min((min((m.matrix_world @ v.co).z for v in m.data.vertices) for m in meshes), default=None))
    return {"heads": heads, "lowest": lowest, "fps": scene.render.fps / scene.render.fps_base,
            "frames": list(action.frame_range), "actions": [a.name for a in bpy.data.actions]}  # fmt: skip


def metarig(task):
    """Rigify's human skeleton with a mesh that has a vertex at every bone, written by Blender's own exporter."""
    import addon_utils

    bpy.ops.wm.read_factory_settings(use_empty=True)
    addon_utils.enable("rigify", default_set=False)
    addon_utils.enable("io_scene_gltf2", default_set=False)
    bpy.ops.object.armature_human_metarig_add()
    rig = bpy.context.object
    bones = list(rig.data.bones)
    points = [
        corner for b in bones for corner in (b.head_local, b.tail_local, b.head_local + b.matrix_local.col[0].xyz / 99)
    ]
    mesh = bpy.data.meshes.new("figure")
    mesh.from_pydata([p[:] for p in points], [], [(3 * n, 3 * n + 1, 3 * n + 2) for n in range(len(bones))])
    figure = bpy.data.objects.new("figure", mesh)
    bpy.context.scene.collection.objects.link(figure)
    for n, bone in enumerate(bones):
        figure.vertex_groups.new(name=bone.name).add([3 * n, 3 * n + 1, 3 * n + 2], 1.0, "REPLACE")
    figure.parent = rig
    figure.modifiers.new("rig", "ARMATURE").object = rig
    bpy.ops.export_scene.gltf(filepath=task["file"], export_format="GLB")
    return {"bones": [b.name for b in bones]}


if __name__ == "__main__":
    listed = Path(sys.argv[-1])
    tasks = json.loads(listed.read_text())
    results = [{"import": imported, "metarig": metarig}[task["do"]](task) for task in tasks]
    listed.with_name(listed.name + ".out").write_text(json.dumps(results))
