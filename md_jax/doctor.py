"""What this machine has and lacks: ``python -m md_jax.doctor [--json] [--prior=NAME --prior_path=PATH --body=PATH]``.

Every line says OK or what to do. The exit code is 0 only where the main job can run with these options.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from md_jax.options.command import parse_simple, program
from md_jax.options.memory import available
from md_jax.outside.environment import keep_compiled

GIB = 1 << 30
MEMORY_NEEDED = 2 * GIB  # the main job on the embedded prior
DISK_NEEDED = GIB // 2  # checkpoints, pictures and videos of a run
PYTHONS = ((3, 11), (3, 13))


@dataclasses.dataclass
class Options:
    """What is asked about, and what the checks before have found."""

    prior: str = "embedded"
    prior_path: str = ""
    body: str = "free"
    device: str = "auto"
    frames: int = 0  # of the clip whose memory is estimated, with height and width; 0: the prior's own
    height: int = 0
    width: int = 0
    found_device: str | None = None  # "cpu" or "cuda"; None: no device yet
    cuda_problem: str | None = "torch could not be asked."  # None: nothing speaks against a GPU


class Trouble(Exception):
    """A check that found something to put right: (what was found, what to do)."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found, self.advice = found, advice


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    ok: bool
    needed: bool  # for the main job
    found: str
    advice: str = ""


Look = Callable[[Options], str]


# --- what is looked at: each returns what it found, or raises Trouble ---------------------------------------------


def python(options: Options) -> str:
    """Interpreter and system."""
    low, high = (".".join(map(str, version)) for version in PYTHONS)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise Trouble(found, f"md_jax needs Python {low} to {high}: make run PYTHON=python{high}.")
    return found


def packages(options: Options) -> str:
    """Versions against what setup.cfg asks for."""
    wanted = _requirements()
    found, wrong = [], []
    for name, allows, rule in wanted:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if not allows(version):
            wrong.append(f"{name} {version} is not {rule}")
    if wrong:
        raise Trouble("; ".join(wrong), "pip install -c constraints.txt -e . in the project's folder, or make run.")
    return ", ".join(found)


def _requirements() -> list[tuple[str, Callable[[str], bool], str]]:
    """(package, is this version allowed?, the rule) of every package that md_jax needs."""
    import configparser

    from packaging.requirements import Requirement

    try:
        lines = [line for line in importlib.metadata.requires("md_jax") or [] if "extra ==" not in line]
    except importlib.metadata.PackageNotFoundError:  # run from its folder without being installed
        parser = configparser.ConfigParser()
        parser.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
        lines = parser.get("options", "install_requires", fallback="").split("\n")
    rules = [Requirement(line) for line in lines if line.strip()]
    return [(r.name, functools.partial(r.specifier.contains, prereleases=True), str(r.specifier)) for r in rules]


def torch(options: Options) -> str:
    """PyTorch and the GPUs that it sees."""
    from bridge.diagnose import torch_facts

    facts = torch_facts()
    gpus = [f"{g['name']}, {g['free'] / GIB:.1f} of {g['total'] / GIB:.1f} GiB free" for g in facts["gpus"]]
    cuda = f"CUDA {facts['cuda']}" if facts["cuda"] else "no CUDA"
    return f"{facts['version']} ({cuda}); {'; '.join(gpus) or 'no GPU'}"


def device(options: Options) -> str:
    """One device for both frameworks, started as a run would start it."""
    import jax

    from bridge.configure import configure, cuda_problem, jax_cuda_major
    from bridge.errors import BridgeError

    keep_compiled()
    options.cuda_problem = cuda_problem()  # before JAX is kept on the CPU, which would be one more
    try:
        options.found_device = configure(options.device)
    except BridgeError as error:
        raise Trouble(f"--device={options.device} cannot be used", str(error)) from error
    plugin = jax_cuda_major()
    words = f"jax {jax.__version__} ({f'CUDA {plugin}' if plugin else 'no CUDA plugin'})"
    return f"both frameworks run on {options.found_device}; {words}: {', '.join(str(d) for d in jax.devices())}"


def gpu(options: Options) -> str:
    """Whether a GPU can be shared, and why not."""
    if options.device == "cpu":
        return "not wanted (--device=cpu)"
    if options.cuda_problem:
        raise Trouble("not used", options.cuda_problem)
    return "CUDA of torch and JAX go together"


def nvdiffrast(options: Options) -> str:
    """The optional rasteriser; it draws on GPUs alone."""
    from bridge.diagnose import nvdiffrast_version
    from bridge.errors import BridgeError

    if options.found_device == "cpu":
        return "not wanted (it draws on GPUs alone)"
    try:
        return nvdiffrast_version()
    except BridgeError as error:
        raise Trouble("not used", str(error)) from error


def seam(options: Options) -> str:
    """JAX → torch → renderer → back, for real."""
    from bridge.diagnose import try_out

    if options.found_device is None:
        raise Trouble("not tried", "put the device right first.")
    return try_out(options.found_device)


def body(options: Options) -> str:
    """The body file that --body names."""
    from md_jax.body.model import load_body

    return f"{options.body}: {len(load_body(options.body).v_template):,} vertices"


def prior(options: Options) -> str:
    """The weights that --prior and --prior_path name."""
    from bridge.diagnose import prior_state
    from bridge.errors import BridgeError

    try:
        clip = (options.frames, options.height, options.width)
        return f"{options.prior}: {prior_state(options.prior, options.prior_path, clip if all(clip) else None)}"
    except BridgeError as error:
        raise Trouble(f"--prior={options.prior}", str(error)) from error


def video(options: Options) -> str:
    """PyAV, which brings its own ffmpeg."""
    import av

    from md_jax.output.video import _codec

    return f"PyAV {av.__version__} writes {_codec()}"


def memory(options: Options) -> str:
    """Free main memory, as a run counts it before it starts."""
    free = available()
    if free is None:
        return "unknown on this system"
    if free < MEMORY_NEEDED:
        raise Trouble(
            f"{free / GIB:.1f} GiB free", f"the main job takes {MEMORY_NEEDED / GIB:.0f} GiB: close programs."
        )
    return f"{free / GIB:.1f} GiB free"


def disk(options: Options) -> str:
    """Room for a run in the working directory."""
    free = shutil.disk_usage(".").free
    if free < DISK_NEEDED or not os.access(".", os.W_OK):
        raise Trouble(f"{free / GIB:.1f} GiB free in {Path.cwd()}", "a run takes half a GiB: give --workdir elsewhere.")
    return f"{free / GIB:.1f} GiB free in {Path.cwd()}"


def caches(options: Options) -> str:
    """Where compiled programs are kept between runs."""
    from bridge.diagnose import kernel_cache
    from md_jax.outside.environment import cache_folder

    found = []
    for folder in (cache_folder(), kernel_cache()):
        near = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not os.access(near, os.W_OK):
            raise Trouble(f"{folder} cannot be written", "set XDG_CACHE_HOME to a folder that can: kernels lie there.")
        found.append(str(folder))
    return ", ".join(found)


# name, is it needed for the main job?, look; `device` comes early: JAX starts before torch touches a GPU
LOOKS: tuple[tuple[str, bool, Look], ...] = (
    ("python", True, python),
    ("packages", True, packages),
    ("device", True, device),
    ("gpu", False, gpu),
    ("torch", True, torch),
    ("nvdiffrast", False, nvdiffrast),
    ("caches", True, caches),
    ("seam", True, seam),
    ("body", True, body),
    ("prior", True, prior),
    ("video", True, video),
    ("memory", True, memory),
    ("disk", True, disk),
)


def examine(options: Options, looks: Sequence[tuple[str, bool, Look]] = LOOKS) -> list[Check]:
    """Every check, in order; none of them raises."""
    return [_check(name, needed, look, options) for name, needed, look in looks]


def _check(name: str, needed: bool, look: Look, options: Options) -> Check:
    try:
        return Check(name, True, needed, look(options))
    except Trouble as trouble:
        return Check(name, False, needed, trouble.found, trouble.advice)
    except Exception as error:  # whatever is broken here is what this program is asked about
        return Check(name, False, needed, type(error).__name__, str(error).strip() or "no message")


def report(checks: Sequence[Check]) -> str:
    """The checks for a reader."""
    lines = []
    for check in checks:
        mark = "OK" if check.ok else "PROBLEM" if check.needed else "advice"
        lines.append(f"{mark:<8} {check.name:<11} {check.found}")
        if check.advice:
            lines.append(" " * 21 + check.advice)
    wrong = [check.name for check in checks if check.needed and not check.ok]
    lines.append(f"The main job cannot run here: {', '.join(wrong)}." if wrong else "The main job can run here.")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Look, print, and return the exit code."""
    asked = parse_simple(
        __doc__, "md_jax.doctor", argv,
        prior=(Options.prior, "as in md_jax.main"),
        prior_path=(Options.prior_path, "as in md_jax.main"),
        body=(Options.body, "as in md_jax.main"),
        device=(("auto", "cpu", "cuda"), "as in md_jax.main"),
        frames=(0, "of the clip whose memory is estimated"),
        height=(0, "of the clip whose memory is estimated"),
        width=(0, "of the clip whose memory is estimated"),
        json=(False, "print JSON for a program to read"),
    )  # fmt: skip
    options = Options(asked.prior, asked.prior_path, asked.body, asked.device, asked.frames, asked.height, asked.width)
    checks = examine(options)
    ok = all(check.ok for check in checks if check.needed)
    answer: Any = {"ok": ok, "checks": [dataclasses.asdict(check) for check in checks]}
    print(json.dumps(answer, indent=1) if asked.json else report(checks))
    return 0 if ok else 1


def run() -> None:
    """Look and print, and end over any error in one line."""
    with program():
        code = main()
    sys.exit(code)


if __name__ == "__main__":
    run()
