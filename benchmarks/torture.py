"""Interrupts, full disks and flipped bits: python -m benchmarks.torture [--kills 50] [--flips 30] [--out REPORT.md].

Each trial runs the main job in a process of its own, does something to it, resumes, and compares the motion with that
of a run that was left alone, byte for byte. A flipped bit must be noticed, or change nothing. Runs are short, so that
all end within an hour or two of a core: every phase is there, of few steps.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import forked
from md_jax import main as main_job
from md_jax.files import write_bytes
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STEPS = ["--steps=6", "--checkpoint_every=2", "--log_every=2", "--preview_every=4"]
MODES = {  # fit is the default; the control run is interrupted where it costs least
    "fit": [*STEPS, "--nocontrol_run"],
    "pose": ["--mode=pose", *STEPS, "--nocontrol_run", "--ground=none"],
    "latent": ["--mode=latent", *STEPS],
}
SHARES = {"fit": 0.4, "pose": 0.25, "latent": 0.35}  # of the kills and the bits
OUTPUT = {"fit": "motion.npz", "pose": "motion.npz", "latent": "latents.npz"}
PATIENCE = 900  # seconds that a run may take on a busy machine
ENDS = (0, 2, 130, 143, -9)  # exit codes that a trial may end with


@dataclasses.dataclass
class Trial:
    """What was done, and what came of it; `fault` is empty where all is well."""

    what: str
    fault: str = ""


def options(folder: Path, mode: str, *, resume: bool = False) -> list[str]:
    """The flags of a run."""
    begin = [*MODES[mode], "--seed=3", "--prompt=a person is walking"]
    return [f"--workdir={folder}", *(["--resume"] if resume else begin)]


def run(folder: Path, mode: str, *, resume: bool = False) -> forked.Ended:
    """Run to the end, or resume."""
    return forked.run(main_job.main, options(folder, mode, resume=resume), home_of(folder), PATIENCE)


def home_of(folder: Path) -> Path:
    """Where what a run prints is kept: beside it, since its folder may be full."""
    home = Path(tempfile.gettempdir()) / "md_jax-torture-said"
    home.mkdir(exist_ok=True)
    return home


def fault_of(done: forked.Ended, folder: Path, mode: str, expected: bytes) -> str:
    """Why a finished run is not as it should be; empty: it is."""
    text = done.output
    if done.late:
        return f"not done after {PATIENCE} s"
    if "Traceback" in text or "unforeseen" in text:
        return f"a traceback: {text[-300:]!r}"
    if done.code != 0:
        return f"exit code {done.code}: {text[-300:]!r}"
    return "" if (folder / OUTPUT[mode]).read_bytes() == expected else f"another {OUTPUT[mode]}"


def kill(folder: Path, mode: str, seconds: float, expected: bytes, rng: random.Random) -> Trial:
    """Interrupt a run after a while, then resume it. One in four is a program of its own, interrupted while it
    imports, too; the others are copies of this one."""
    number, fresh = rng.choice(SIGNALS), rng.random() < 0.25
    trial = Trial(f"{mode}: {number.name} after {seconds:.1f} s" + ", a fresh process" * fresh)
    if fresh:
        program = [sys.executable, "-m", "md_jax.main", *options(folder, mode)]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(seconds)
        process.send_signal(number)
        text, _ = process.communicate(timeout=PATIENCE)
        code = process.returncode
    else:
        pid = forked.start(main_job.main, options(folder, mode), home_of(folder))
        time.sleep(seconds)
        if forked.running(pid):
            os.kill(pid, number)
        done = forked.wait(pid, home_of(folder), PATIENCE)
        text, code = done.output, done.code
    trial.what += f" (exit code {code})"
    early = code in (-signal.SIGTERM, -signal.SIGINT) and not folder.exists()  # before Python listens
    if code not in ENDS and not early:
        trial.fault = f"exit code {code}: {text[-300:]!r}"
    elif "Traceback" in text and not early:
        trial.fault = f"a traceback: {text[-300:]!r}"
    else:
        resume = (folder / "run.flags").exists()
        trial.fault = fault_of(run(folder, mode, resume=resume), folder, mode, expected)
    return trial


def files_of(folder: Path) -> list[Path]:
    """Every file of a run that has a bit, from its folder on."""
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


def flip(source: Path, folder: Path, file: Path, mode: str, expected: bytes, rng: random.Random) -> Trial:
    """Flip one bit in one file of a run, then resume: refused or told, or the same bytes."""
    shutil.copytree(source, folder)
    path = folder / file
    data = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))
    trial = Trial(f"{mode}: bit {bit} of {file}")
    done = run(folder, mode, resume=True)
    if done.code == 2 and done.output.count("error:") == 1 and "Traceback" not in done.output:
        trial.what += ": refused"
        return trial
    trial.fault = fault_of(done, folder, mode, expected)
    return trial


def full_disk(mode: str, expected: bytes, mebibytes: int) -> Trial:
    """A run on a file system that is too small, which grows before it is resumed (Linux, as root)."""
    trial = Trial(f"{mode}: {mebibytes} MiB of disk")
    with tempfile.TemporaryDirectory() as name:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes * 1024}k", "tmpfs", name]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return Trial(f"{trial.what}: left out, no right to mount")
        try:
            folder = Path(name) / "run"
            (Path(name) / "filler").write_bytes(bytes(int(0.9 * mebibytes * 2**20)))
            done = run(folder, mode)
            if done.code not in (0, 2) or "Traceback" in done.output:
                trial.fault = f"exit code {done.code}: {done.output[-300:]!r}"
                return trial
            (Path(name) / "filler").unlink()
            subprocess.run(["mount", "-o", "remount,size=1G", name], check=True)
            trial.fault = fault_of(run(folder, mode, resume=(folder / "run.flags").exists()), folder, mode, expected)
        finally:
            subprocess.run(["umount", name], check=False)
    return trial


def torture(kills: int, flips: int, disks: int, seed: int) -> Iterator[Trial]:
    """All trials, in a temporary folder."""
    rng = random.Random(seed)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell starts this in the background
    forked.import_all()
    with tempfile.TemporaryDirectory(prefix="md_jax-torture-") as name:
        home = Path(name)
        for mode, share in SHARES.items():
            begun = time.monotonic()
            done = run(home / mode, mode)
            seconds = time.monotonic() - begun
            if done.code:
                raise SystemExit(f"the run that is left alone fails: {done.output[-500:]}")
            expected = (home / mode / OUTPUT[mode]).read_bytes()
            for i in range(round(kills * share)):
                folder = home / f"{mode}-kill-{i}"
                yield kill(folder, mode, rng.uniform(0.5, seconds), expected, rng)
                shutil.rmtree(folder, ignore_errors=True)
            files = files_of(home / mode)
            rng.shuffle(files)  # and each in its turn
            for i in range(round(flips * share)):
                yield flip(home / mode, home / f"{mode}-flip-{i}", files[i % len(files)], mode, expected, rng)
                shutil.rmtree(home / f"{mode}-flip-{i}", ignore_errors=True)
            for i in range(disks):
                yield full_disk(mode, expected, 1 + i)


def report(trials: list[Trial], seed: int) -> str:
    """The trials as a page."""
    faults = [trial for trial in trials if trial.fault]
    lines = [
        "# Torture",
        "",
        f"{datetime.date.today().isoformat()}, `python -m benchmarks.torture`, seed {seed}: {len(trials)} trials,"
        f" {len(faults)} faults.",
        "",
        "| trial | result |",
        "|---|---|",
        *[f"| {trial.what} | {trial.fault or 'ok'} |" for trial in trials],
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, torture, report; exit code 1 where there was a fault."""
    asked = parse_simple(
        __doc__,
        "benchmarks.torture",
        kills=(50, "Interrupted runs."),
        flips=(38, "Flipped bits: of every file in turn."),
        disks=(2, "Small disks, a mode."),
        seed=(0, "Of the moments and the bits."),
        out=("", "Where the report goes."),
    )
    trials: list[Trial] = []
    for trial in torture(asked.kills, asked.flips, asked.disks, asked.seed):
        trials.append(trial)
        print(trial.what, trial.fault or "ok", flush=True)
        text = report(trials, asked.seed)
        if asked.out:  # after each, since the last is hours away
            write_bytes(Path(asked.out), text.encode())
    print(text)
    sys.exit(any(trial.fault for trial in trials))


if __name__ == "__main__":
    run_program(main)
