"""What the torch side raises when the user can put something right."""

ADVICE = (
    "What helps, the most first: --low_vram; --oom=retry, which halves what is done at once until it fits;"
    " --prior_batch=1; --encode_chunk=1; --supersample=1; --views=1; fewer --frames; a smaller --height and --width;"
    " --dtype=float16. Other programs on the card (nvidia-smi lists them) take their share, too."
)


class BridgeError(ValueError):
    """Something the user can put right; entry points print it as one line, without a traceback."""


class OutOfMemory(BridgeError):
    """The GPU's memory does not hold a step; the message names the flags that help."""


def reason_of(error: RuntimeError) -> str:
    """What a torch.OutOfMemoryError says that was asked for: "Tried to allocate 2.00 GiB"."""
    return str(error).removeprefix("CUDA out of memory. ").split(". ")[0] or "no details given"
