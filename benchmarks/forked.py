"""Entry points run in copies of one process that has imported everything: a start takes no seconds, only a fork.

JAX and torch are imported, not started: what starts them does so in the copy, as in a process of its own.
"""

from __future__ import annotations

import codecs
import io
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

Entry = Callable[[Sequence[str]], object]  # as the programs' own `main`: takes the arguments, may exit
STEP = 0.02  # seconds between looks at a copy


class Ended(NamedTuple):
    """How a copy ended."""

    code: int  # as in `subprocess`: negative for a signal
    text: str  # what it wrote to its output
    errors: str  # and to its error output
    late: bool  # whether it ran longer than it may, and was killed

    @property
    def output(self) -> str:
        """All that it wrote."""
        return self.text + self.errors


def import_all() -> None:
    """Import what the programs import later, so that their copies need not."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import av  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel, UNet3DConditionModel  # noqa: F401
    from transformers import CLIPTextModel, PreTrainedTokenizerFast  # noqa: F401

    import bridge.build  # noqa: F401
    import md_jax.doctor
    import md_jax.evaluate.command
    import md_jax.evaluate.yardstick
    import md_jax.run.build
    import md_jax.run.latent_outputs
    import md_jax.run.outputs
    import md_jax.study.command  # noqa: F401


def start(
    entry: Entry, argv: Sequence[str], home: Path, env: Mapping[str, str | None] | None = None, program: str = "program"
) -> int:
    """Start an entry point in a copy of this process.

    Args:
        entry: called with `argv`; what it returns or exits with is the exit code.
        argv: what follows the program's name.
        home: its working folder, which also takes its outputs (`.out`, `.err`).
        env: variables to set, or to take away (None).
        program: its name, for `sys.argv`.

    Returns:
        The process's id.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for name, value in (env or {}).items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        os.chdir(home)
        out, err = (os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666) for name in (".out", ".err"))
        os.dup2(out, 1)
        os.dup2(err, 2)
        encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(fd, "w"), encoding=encoding) for fd in (1, 2))
        sys.argv = [program, *argv]
        code = _code_of(entry(argv))
    except SystemExit as leaving:
        code = _code_of(leaving.code)
    except BaseException:  # what Python itself would do
        traceback.print_exc()
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:
            os._exit(code)  # whatever happens: a copy must not go on as its parent


def _code_of(value: object) -> int:
    """The exit code of what a `main` returns or exits with, as Python has it."""
    if value is None or isinstance(value, list | tuple):
        return 0
    if isinstance(value, int):
        return value
    print(value, file=sys.stderr)
    return 1


def running(pid: int) -> bool:
    """Whether a copy has not ended yet; it can be waited for all the same."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def wait(pid: int, home: Path, seconds: float) -> Ended:
    """Wait for a copy; one that takes longer is killed, with all that it has started."""
    until, late = time.monotonic() + seconds, False
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > until:
            late = True
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(STEP)
    out, err = ((home / name).read_bytes() if (home / name).exists() else b"" for name in (".out", ".err"))
    return Ended(os.waitstatus_to_exitcode(status), _text(out), _text(err), late)


def _text(data: bytes) -> str:
    """What a program wrote, in UTF-16 where it was asked to (PYTHONIOENCODING)."""
    return data.decode("utf-16" if data.startswith(codecs.BOM_UTF16_LE) else "utf-8", errors="replace")


def run(
    entry: Entry,
    argv: Sequence[str],
    home: Path,
    seconds: float = 600,
    env: Mapping[str, str | None] | None = None,
    program: str = "program",
) -> Ended:
    """Run an entry point in a copy of this process, to its end (see `start` and `wait`)."""
    return wait(start(entry, argv, home, env, program), home, seconds)


def run_fresh(module: str, argv: Sequence[str], home: Path, seconds: float, env: Mapping[str, str | None]) -> Ended:
    """Run `python -m MODULE` as a process that is no copy, to its end: libraries read some variables as they start."""
    around = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    for name, value in env.items():
        around.pop(name, None) if value is None else around.update({name: value})
    with (home / ".out").open("wb") as out, (home / ".err").open("wb") as err:
        command = [sys.executable, "-m", module, *argv]
        process = subprocess.Popen(command, cwd=home, env=around, stdout=out, stderr=err, start_new_session=True)
    return wait(process.pid, home, seconds)
