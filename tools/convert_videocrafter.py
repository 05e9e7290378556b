"""Convert VideoCrafter's model.ckpt into a diffusers folder, which loads faster.

    python -m tools.convert_videocrafter CKPT OUT_FOLDER [--dtype=float16]

    python -m md_jax.main --prior=videocrafter2 --prior_path=OUT_FOLDER

VideoCrafter 2's folder is an ordinary one, for 8 frames a second; beside what diffusers reads, unet/ keeps the
network that embeds the frame rate, so md_jax can use any other. VideoCrafter 1 has a UNet that diffusers does not know.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from bridge.priors.spec import PriorError
from bridge.priors.videocrafter.checkpoint import BETA_END, BETA_START, STEPS, load_checkpoint
from bridge.priors.videocrafter.clip_text import OpenClipTokenizer
from bridge.priors.videocrafter.prior import FPS, scale_end
from bridge.priors.videocrafter.unet import fold_fps, save_unet
from md_jax.options.command import parse_simple, stop
from md_jax.run.torch_side import run_program


def convert(checkpoint_path: Path, folder: Path, dtype: torch.dtype = torch.float16) -> str:
    """Write the diffusers folder of a checkpoint.

    Args:
        checkpoint_path: the original model.ckpt.
        folder: where to write; it must not exist, or be empty.
        dtype: precision of the weights that are written.

    Returns:
        The name of the prior that reads the folder.

    Raises:
        PriorError: the checkpoint cannot be read, or the folder holds something.
    """
    from diffusers import DDIMScheduler

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PriorError(f"{folder} exists and is no empty folder: name another, or remove it.")
    checkpoint = load_checkpoint(checkpoint_path, dtype)
    name = "videocrafter1" if checkpoint.additions.relative_positions else "videocrafter2"
    if checkpoint.additions.fps_embedding:
        fold_fps(checkpoint.unet, FPS)
    save_unet(checkpoint.unet, checkpoint.additions, folder / "unet")
    checkpoint.vae.save_pretrained(folder / "vae")
    checkpoint.text_encoder.save_pretrained(folder / "text_encoder")
    OpenClipTokenizer().save_pretrained(folder / "tokenizer")
    scheduler: Any = DDIMScheduler(
        num_train_timesteps=STEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.save_pretrained(folder / "scheduler")
    end = scale_end(name, checkpoint.additions) if checkpoint.scale is None else float(checkpoint.scale[-1])
    _write(folder / "prior.json", {"latent_scale_end": end})
    plain = name == "videocrafter2"
    # the index comes last: a folder without it is not taken for a whole one
    _write(folder / "model_index.json", {
        "_class_name": "TextToVideoSDPipeline",
        "unet": ["diffusers", "UNet3DConditionModel"] if plain else ["bridge", "VideoCrafter1UNet"],
        "vae": ["diffusers", "AutoencoderKL"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    })  # fmt: skip
    return name


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    args = parse_simple(
        __doc__, "tools.convert_videocrafter", rest="files",
        dtype=(("float16", "float32", "bfloat16"), "precision of the weights"),
    )  # fmt: skip
    if len(args.files) != 2:
        stop(f"a checkpoint and a folder to write are expected, got {len(args.files)}: CKPT OUT_FOLDER.")
    checkpoint, folder = map(Path, args.files)
    name = convert(checkpoint, folder, getattr(torch, args.dtype))
    print(f"wrote {folder}; use it with --prior={name} --prior_path={folder}")


if __name__ == "__main__":
    run_program(main)
