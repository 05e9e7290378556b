"""Bad inputs through every entry point: python -m benchmarks.hostile [--out REPORT.md] [--only TEXT].

Each case runs a program in a process of its own and must end within a minute: without a traceback, not by a signal, and
where the input is refused with exit code 2 and one line on the error output.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import forked
from benchmarks.bad_files import FEW, MAKERS, replace
from benchmarks.bad_runs import NOWHERE, Case, folder_of, more
from bridge.priors import embedded
from md_jax import doctor
from md_jax import main as main_job
from md_jax.config import FIELDS, kind_of
from md_jax.evaluate import command as evaluation
from md_jax.files import write_bytes
from md_jax.options.command import parse_simple
from md_jax.options.command import program as prepared_program
from md_jax.retarget import command as retarget
from md_jax.run.torch_side import run_program
from md_jax.study import command as study
from md_jax.view import command as viewer

SHORT = ["--steps=2", "--nocontrol_run", "--preview_every=0"]


def _prepared(run: Callable[[], None]) -> forked.Entry:
    """A program as its `__main__` runs it."""

    def entry(argv: Sequence[str]) -> None:
        with prepared_program():
            run()

    return entry


PROGRAMS: dict[str, forked.Entry] = {
    "main": main_job.main,
    "evaluate": _prepared(evaluation.main),
    "study": _prepared(study.main),
    "doctor": doctor.main,
    "view": _prepared(viewer.main),
    "retarget": _prepared(retarget.main),
}


def of_files(finished: Path, prior: Path, packed: Path) -> Iterator[Case]:
    """Every kind of bad file in the place of every kind of file.

    Args:
        finished: the folder of a run that can be resumed.
        prior: a folder of the shipped prior's kind.
        packed: a folder of a diffusers pipeline that is read the same way.
    """
    sentence = "a person is walking"
    places: list[tuple[str, str, list[str]]] = [
        ("flag file", "main", ["--flagfile=BAD", NOWHERE]),
        ("prompts file", "main", ["--prompts_file=BAD", NOWHERE]),
        ("statistics", "main", [sentence, "--statistics=BAD", NOWHERE]),
        ("body", "main", [sentence, "--body=BAD", NOWHERE]),
        ("prior", "main", [sentence, "--prior_path=BAD"]),
        ("VideoCrafter checkpoint", "main", [sentence, "--prior=videocrafter2", "--prior_path=BAD"]),
        ("image prior", "main", [sentence, "--image_prior=sd15", "--image_prior_path=BAD"]),
        ("tiny VAE", "main", [sentence, "--prior=modelscope", "--tiny_vae=BAD", NOWHERE]),
        ("run folder", "main", [sentence, "--workdir=BAD", NOWHERE]),
        ("run folder to resume", "main", ["--workdir=BAD", "--resume"]),
        ("motion", "evaluate", ["BAD"]),
        ("reference", "evaluate", ["good.npz", "--reference=BAD"]),
        ("study folder", "study", ["--prompts=" + sentence, "--workdir=BAD", NOWHERE, *SHORT]),
        ("study flag file", "study", ["--flagfile=BAD", NOWHERE, *SHORT]),
        ("doctor's prior", "doctor", ["--prior=modelscope", "--prior_path=BAD"]),
    ]
    for place, program, argv in places:
        for kind, make in MAKERS.items():
            if program == "doctor" and kind not in FEW:
                continue

            def prepare(home: Path, make: Callable[[Path], object] = make) -> None:
                replace(home / "BAD", make)
                shutil.copy(finished / "motion.npz", home / "good.npz")

            if place == "run folder" and kind == "a folder":
                continue
            yield Case(f"{place}: {kind}", program, argv, prepare=prepare)
    for name in ("prior.json", "vocabulary.json", "config.json", "tokenizer.json", "model.safetensors"):
        for kind, make in MAKERS.items():
            prepare = functools.partial(folder_of, name, make, prior)
            yield Case(f"{name}: {kind}", "main", [sentence, "--prior_path=p", *SHORT], prepare=prepare)
    for name in ("prior.json", "vocabulary.json", "unet/config.json", "tokenizer/tokenizer.json",
                 "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors",
                 "scheduler/scheduler_config.json"):  # fmt: skip
        for kind in FEW:
            prepare = functools.partial(folder_of, name, MAKERS[kind], packed)
            yield Case(f"diffusers, {name}: {kind}", "main", [sentence, "--prior_path=p", *SHORT], prepare=prepare)
    newest = max(path.name for path in (finished / "checkpoints").iterdir())
    for name in ("run.flags", f"checkpoints/{newest}", "checkpoints", "inputs.json", "lock", "metrics.jsonl"):
        for kind, make in MAKERS.items():
            if kind not in FEW and not name.startswith("run.flags"):
                continue

            def damage(home: Path, name: str = name, make: Callable[[Path], object] = make) -> None:
                shutil.copytree(finished, home / "run")
                replace(home / "run" / name, make)

            yield Case(f"resumed, {name}: {kind}", "main", ["--workdir=run", "--resume"], prepare=damage)
    for kind, make in MAKERS.items():

        def in_study(home: Path, make: Callable[[Path], object] = make) -> None:
            replace(home / "study" / "cells" / "x.json", make)

        prompts = ["--prompts=a person is walking", "--workdir=study", NOWHERE, *SHORT]
        yield Case(f"a cell's record: {kind}", "study", prompts, prepare=in_study)


# --- bad flags ----------------------------------------------------------------------------------------------------

NUMBERS = ("nan", "inf", "-1e308", "1e999", "abc", "", "9" * 400, "0x1G", "--", "1,2,", "\udcff", "１２")
TEXTS = ("\udcff", "a\x1bb", "x" * 20_000, "~nosuchuser/x", "a\nb", "/dev/zero", "[red]", "%s{0}", " ")
EXTREMES = ("distance=1000", "fov=1", "fov=170", "learning_rate=1e30", "guidance_scale=1e30", "grad_clip=1e-30",
            "motion_amp=1e30", "residual_clip=1e-30", "reg_weight=1e30", "bound_sigma=1e30", "betas=1e3,-1e3",
            "fps=1000", "height=8", "elevation=90", "distance=0.1", "distillation_weight=1e-40",
            "background=9,9,9")  # fmt: skip


def of_flags() -> Iterator[Case]:
    """Every flag with values that it does not take, and with extreme ones that it does."""
    for place, name in enumerate(sorted(FIELDS)):
        values = TEXTS if kind_of(name)[0] is str else NUMBERS
        for n in range(3):
            value = values[(place + 4 * n) % len(values)]
            argv = ["a person is walking", f"--{name}={value}", *([NOWHERE] if name != "prior_path" else [])]
            yield Case(f"--{name}={value[:20]!r}", "main", argv[name in ("prompt", "prompts_file", "resume") :])
    for text in EXTREMES:
        yield Case(f"--{text}", "main", ["a person is walking", f"--{text}", *SHORT, "--workdir=run"])
    for text in ("num_motions=100000", "views=100000", "height=4096 --width=4096 --supersample=8", "frames=10000"):
        yield Case(f"--{text}", "main", ["a person is walking", *f"--{text}".split(), *SHORT, "--workdir=run"])
    for program, argv in [
        ("evaluate", []), ("evaluate", ["--nope"]), ("evaluate", ["x" * 5000]), ("evaluate", ["a\x1bb"]),
        ("evaluate", ["\udcff"]), ("evaluate", ["good.npz", "--action=zzz"]), ("evaluate", ["/dev/zero"]),
        ("evaluate", ["good.npz", "--prior=zzz"]), ("evaluate", ["good.npz", "--out=/nowhere/x.json"]),
        ("study", ["--seeds=x", "--prompts=a"]), ("study", ["--priors=", "--prompts=a"]), ("study", ["a b"]),
        ("study", ["--priors=zzz", "--prompts=a man walks"]), ("study", ["--prompts=\udcff"]),
        ("study", ["--seeds=" + "9" * 5000, "--prompts=a man walks", NOWHERE]), ("doctor", ["--frames=x"]),
        ("doctor", ["--body=\udcff"]), ("doctor", ["--prior=zzz"]), ("main", ["a", "b"]), ("main", ["x=1"]),
        ("main", ["--flagfile"]), ("main", ["--flagfile="]), ("main", ["--no"]), ("main", ["-"]),
        ("main", ["--steps"]), ("main", ["--workdir=a/../../../../../../proc/self/x", "a man walks"]),
        ("main", ["--resume"]), ("main", ["--resume", "--workdir=/proc"]), ("main", ["\x1b[31m"]), ("main", [""]),
    ]:  # fmt: skip
        yield Case(f"{program} {' '.join(argv)[:30]!r}", program, list(argv))


def of_environments(finished: Path) -> Iterator[Case]:
    """A run and a resumed one in odd surroundings."""
    odd: list[dict[str, str | None]] = [
        {"HOME": None}, {"HOME": "/nowhere"}, {"HOME": "/dev/null"}, {"HOME": "\udcff"}, {"HOME": ""},
        {"XDG_CACHE_HOME": "/dev/null/x"}, {"XDG_CACHE_HOME": "relative"}, {"XDG_CACHE_HOME": "x" * 5000},
        {"MPLBACKEND": "module://nowhere"}, {"MPLBACKEND": "TkAgg"}, {"LC_ALL": "zz_ZZ.nope"}, {"LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "utf-16"},
        {"JAX_NUMPY_DTYPE_PROMOTION": "strict"}, {"COLUMNS": "abc"}, {"COLUMNS": "1"}, {"TERM": "nonsense"},
        {"TMPDIR": "/nowhere"}, {"PATH": ""}, {"TZ": "Nowhere/Nowhere"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"},
    ]  # fmt: skip
    for env in odd:
        said = ", ".join(f"{name}={str(value)[:20]!r}" for name, value in env.items())

        def prepare(home: Path) -> None:
            shutil.copytree(finished, home / "run")

        yield Case(f"{said}, resumed", "main", ["--workdir=run", "--resume"], env, prepare)
        yield Case(f"{said}, refused", "main", ["a man “juggles” ümläut", "--workdir=new"], env)


# --- running and judging ------------------------------------------------------------------------------------------


def fault_of(done: forked.Ended, program: str) -> str:
    """What is wrong with how a case ended; empty: nothing."""
    text = done.output
    if done.late:
        return "hangs"
    if done.code < 0:
        return f"killed by signal {-done.code}"
    if "Traceback" in text or "unforeseen" in text:
        return f"a traceback: {text[-200:]!r}"
    if done.code not in ((0, 2) if program in ("main", "view", "retarget") else (0, 1, 2)):  # 1: a check failed
        return f"exit code {done.code}"
    lines = [line for line in done.errors.splitlines() if line.startswith("error:")]
    if done.code == 2 and (len(lines) != 1 or done.errors.splitlines()[-1] != lines[0]):
        return f"refused, but not in one last line on the error output: {text[-200:]!r}"
    if any(word in line for line in text.splitlines() for word in ("Warning:", "Exception ignored")):
        return f"a library's noise: {text[-200:]!r}"
    return ""


def _make_packed(argv: Sequence[str]) -> None:
    importlib.import_module("tests.bridge.priors.tiny_priors").packed_folder(Path(argv[0]))  # mypy leaves tests alone


def hostile(only: str, but: str, after: int, patience: float) -> Iterator[tuple[Case, forked.Ended, str]]:
    """Run all cases whose name holds `only`, and not `but`, but for the first `after` of them."""
    forked.import_all()
    with tempfile.TemporaryDirectory(prefix="md_jax-hostile-") as name:
        root = Path(name)
        (root / "begin").mkdir()
        made = forked.run(main_job.main, ["a person is walking", *SHORT, "--workdir=run"], root / "begin")
        if made.code:
            raise SystemExit(f"the run that is left alone fails: {made.output[-500:]}")
        finished = root / "begin" / "run"
        prior = root / "prior"
        shutil.copytree(embedded.SHIPPED, prior)
        packed = root / "packed"
        made = forked.run(_make_packed, [str(packed)], root)
        if made.code:
            raise SystemExit(f"a folder of a small prior cannot be made: {made.output[-500:]}")
        cases = [*more(SHORT), *of_flags(), *of_files(finished, prior, packed), *of_environments(finished)]
        chosen = [case for case in cases if only in case.what and not (but and but in case.what)]
        for case in chosen[after:]:
            home = root / "case"
            home.mkdir()
            case.prepare(home)
            if not (home / "good.npz").exists():
                shutil.copy(finished / "motion.npz", home / "good.npz")
            if case.fresh:
                done = forked.run_fresh(f"md_jax.{case.program}", case.argv, home, patience, case.env)
            else:
                done = forked.run(PROGRAMS[case.program], case.argv, home, patience, case.env)
            yield case, done, fault_of(done, case.program)
            shutil.rmtree(home)


def report(found: Sequence[tuple[Case, forked.Ended, str]]) -> str:
    """The cases as a page: how many of each, and every fault."""
    faults = [(case, fault) for case, _, fault in found if fault]
    lines = [
        "# Bad inputs",
        "",
        f"{datetime.date.today().isoformat()}, `python -m benchmarks.hostile`: {len(found)} cases,"
        f" {len(faults)} faults.",
        "",
        "| program | cases | refused (2) | ran through (0) | a check failed (1) |",
        "|---|---|---|---|---|",
    ]
    for program in PROGRAMS:
        codes = [done.code for case, done, _ in found if case.program == program]
        lines.append(f"| {program} | {len(codes)} | {codes.count(2)} | {codes.count(0)} | {codes.count(1)} |")
    lines += ["", *[f"- {case.program}, {case.what!a}: {fault!a}" for case, fault in faults]]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Parse, run, report; exit code 1 where there was a fault."""
    asked = parse_simple(
        __doc__,
        "benchmarks.hostile",
        only=("", "Only the cases whose name holds this."),
        but=("", "Leave out the cases whose name holds this."),
        after=(0, "Leave out so many cases, to go on with a list that was stopped."),
        patience=(60.0, "Seconds until a case counts as hanging."),
        out=("", "Where the report goes."),
    )
    found: list[tuple[Case, forked.Ended, str]] = []
    for case, done, fault in hostile(asked.only, asked.but, asked.after, asked.patience):
        found.append((case, done, fault))
        said = case.what.encode(errors="replace").decode()
        print(f"{case.program} {said!r}: {done.code} {fault or 'ok'}", flush=True)
        if asked.out:  # after each, since the last is hours away
            write_bytes(Path(asked.out), report(found).encode())
    text = report(found)
    print(text)
    sys.exit(any(fault for _, _, fault in found))


if __name__ == "__main__":
    run_program(main)
