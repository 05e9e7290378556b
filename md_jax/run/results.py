"""What a run leaves, by its mode: the same three functions for a body that moves and for a video."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from jaxtyping import Array, Float

from md_jax.config import Config
from md_jax.fit.train import TrainState
from md_jax.output.pictures import RenderFrames
from md_jax.run import latent_outputs, outputs
from md_jax.run.build import Job


class Results(Protocol):
    """The functions of a module that writes what a mode leaves."""

    def files(self, config: Config, several: bool) -> tuple[str, ...]:
        """A line for each file, for the terminal; `several` if the run has several motions."""
        ...

    def write_outputs(
        self, job: Job, folder: Path, state: TrainState, control: TrainState | None, render_frames: RenderFrames
    ) -> list[Path]:
        """Write the outputs of every motion; returns the folder of each."""
        ...

    def write_preview(
        self, path: Path, job: Job, shown: Float[Array, "M *x"], caption: str, render_frames: RenderFrames
    ) -> None:
        """Write a small picture of the motions as they are (`md_jax.fit.train.Report.shown`)."""
        ...


RESULTS: dict[str, Results] = {"pose": outputs, "fit": outputs, "latent": latent_outputs}
