"""Motions in the browser: ``python -m md_jax.view [RUN ...]``; without a name the newest run under runs/.

One run opens its own page. Several runs, a study, a folder of motions or .npz files become a gallery: one html file
that needs no network. --live shows a run that is going on.
"""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from md_jax.errors import UserError
from md_jax.files import expanded, is_file, is_folder, make_folder, output_file, read_bytes, resolved, write_bytes
from md_jax.options.command import parse_simple

GALLERY = "gallery.html"
FLAGS: dict[str, Any] = {
    "live": (False, "Show a run while it is going on, on this machine alone; Ctrl-C ends it."),
    "port": (0, "With --live: the port; 0: any free one."),
    "out": (
        "",
        f"Write the page there; default: a run's own page stays where it is, a gallery becomes {GALLERY} here.",
    ),
    "no_open": (False, "Open no browser; only say where the page is."),
    "body": ("free", "Body of a gallery: 'free' or an SMPL-X .npz file or folder."),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Find, write, open.

    Args:
        argv: what follows the program's name; default: the command line.

    Raises:
        UserError: there is no such run, it has no motion yet, or a page cannot be written.
    """
    options = parse_simple(__doc__, "md_jax.view", argv, rest="runs", **FLAGS)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a run that is going on keeps its GPU to itself
    paths = [expanded(name) for name in options.runs]
    if not paths:
        from md_jax.run.workdir import RUNS, newest_run

        newest = newest_run()
        if newest is None:
            raise UserError(f"there is no run under {RUNS.resolve()}. Name a run's folder.")
        paths = [newest]
        print(newest)
    if options.live:
        if len(paths) > 1 or not is_folder(paths[0]):
            raise UserError(f"--live shows one run's folder, got {', '.join(map(str, paths))}.")
        if not 0 <= options.port < 2**16:
            raise UserError(f"--port takes a number from 0 to {2**16 - 1}, got {options.port}.")
        from md_jax.view.serve import serve

        serve(paths[0], options.port, lambda address: show(address, not options.no_open))
        return
    page = write(paths, options.out, options.body)
    show(page, not options.no_open)


def write(paths: Sequence[Path], out: str, body: str) -> Path:
    """The page of some paths: the run's own where one run is named, else a gallery, which is written.

    Raises:
        UserError: there is nothing to show, or the page cannot be written.
    """
    from md_jax.page.page import LARGEST_PAGE, write_page
    from md_jax.view.sources import find_sources, gallery, page_of_run

    own = page_of_run(paths)
    if own is not None and not out:
        return own
    target = output_file(out) if out else Path(GALLERY)
    make_folder(target.parent)
    if own is not None:
        write_bytes(target, read_bytes(own, LARGEST_PAGE))
        return target
    if not out and is_file(target) and b"md_jax" not in read_bytes(target, LARGEST_PAGE)[:1000]:
        raise UserError(f"{target} is there and no gallery of ours: name another file with --out.")
    sources = find_sources(paths)
    from md_jax.body.model import load_body

    shape = load_body(body)
    shown = gallery(sources, shape, resolved(target).parent, lambda text: print(f"note: {text}", file=sys.stderr))
    title = shown[0].title if len(shown) == 1 else f"{len(shown)} motions"
    write_page(target, title, shape, shown)
    return target


def show(place: Path | str, wanted: bool) -> None:
    """Open a page or an address in the browser, and say which; where there is no browser, that is all."""
    address = place if isinstance(place, str) else resolved(place).as_uri()
    opened = wanted and _has_screen() and webbrowser.open(address)
    print(f"opened {place}" if opened else place, flush=True)


def _has_screen() -> bool:
    """Whether a window could appear; a browser in the terminal shows no three-dimensional pictures."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
