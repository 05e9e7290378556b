"""What a run in latent mode leaves: the decoded video beside its controls, and the latents."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from md_jax.config import Config
from md_jax.files import make_folder, write_bytes
from md_jax.fit.problems import LatentProblem
from md_jax.fit.train import TrainState
from md_jax.output import sheet
from md_jax.output.pictures import RenderFrames
from md_jax.output.video import write_mp4
from md_jax.run.build import Job
from md_jax.run.logs import read_metrics
from md_jax.run.torch_side import peak_memory
from md_jax.run.workdir import motion_number, write_json

TILE_HEIGHT, VIDEO_HEIGHT = 192, 384  # pixels; a small video is shown with large pixels
FIRST, UNGUIDED = "first render", "guidance 0"


def files(config: Config, several: bool) -> tuple[str, ...]:
    """A line for each file that a run leaves (see `md_jax.run.results.Results`)."""
    beside = "its controls: the first render, and guidance 0" if config.control_run else "its control, the first render"
    return (
        f"sheet.png     the optimised video beside {beside}",
        "video.mp4     the first render and the optimised video",
        "latents.npz   z (C, f, h, w) in the prior's own scale, the decoded video, fps, prompt",
        f"summary.json  final losses, how much the pictures change;  {'../' * several}metrics.jsonl  every logged step",
    )


def write_outputs(
    job: Job, folder: Path, state: TrainState, control: TrainState | None, render_frames: RenderFrames
) -> list[Path]:
    """Write the outputs of every motion: into `folder` itself for one, into `motion-00/` … for several.

    Returns:
        The folder of each motion.

    Raises:
        UserError: a file cannot be written.
    """
    config, count, problem = job.config, len(job.prompts), job.problem
    assert isinstance(problem, LatentProblem)
    videos, controls = problem.decode(state.params["z"]), {FIRST: problem.decode(job.params["z"])}
    if control is not None:
        controls[UNGUIDED] = problem.decode(control.params["z"])
    last = (read_metrics(folder) or [{}])[-1]
    folders = []
    for m in range(count):
        target = folder if count == 1 else folder / f"motion-{config.first_motion + m:02d}"
        make_folder(target)
        subtitle = (
            f"latent mode, {config.prior} prior, {config.distillation}, guidance {config.guidance_scale:g},"
            f" {config.steps} steps, seed {config.seed}" + motion_number(config, m, count)
        )
        clips = {"this run": videos[m], **{label: clip[m] for label, clip in controls.items()}}
        rows = [
            sheet.Row(label, note, enlarged(clip, TILE_HEIGHT), accent=label == "this run")
            for (label, clip), note in zip(
                clips.items(), ("decoded latents", "held still", "no sentence"), strict=False
            )
        ]
        seconds = [f / job.fps for f in range(videos.shape[1])]
        image = sheet.draw_sheet(job.prompts[m], subtitle, rows, seconds)
        write_bytes(target / "sheet.png", sheet.encode_png(image))
        side_by_side = {name: enlarged(clips[name], VIDEO_HEIGHT) for name in (FIRST, "this run")}
        write_mp4(target / "video.mp4", sheet.draw_views(side_by_side, job.prompts[m]), job.fps)
        buffer = io.BytesIO()
        np.savez(buffer, z=np.asarray(state.params["z"][m]), video=videos[m], fps=job.fps, prompt=job.prompts[m])
        write_bytes(target / "latents.npz", buffer.getvalue())
        summary = {
            "prompt": job.prompts[m],
            "mode": "latent",
            "steps": int(state.step),
            "skipped_steps": int(state.skipped[m]),
            "final": {name: value[m] for name, value in last.items() if isinstance(value, list)},
            "frame_change": frame_change(videos[m]),
            "controls": {label: {"frame_change": frame_change(clip[m])} for label, clip in controls.items()},
            "peak_memory_mib": peak_memory(),
            **job.measured,
        }
        write_json(target / "summary.json", summary)
        folders.append(target)
    return folders


def write_preview(
    path: Path, job: Job, shown: Float[Array, "M C f h w"], caption: str, render_frames: RenderFrames
) -> None:
    """Write a small picture of the videos as they are; the first four motions."""
    assert isinstance(job.problem, LatentProblem)
    strips = np.stack([enlarged(video, TILE_HEIGHT // 2) for video in job.problem.decode(shown[:4])])
    write_bytes(path, sheet.encode_png(sheet.draw_preview(strips, caption, job.prompts)))


def enlarged(video: UInt8[np.ndarray, "F H W 3"], height: int) -> UInt8[np.ndarray, "F h w 3"]:
    """A video at a height for people; its own pixels stay visible where they are large."""
    width = 2 * round(video.shape[2] * height / video.shape[1] / 2)
    grows = height > 2 * video.shape[1]
    how = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), how)) for frame in video])


def frame_change(video: UInt8[np.ndarray, "F H W 3"]) -> float:
    """Root mean square difference between consecutive frames, of 1 for black to white: 0 is a still."""
    return round(float(np.sqrt(np.mean(np.diff(video / 255.0, axis=0) ** 2))), 5)
