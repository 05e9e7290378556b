"""The critic on a device that only pretends (python -m tests.bridge.pretend_device), for test_without_a_gpu.py.

torch's fake tensors know shape, dtype and device and compute nothing. On them it refuses what a GPU would refuse or
would have to wait for: an operation on tensors of two devices, ``.item()``, a boolean mask. Copies between host and
device, which a GPU makes in silence, are noted. The device is torch's spare one, since its builds for CPUs lack CUDA's
streams; registering it changes a process for good, so this is one of its own.
"""

import functools
import json
import sys
import tempfile
from pathlib import Path

import torch
import torch.utils.checkpoint
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

# Before bridge binds it: running activations anew is what torch itself cannot do on such a device.
torch.utils.checkpoint.checkpoint = lambda fn, *args, use_reentrant, preserve_rng_state, **kwargs: fn(*args, **kwargs)
NAME = "pretend"
_setup_privateuseone_for_python_backend(NAME)
torch.__future__.set_overwrite_module_params_on_conversion(True)
torch.__future__.set_swap_module_params_on_conversion(False)
torch.autograd.set_multithreading_enabled(False)  # a thread of its own for the device would need the device

from bridge import render  # noqa: E402
from bridge.critic import (  # noqa: E402
    DEFAULT,
    Batching,
    Stopwatch,
)
from bridge.distill import critic as critics  # noqa: E402
from bridge.distill import latents  # noqa: E402
from bridge.distill.objectives import Guidance  # noqa: E402
from bridge.distill.prompts import embed_prompts  # noqa: E402
from bridge.priors import Setup, load_prior  # noqa: E402
from bridge.render.mesh import make_mesh  # noqa: E402
from tests.bridge.distill import test_critic  # noqa: E402
from tests.bridge.priors import tiny_priors, tiny_transformers  # noqa: E402
from tests.bridge.priors import videocrafter_twin as twin  # noqa: E402

MODE = FakeTensorMode()
M, N = test_critic.M, test_critic.N
PICTURE, SHOWN = 16, 2  # of the image prior: pixels, and frames a clip


class Pretend(TorchFunctionMode):
    """Inside it tensors can be made on the device and moved there; `crossings` names the functions that moved any."""

    def __init__(self):
        super().__init__()
        self.crossings = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], FakeTensor):
            device = kwargs.pop("device", None) or "cpu"
            return self._move(func(*args, **kwargs), device, torch.Tensor.to, (device,), {})
        if func is torch.Tensor.to:
            plain = {name: value for name, value in kwargs.items() if name != "copy"}
            return self._move(args[0], torch._C._nn._parse_to(*args[1:], **plain)[0], func, args[1:], kwargs)
        if func is torch.Tensor.cpu:
            return self._move(args[0], "cpu", func, args[1:], kwargs)
        if NAME in str(kwargs.get("device")) or any(isinstance(x, FakeTensor) for x in tree_leaves((args, kwargs))):
            with MODE:
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _move(self, tensor, device, func, args, kwargs):
        if device is None or torch.device(device).type == tensor.device.type:
            return func(tensor, *args, **kwargs)
        self.crossings.append(sys._getframe(2).f_code.co_name)
        if not isinstance(tensor, FakeTensor):
            tensor = MODE.from_tensor(tensor.detach()).requires_grad_(tensor.requires_grad)
        with MODE:
            return func(tensor, *args, **kwargs)


class FlatRender:
    """Stands for the kernels: a picture of the vertices' mean, everything that it is given on the device."""

    @staticmethod
    def apply(vertices, scene):
        for tensor in (vertices, scene.rows, scene.eyes, scene.pixel, scene.background):
            assert tensor.device.type == NAME
        return vertices.mean(1)[:, None, None].expand(-1, scene.height, scene.width, 3)


@functools.cache
def folder_of(prior, parent):
    """A small folder or checkpoint of a prior; the embedded one is the one that ships."""
    path = parent / prior
    path.mkdir()
    if prior == "embedded":
        return ""
    if prior.startswith("videocrafter"):
        number = int(prior[-1])
        torch.save({"state_dict": twin.checkpoint(number, number == 2)[1]}, path / "model.ckpt")
        return str(path / "model.ckpt")
    if prior in tiny_transformers.MAKERS:
        return str(tiny_transformers.transformer_folder(path, prior))
    return str((tiny_priors.picture_folder if prior == "sd15" else tiny_priors.video_folder)(path))


def steps_of(parent, prior, dtype="float16", setup=None, guidance=None, image=False, latent=False, batching=DEFAULT):
    """The functions that move something between host and device in a critic's step, or what torch refuses."""
    files, picture_files = folder_of(prior, parent), folder_of("sd15", parent) if image else ""
    with Pretend() as on:
        critic, latent_critic, verts, z, draws = _make(
            files, picture_files, prior, dtype, setup, guidance or Guidance(), batching
        )
        on.crossings.clear()
        return _said(on, lambda: latent_critic(z, draws) if latent else critic(verts, draws))


def _said(on, call):
    """What `call` moved, or the word of torch's refusal."""
    try:
        outputs = call()
    except Exception as error:
        return [type(error).__name__]
    if isinstance(outputs, tuple):
        assert {x.device.type for x in tree_leaves(outputs)} == {NAME} and outputs[1].dtype == torch.float32
    return on.crossings


def found_in(spoil):
    """The same of something that a step should not do."""
    with Pretend() as on:
        with MODE:
            x = torch.zeros(2, device=NAME)
        return _said(on, lambda: spoil(x))


def _make(files, picture_files, prior, dtype, setup, guidance, batching):
    loaded = load_prior(prior, files, NAME, dtype)
    if setup:
        loaded.configure(setup)
    frames, size = (10, 32) if prior == "embedded" else (5, 32)
    faces = test_critic.octahedron()[1]
    mesh = make_mesh(faces, torch.rand(6, 3), NAME)
    sources = test_critic.PROMPTS if guidance.objective == "source" else None
    prompts = embed_prompts(loaded, test_critic.PROMPTS, sources=sources)
    shapes = [(N,), (N,), (N,), (N, *loaded.spec.latent_shape_of(frames, size, size))]
    image = None
    if picture_files:
        judge = load_prior("sd15", picture_files, NAME, dtype)
        spoken = embed_prompts(judge, test_critic.PROMPTS)
        image = critics.Term(judge, spoken, PICTURE, PICTURE, Guidance())
        shapes += [(N, SHOWN), (N,), (N, *judge.spec.latent_shape_of(SHOWN, PICTURE, PICTURE))]
    with MODE:
        drawn = [torch.zeros(shape, device=NAME) for shape in shapes]
        verts, z = torch.zeros(M, frames, 6, 3, device=NAME), torch.zeros(M, *shapes[3][1:], device=NAME)
    settings = critics.CriticSettings(size, size, 3.0, 0.8, (0.0, 0.0, 0.0), (0.9, 0.9, 0.9), guidance=guidance)
    critic = critics.VertexCritic(loaded, prompts, mesh, settings, image, batching)
    latent_critic = latents.LatentCritic(loaded, prompts, guidance)
    return critic, latent_critic, verts, z, test_critic.Draws(*drawn)


PRIORS = ("embedded", "modelscope", "videocrafter2", "wan21", "cogvideox", "ltx")
CASES = {
    **{prior: {"prior": prior} for prior in PRIORS},  # of each family one
    "image term": {"prior": "modelscope", "image": True},
    "latent mode": {"prior": "modelscope", "latent": True},
    **{name: {"prior": "modelscope", "guidance": Guidance(name)} for name in ("nfsd", "source", "unguided")},
    "csd, everything else": {"prior": "modelscope", "guidance": Guidance("csd", scale_low=3.0, clip=1.0, motion_amp=2)},
    "low_vram": {
        "prior": "modelscope", "setup": Setup(channels_last=True, low_memory=True), "batching": Batching(1, 1),
    },
    "bfloat16, chunks": {"prior": "modelscope", "dtype": "bfloat16", "batching": Batching(encode_chunk=2)},
}  # fmt: skip
SPOILS = {  # does it find what it looks for?
    "a value": lambda x: x.sum().item(),
    "a mask": lambda x: x[x > 0],
    "a copy": lambda x: x.cpu(),
    "a constant": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "a stranger": lambda x: x + torch.ones(2),
}


def main(*names):
    """Print what each case found, or each of those named, as JSON."""
    render.Render = FlatRender
    critics.Stopwatch = latents.Stopwatch = lambda device: Stopwatch("cpu")
    with tempfile.TemporaryDirectory() as folder:
        found = {name: steps_of(Path(folder), **CASES[name]) for name in names or CASES}
    print(json.dumps({"steps": found, "spoils": {name: found_in(spoil) for name, spoil in SPOILS.items()}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
