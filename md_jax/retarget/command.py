"""A motion on your own character: ``python -m md_jax.retarget runs/0001-a-person-is-walking CHARACTER.glb``.

Takes a motion (a run's motion.npz or its folder, or any AMASS-style file) and a rigged .glb or .vrm, and writes the
character's file with the motion as one animation more. Bones are found by their names: Mixamo, VRM, Unreal, Rigify,
SMPL-X and others; --map names those that are called something else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from md_jax.errors import UserError
from md_jax.files import expanded, is_folder, output_file
from md_jax.options.command import parse_simple

FLAGS: dict[str, Any] = {
    "out": ("", "The new file; empty: beside the motion, named after it and the character."),
    "map": ("", 'A JSON file of bones by joint, {"left_hip": "thigh_L", "spine": ["Spine1", "Spine2"]}; what it leaves'
                " out is found by name."),
    "body": ("free", "The body that the motion was made for: 'free', or an SMPL-X .npz file or folder."),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, carry over, write and tell, inside `md_jax.options.command.program`.

    Args:
        argv: what follows the program's name; default: the command line.

    Raises:
        UserError: what the user can put right.
    """
    options = parse_simple(__doc__, "md_jax.retarget", argv, rest="motion_and_character", **FLAGS)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)  # it tells of accelerators that are not there
    if len(options.motion_and_character) != 2:
        raise UserError("name a motion and a character: python -m md_jax.retarget MOTION.npz CHARACTER.glb")
    motion, character = options.motion_and_character
    print("\n".join(retarget(motion, character, options.out, options.map, options.body)))


def retarget(motion: str, character: str, out: str = "", map: str = "", body: str = "free") -> list[str]:
    """Put a motion on a character; arguments as the command's. Returns what there is to tell.

    Raises:
        UserError: a file cannot be read, used or written.
    """
    from md_jax.body.model import GENDERS, load_body
    from md_jax.mocap.motion import load_motion
    from md_jax.retarget.animate import read_character, write_retargeted

    source, figure = expanded(motion), expanded(character)
    source = source / "motion.npz" if is_folder(source) else source
    target = output_file(out) if out else source.with_name(f"{source.stem}-{figure.stem}{figure.suffix}")
    if target.suffix.lower() != figure.suffix.lower():
        raise UserError(f"--out={target}: expected a name that ends with {figure.suffix}, as the character's.")
    loaded = read_character(figure, expanded(map) if map else "")
    clip = load_motion(source)
    gender = clip.gender if clip.gender in GENDERS else "neutral"
    write_retargeted(target, clip, load_body(str(expanded(body)) if body != "free" else body, gender), loaded)
    bones = loaded.bones
    count = len(bones.joints) + len(bones.spine) + len(bones.neck)
    return [
        f"{count} bones of {figure} found ({bones.convention}): {len(bones.spine)} of the spine,"
        f" {sum('1' <= name[-1] <= '3' for name in bones.joints)} of the fingers",
        f"wrote {target}: {len(clip.transl)} frames at {clip.fps:g} a second",
    ]
