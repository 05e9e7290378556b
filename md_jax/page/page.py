"""motion.html: one file that holds a motion, a player and how it was made; it needs no network and no server."""

from __future__ import annotations

import base64
import dataclasses
import html
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from md_jax.body.model import Body
from md_jax.files import MIB, is_folder, read_bytes, to_json, write_bytes
from md_jax.mocap.windows import evenly
from md_jax.page.scene import Shown, scene_of

PAGE = "motion.html"  # in a run's folder
LARGEST_PAGE = 512 * MIB
PREVIEWS = 8  # at most, evenly spread
PICTURE_LIMIT = 8 * 1024 * 1024  # bytes of one


@dataclasses.dataclass(frozen=True)
class Made:
    """How the motions of a page were made; what is empty is left out of the page.

    Args:
        facts: small print by name: prior, steps, seed.
        command: makes them again.
        curves: by name, the logged steps and the value at each.
        previews: by caption, PNG files.
        files: names of files beside the page, which it links to.
    """

    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    command: str = ""
    curves: Mapping[str, Sequence[tuple[int, float]]] = dataclasses.field(default_factory=dict)
    previews: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    files: Sequence[str] = ()


def write_page(path: Path, title: str, body: Body, shown: Sequence[Shown], made: Made | None = None) -> None:
    """Write a page.

    Args:
        path: the .html file.
        title: its head line.
        body: of all motions.
        shown: at least one motion.
        made: how they were made.

    Raises:
        UserError: the file cannot be written.
    """
    write_bytes(path, page(title, {**scene_of(body, shown), **data_of(made or Made())}).encode())


def page(title: str, data: Mapping[str, Any]) -> str:
    """The text of a page: template, style, three.js, player and data in one."""
    text = _asset("motion.html")
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _asset("motion.css"),
        "DATA": in_script(to_json({"title": title, **data})),
        "THREE": _asset("three.js"),
        "PLAYER": _asset("player.js"),
        "PAGE": _asset("motion.js"),
    }
    pieces = text.split("@@")  # text, name, text, name ... : what a part holds is never looked through again
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def in_script(text: str) -> str:
    """JSON that may stand inside a script element, whatever its texts hold."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def previews_in(folder: Path) -> dict[str, Path]:
    """The preview pictures of a run, evenly spread, by caption."""
    found = sorted((folder / "previews").glob("step-*.png")) if is_folder(folder / "previews") else []
    return {f"step {int(found[i].stem.rpartition('-')[2])}": found[i] for i in evenly(len(found), PREVIEWS)}


def curves_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Curves of logged metrics, each the mean over the motions: how hard the sentence pulls at the motion, and how much
    the motion changes with it."""
    names = {"loss": "loss", "guidance_rms": "pull of the sentence", "grad_norm": "gradient", "loss_reg": "roughness"}
    curves = {}
    for key, name in names.items():
        points = [(int(line["step"]), line[key]) for line in metrics if isinstance(line.get(key), list)]
        curve = [(step, sum(each) / len(each)) for step, each in points if each and None not in each]
        if len(curve) > 1:
            curves[name] = curve
    return curves


def data_of(made: Made) -> dict[str, Any]:
    """How the motions were made, as the page's data have it."""
    pictures = {
        caption: "data:image/png;base64," + base64.b64encode(read_bytes(path, PICTURE_LIMIT)).decode()
        for caption, path in made.previews.items()
    }
    return {
        "facts": dict(made.facts),
        "command": made.command,
        "curves": {name: [list(point) for point in curve] for name, curve in made.curves.items()},
        "previews": pictures,
        "files": list(made.files),
    }


def _asset(name: str) -> str:
    return (resources.files("md_jax") / "assets" / name).read_text(encoding="utf-8")
