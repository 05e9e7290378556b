"""Rendered pictures of motions: the sheet, the frames of the video, previews.

The torch side (`bridge.render.snapshots`) renders; it is imported inside `make_renderer` only, and every other function
takes the renderer as an argument.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from md_jax.body.detail import Surface
from md_jax.body.model import Body
from md_jax.body.rotations import axis_angle_to_matrix
from md_jax.files import write_bytes
from md_jax.ground.flight import smooth
from md_jax.mocap.motion import Motion
from md_jax.mocap.windows import evenly
from md_jax.output import sheet
from md_jax.output.grid import draw_grid

# Azimuths of the cameras, radians.
VIEWS = {"front": 0.0, "left": 0.5 * math.pi, "back": math.pi, "right": 1.5 * math.pi}
FOV = math.radians(25.0)
MARGIN = 1.1  # free space around the body, as a factor
# Pixels. One tile's, except that the video's width is that of all views together.
SHEET_HEIGHT, SHEET_WIDTH = 256, 208
VIDEO_HEIGHT, VIDEO_WIDTH = 420, 1280
PREVIEW_HEIGHT = 96
WORTH = 1.15  # so much larger bodies must come out for the camera to go along
CALM = 0.4  # s, standard deviation: the video's camera goes where the body goes, and does not sway with it


@dataclasses.dataclass(frozen=True)
class Framing:
    """A camera's place and its picture's size: the same for everything that is to be compared.

    Args:
        target: the point looked at, metres.
        distance: metres from there.
        height, width: pixels.
    """

    target: tuple[float, float, float]
    distance: float
    height: int
    width: int


RenderFrames = Callable[[np.ndarray, float, Framing], np.ndarray]
"""(vertices (F,V,3) metres, azimuth in radians, framing) -> (F,H,W,3) uint8."""


def make_renderer(body: Body | Surface, device: str = "cpu") -> RenderFrames:
    """The renderer of the pictures, on the torch side.

    Args:
        body: whose triangles and colours are drawn.
        device: "cpu" or "cuda".
    """
    from bridge.render.snapshots import make_painter

    background = (sheet.PANEL[0] / 255, sheet.PANEL[1] / 255, sheet.PANEL[2] / 255)
    one_at_a_time = threading.Lock()

    @functools.cache
    def painter() -> Callable[..., np.ndarray]:  # made for the first picture: a run that draws none needs none
        return make_painter(
            np.asarray(body.triangles), np.asarray(body.vertex_colors), background=background, device=device
        )

    def render_frames(vertices: np.ndarray, azimuth: float, framing: Framing) -> np.ndarray:
        with one_at_a_time:
            return painter()(
                vertices,
                azimuth=azimuth,
                fov=FOV,
                distance=framing.distance,
                target=np.asarray(framing.target),
                height=framing.height,
                width=framing.width,
            )

    return render_frames


def frame_all(
    clips: Sequence[Float[np.ndarray, "F V 3"]],
    azimuths: Sequence[float],
    height: int,
    *,
    max_width: int | None = None,
) -> Framing:
    """A level camera that shows every vertex of every clip from every azimuth, as large as fits.

    Args:
        clips: vertices in metres.
        azimuths: radians.
        height: of the picture in pixels; its width follows the bodies' proportions (0.55 to 1.1 heights).
        max_width: pixels; a picture that would be wider is made smaller as a whole.
    """
    low = np.min([clip.min((0, 1)) for clip in clips], axis=0)
    high = np.max([clip.max((0, 1)) for clip in clips], axis=0)
    target = (low + high) / 2
    across, up, toward = [], [], []
    for clip in clips:
        x, y, z = np.moveaxis(np.asarray(clip, np.float64) - target, -1, 0)
        for azimuth in azimuths:
            across.append(np.abs(x * math.cos(azimuth) - z * math.sin(azimuth)).ravel())
            toward.append((x * math.sin(azimuth) + z * math.cos(azimuth)).ravel())
            up.append(np.abs(y).ravel())
    sides, ups, depths = np.concatenate(across), np.concatenate(up), np.concatenate(toward)
    aspect = float(np.clip(sides.max() / max(ups.max(), 1e-6), 0.55, 1.1))
    if max_width is not None:
        height = min(height, int(max_width / aspect))
    height, width = 2 * round(height / 2), 2 * round(height * aspect / 2)
    slope = math.tan(FOV / 2) / MARGIN
    distance = float(np.max(depths + np.maximum(ups, sides * height / width) / slope))
    return Framing(tuple(float(c) for c in target), distance, height, width)  # type: ignore[arg-type]


def frame_closer(
    clips: Sequence[Float[np.ndarray, "F V 3"]],
    azimuths: Sequence[float],
    height: int,
    *,
    max_width: int | None = None,
) -> tuple[list[Float[np.ndarray, "F V 3"]], Framing]:
    """`frame_all`, with a camera that goes along where that shows the bodies a good deal larger: those that travel or
    turn over. The clips come back as that camera sees them: each frame moved to the middle, at its own height.
    """
    still = frame_all(clips, azimuths, height, max_width=max_width)
    moved = [clip - _middles(clip)[:, None] for clip in clips]
    along = frame_all(moved, azimuths, height, max_width=max_width)
    return (moved, along) if _is_closer(along, still) else (list(clips), still)


def _middles(clip: Float[np.ndarray, "F V 3"]) -> Float[np.ndarray, "F 3"]:
    """Where a body is along the floor: the middle of its vertices' range, y = 0."""
    return (clip.min(1) + clip.max(1)) / 2 * np.array([1, 0, 1])


def _is_closer(along: Framing, still: Framing) -> bool:
    """Whether a camera that goes along shows bodies so much larger that it should."""
    return along.height / along.distance > WORTH * still.height / still.distance


def names_of_views(motions: Sequence[Motion]) -> dict[str, str]:
    """What captions call each of `VIEWS`: "from its left" as long as every body keeps facing the camera in front, its
    sides within 60 degrees of their cameras; else by the camera, as --azimuths counts: "camera at 90°"."""
    turns = [np.asarray(axis_angle_to_matrix(jnp.asarray(motion.root_orient))) for motion in motions]
    if all((turn[:, (0, 2), (0, 2)] >= 0.5).all() for turn in turns):
        return {"front": "from the front", "left": "from its left", "back": "from behind", "right": "from its right"}
    return {view: f"camera at {math.degrees(azimuth):.0f}°" for view, azimuth in VIEWS.items()}


def write_sheet(
    path: Path,
    motion: Motion,
    vertices: Float[np.ndarray, "F V 3"],
    controls: Mapping[str, Float[np.ndarray, "F V 3"]],
    render_frames: RenderFrames,
    *,
    names: Mapping[str, str],
    subtitle: str = "",
    views: tuple[str, str] = ("front", "left"),
    height: int = SHEET_HEIGHT,
) -> None:
    """Write sheet.png: the motion from two views, and each control from the second of them.

    Args: see `export_motion`; `vertices` (F,V,3) are the motion's, `height` is that of a tile in pixels, `names` what
    the views are called (`names_of_views`). Of long motions the sheet shows evenly spread frames.
    """
    shown = evenly(len(vertices), sheet.MAX_FRAMES)
    vertices, controls = vertices[shown], {label: clip[shown] for label, clip in controls.items()}
    azimuths = [VIEWS[view] for view in views]
    clips, framing = frame_closer([vertices, *controls.values()], azimuths, height, max_width=SHEET_WIDTH)
    vertices, controls = clips[0], dict(zip(controls, clips[1:], strict=True))
    strips = [("this run", vertices, view, True) for view in views]
    strips += [(label, clip, views[1], False) for label, clip in controls.items()]
    rows = [
        sheet.Row(label, names[view], render_frames(clip, VIEWS[view], framing), accent)
        for label, clip, view, accent in strips
    ]
    image = sheet.draw_sheet(motion.prompt, subtitle, rows, [f / motion.fps for f in shown.tolist()])
    write_bytes(path, sheet.encode_png(image))


def follow(
    vertices: Float[np.ndarray, "F V 3"], fps: float
) -> tuple[Float[np.ndarray, "F V 3"], Float[np.ndarray, "F 3"]]:
    """(a body as a camera sees it that goes along the floor with it, the camera's path), metres. The path is smooth."""
    path = smooth(_middles(vertices), CALM * fps)
    return vertices - path[:, None], path


def film(
    moved: Float[np.ndarray, "F V 3"],
    path: Float[np.ndarray, "F 3"],
    azimuth: float,
    framing: Framing,
    render_frames: RenderFrames,
) -> UInt8[np.ndarray, "F H W 3"]:
    """Pictures of what `follow` gives, over lines on the floor."""
    pictures = render_frames(moved, azimuth, framing)
    return draw_grid(pictures, path, azimuth=azimuth, fov=FOV, distance=framing.distance, target=framing.target)


def render_views(
    vertices: Float[np.ndarray, "F V 3"],
    fps: float,
    title: str,
    render_frames: RenderFrames,
    *,
    names: Mapping[str, str],
    views: Sequence[str] = tuple(VIEWS),
    height: int = VIDEO_HEIGHT,
) -> UInt8[np.ndarray, "F h w 3"]:
    """The frames of a video: the motion from several views side by side on a floor, with labels and the prompt. The
    camera goes along with a body that travels."""
    azimuths = [VIEWS[view] for view in views]
    width = VIDEO_WIDTH // len(views)
    moved, path = follow(vertices, fps)
    still, along = (frame_all([clip], azimuths, height, max_width=width) for clip in (vertices, moved))
    if not _is_closer(along, still):
        moved, path, along = vertices, np.zeros_like(path), still
    tiles = {names[view]: film(moved, path, VIEWS[view], along, render_frames) for view in views}
    return sheet.draw_views(tiles, title)


def write_preview(
    path: Path,
    vertices: Float[np.ndarray, "M F V 3"],
    render_frames: RenderFrames,
    caption: str,
    *,
    view: str = "left",
    max_motions: int = 4,
    max_frames: int = 8,
    prompts: Sequence[str] = (),
) -> None:
    """Write a small picture of the motions as they are during training.

    Args:
        path: a .png file.
        vertices: metres; the first `max_motions` motions and `max_frames` evenly spread frames are drawn.
        render_frames: see `make_renderer`.
        caption: one line, such as "step 100 of 300".
        view: a name in `VIEWS`.
        prompts: of each motion, written above it.
    """
    frames = evenly(vertices.shape[1], max_frames)
    chosen = np.asarray(vertices)[:max_motions][:, frames]
    clips, framing = frame_closer(list(chosen), [VIEWS[view]], PREVIEW_HEIGHT)
    strips = np.stack([render_frames(clip, VIEWS[view], framing) for clip in clips])
    write_bytes(path, sheet.encode_png(sheet.draw_preview(strips, caption, prompts)))
