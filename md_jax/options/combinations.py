"""Which options a run reads: those that a combination leaves aside are refused when they are given, not dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from md_jax.config import CONTROLS, Config, kind_of
from md_jax.errors import UserError

# priors whose VAE encodes frame by frame
ONE_BY_ONE = ("modelscope", "zeroscope", "videocrafter1", "videocrafter2", "animatediff")


class Rule(NamedTuple):
    """Options that are read where `read` holds; elsewhere `instead` says why not, and what to do."""

    names: tuple[str, ...]
    read: Callable[[Config], bool]
    instead: str


# Read in every run, whatever the others are.
ALWAYS = (
    "num_motions", "first_motion", "seed", "control_run", "mode", "preset", "prompts_file", "prior", "prior_path",
    "view_prompts",
    "distillation", "distillation_weight", "guidance_scale", "t_min", "t_max", "t_schedule", "noise", "weighting",
    "motion_amp", "residual_clip", "image_prior", "action", "statistics", "root", "frames", "fps", "rotation",
    "body", "betas", "views", "azimuths", "elevation", "distance", "fov", "height", "width", "background",
    "supersample", "renderer", "antialias", "steps", "learning_rate", "optimizer", "schedule", "grad_clip",
    "max_bad_steps", "fixed_draws", "device", "dtype", "low_vram", "compile", "transport", "workdir", "resume",
    "log_every", "checkpoint_every", "preview_every",
)  # fmt: skip

# An option may stand in several rules: the first that does not hold is the one that is told.
RULES = (
    Rule(("prompt",), lambda c: not c.prompts_file, "the prompts come from --prompts_file: leave one of them out"),
    Rule(("source_prompt",), lambda c: c.distillation == "source", "only --distillation=source has a source"),
    Rule(("negative_prompt",), lambda c: c.distillation != "source",
         "--distillation=source leads away from --source_prompt"),
    Rule(("negative_prompt", "guidance_low"), lambda c: c.guidance_scale > 0, "there is no guidance at scale 0"),
    Rule(("guidance_low",), lambda c: c.image_prior == "none" or c.image_guidance_scale is not None,
         "the image prior has one scale: give it with --image_guidance_scale"),
    Rule(("image_prior_path", "image_weight", "image_frames", "image_size", "image_guidance_scale", "image_weighting"),
         lambda c: c.image_prior != "none", "say which image prior it is with --image_prior=sd15 or sd21"),
    Rule(("scale_arr",), lambda c: c.prior.startswith("videocrafter"), "only VideoCrafter scales its latents"),
    Rule(("sample_steps", "fit_steps", "fit_smoothness"), lambda c: c.mode == "fit",
         "only --mode=fit fits a body to a sample"),
    Rule(("frequencies", "bound", "bound_sigma", "posefield"), lambda c: c.mode != "latent",
         "--mode=latent optimises a video, and no PoseField"),
    Rule(("frequencies",), lambda c: c.posefield == "default",
         "--posefield=paper reads the raw frame index: add --posefield=default"),
    Rule(("reg_weight",), lambda c: c.mode != "latent", "--mode=latent has no poses to smooth"),
    Rule(("detail",), lambda c: c.mode != "latent", "--mode=latent draws the body once, with all of its triangles"),
    Rule(("seconds", "loop"), lambda c: c.mode != "latent", "--mode=latent makes one clip of the prior"),
    Rule(("loop",), lambda c: c.posefield == "default",
         "--posefield=paper reads the raw frame index, which never goes round: add --posefield=default"),
    Rule((*CONTROLS, "control_weight"), lambda c: c.mode != "latent",
         "--mode=latent optimises a video, which has no joints"),
    Rule(("control_weight",), lambda c: any(getattr(c, name) for name in CONTROLS),
         "nothing is asked for: add --pin, --keyframes, --start, --end, --path or --avoid"),
    Rule(("export_fps", "ground", "hands", "up", "character", "character_map"), lambda c: c.mode != "latent",
         "--mode=latent writes a video, and no motion file"),
    Rule(("character_map",), lambda c: bool(c.character), "it names the bones of a --character: say which"),
    Rule(("tiny_vae", "encode_chunk"), lambda c: c.mode != "latent", "--mode=latent sends no gradient through the VAE"),
    Rule(("encode_chunk",), lambda c: c.prior in ONE_BY_ONE,
         f"only the VAEs of {', '.join(ONE_BY_ONE)} encode frames one by one"),
    Rule(("prior_batch",), lambda c: not c.low_vram, "--low_vram gives the prior one clip at once"),
    Rule(("oom",), lambda c: c.device != "cpu", "--device=cpu has no GPU whose memory could be full"),
    Rule(("gender",), lambda c: c.body != "free", "the free body has one shape: name an SMPL-X folder with --body"),
)  # fmt: skip


def unread(config: Config) -> dict[str, str]:
    """The options that a run with this config does not read, and why."""
    found: dict[str, str] = {}
    for rule in RULES:
        if not rule.read(config):
            for name in rule.names:
                found.setdefault(name, rule.instead)
    return found


def refuse_unread(config: Config, given: Mapping[str, Any], default: Mapping[str, Any]) -> None:
    """Refuse an option that was given to no effect; one given as it is anyway changes nothing and may stand.

    Args:
        config: the run.
        given: the options that were given.
        default: what they would be otherwise.

    Raises:
        UserError: an option that this run does not read was given another value.
    """
    for name, reason in unread(config).items():
        if name in given and given[name] != default[name]:
            flag = f"--{'' if given[name] else 'no'}{name}" if kind_of(name)[0] is bool else f"--{name}"
            raise UserError(f"{flag} would do nothing here: {reason}.")
