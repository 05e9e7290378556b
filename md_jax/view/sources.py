"""What the paths of a command line mean: a run, a study, a folder of motions, one motion; and the gallery of them."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from md_jax.body.model import Body
from md_jax.errors import UserError
from md_jax.files import expanded, files_under, is_file, is_folder, resolved
from md_jax.ground.floor import on_floor
from md_jax.mocap.motion import Motion, load_motion, resample
from md_jax.outside.lock import is_held
from md_jax.page.page import PAGE
from md_jax.page.scene import MOST_MOTIONS, Shown
from md_jax.run.workdir import FLAGS_FILE

LONGEST = 20.0  # seconds of a motion that a gallery plays: a page should open at once
FPS = 30.0  # of a gallery's motions at most
LOOKED_AT = 24  # frames that say where the floor is
FRAMES = ("body_pose", "root_orient", "transl", "face_and_hands")  # arrays of a motion with an axis of frames


@dataclasses.dataclass(frozen=True)
class Source:
    """A motion file, and the page of the run that it comes from, if there is one."""

    motion: Path
    page: Path | None

    @property
    def name(self) -> str:
        """How it is called where it has no sentence: "walk", or for runs their folder."""
        return self.motion.parent.name or "motion" if self.motion.name == "motion.npz" else self.motion.stem

    @property
    def number(self) -> str:
        """ "0003" or "0003/02", its number under runs/ and among the run's motions; "" elsewhere: two may have one
        sentence."""
        found = next(
            (re.match(r"(\d{4})-", folder.name) for folder in self.motion.parents if folder.parent.name == "runs"), None
        )
        among = re.fullmatch(r"motion-(\d+)", self.motion.parent.name)
        return (found[1] + (f"/{among[1]}" if among else "")) if found else ""


def page_of_run(paths: Sequence[Path]) -> Path | None:
    """The page of the run that the paths name; None where they name something else, or the run has no page."""
    if len(paths) == 1 and is_file(paths[0] / FLAGS_FILE) and is_file(paths[0] / PAGE):
        return paths[0] / PAGE
    return None


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """The motions at some paths: files as they are, and every .npz below a folder, sorted; each once.

    Raises:
        UserError: there is nothing at a path, or no motion.
    """
    found: list[Path] = []
    for path in paths:
        path = expanded(path)
        if is_file(path):
            if path.suffix != ".npz":
                raise UserError(f"{path} is no motion: expected a run's folder, a folder of motions, or an .npz file.")
            inside = [path]
        elif is_folder(path):
            inside = files_under(path, ".npz")
        else:
            raise UserError(f"there is no run and no motion at {path}.")
        if not inside:
            raise UserError(_why_empty(path))
        found += inside
    each_once = {resolved(path): path for path in reversed(found)}  # under the name that came first
    return [Source(path, _page_beside(path)) for path in reversed(each_once.values())]


def gallery(
    sources: Sequence[Source], body: Body, beside: Path, tell: Callable[[str], None] = lambda text: None
) -> list[Shown]:
    """The motions of a gallery, all on one body, on the floor, at most `LONGEST` seconds of each.

    Args:
        sources: where they lie; of very many the first `MOST_MOTIONS`.
        body: that shows them; the shape that a file names is another body's, and is left aside.
        beside: the gallery's folder, from which it links to the runs' pages.
        tell: called with what is left out.

    Raises:
        UserError: none of them is a motion, or the only one is damaged.
    """
    shown: list[Shown] = []
    for number, source in enumerate(sources):
        if len(shown) == MOST_MOTIONS:
            tell(f"the first {MOST_MOTIONS} motions are shown; {len(sources) - number} files more are left out")
            break
        try:
            motion = load_motion(source.motion)
        except UserError:
            if len(sources) == 1:
                raise
            tell(f"{source.motion} is left out: it is no motion")
            continue
        link = "" if source.page is None else Path(os.path.relpath(source.page, beside)).as_posix()
        shown.append(
            Shown(motion.prompt or source.name, _standing(_short(motion), body), page=link, note=source.number)
        )
    if not shown:
        raise UserError(f"none of the {len(sources)} .npz files is a motion.")
    return shown


def _short(motion: Motion) -> Motion:
    """The beginning of a motion, at no more frames a second than a page needs, in the body's own shape."""
    frames = slice(0, max(1, round(LONGEST * motion.fps) + 1))
    arrays = {name: getattr(motion, name)[frames] for name in FRAMES}
    # it starts in the middle, wherever the studio had its origin
    start = arrays["transl"][0] * np.array([1, 0, 1], np.float32)
    arrays["transl"] = arrays["transl"] - start
    cut = dataclasses.replace(motion, **arrays, betas=np.zeros(0, np.float32))
    return resample(cut, FPS) if cut.fps > FPS else cut


def _standing(motion: Motion, body: Body) -> Motion:
    """The motion with its lowest vertex on the floor, as some of its frames tell: always as many of them, as each new
    number would be compiled anew."""
    some = np.linspace(0, len(motion.transl) - 1, LOOKED_AT).round().astype(int)
    arrays = {name: getattr(motion, name)[some] for name in FRAMES}
    probe = dataclasses.replace(motion, **arrays)
    return dataclasses.replace(motion, transl=motion.transl + (on_floor(probe, body).motion.transl - probe.transl)[0])


def _page_beside(motion: Path) -> Path | None:
    """The page of the run that a motion lies in: in its folder, or above the folder of one of several motions."""
    if motion.name != "motion.npz":
        return None
    folders = [motion.parent, *([motion.parent.parent] if motion.parent.name.startswith("motion-") else [])]
    return next((folder / PAGE for folder in folders if is_file(folder / PAGE)), None)


def _why_empty(folder: Path) -> str:
    if not is_file(folder / FLAGS_FILE):
        return f"no motion (.npz) lies in {folder}."
    if is_held(folder):
        return f"the run in {folder} has no motion yet: add --live to see it as it changes."
    return (
        f"the run in {folder} was stopped before its motion was written: --workdir={folder} --resume goes on with it."
    )
