"""Speed of the renderer, and quality of its gradient: python -m benchmarks.render [--quick] [--json PATH].

Ten frames of the free body (26,972 triangles), shaded, on one core; milliseconds a frame, forward and backward. The
peers stand in the same table: no antialiasing, and nvdiffrast's rule (an edge counts only where its triangle is the
visible one) in this renderer, at the same supersampling. The names of the columns:

  inflation  silhouette gradient over the finite difference of the 8x supersampled reference for a 1-pixel inflation
  ±1/8 px    the same for a small one; what is thinner than a pixel is missed, so it is below 1
  L2, noise  cosine of the joint-angle gradient with finite differences of the reference, for the squared difference
             to another image and for a random field (as score distillation sends one)
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks import timing

PINNED = timing.pin_to_one_core() if __name__ == "__main__" else "not pinned"

import torch  # noqa: E402  (after pinning: thread pools are sized at import)

from benchmarks.render_quality import (  # noqa: E402
    Scene,
    captured_poses,
    joint_angle_cosines,
    posed,
    recover_pose,
    references,
    scene,
    silhouette_ratio,
    view_of,
)
from bridge.render import render  # noqa: E402
from bridge.render.camera import Camera  # noqa: E402
from md_jax.options.command import parse_simple  # noqa: E402
from md_jax.run.torch_side import run_program  # noqa: E402

FRAMES = 10
ARMS = (("none", 1), ("none", 2), ("visible", 1), ("visible", 2), ("edge", 1), ("edge", 2), ("edge", 4))
NAMES = {"none": "no antialiasing", "visible": "peer: nvdiffrast's rule", "edge": "edge-driven"}
SIZES = (64, 256)
SMALL = (32, 2, 20)  # the embedded prior's clip: size, supersampling, frames


def cameras(frames: int, s: Scene) -> Camera:
    """A different view for each frame."""
    views = [view_of(i) for i in range(frames)]
    azimuth, elevation = (torch.cat([getattr(v, name) for v in views]) for name in ("azimuth", "elevation"))
    return Camera(azimuth, elevation, s.distance, views[0].fov_y, s.target)


def time_arm(size: int, supersample: int, antialias: str, frames: int, rounds: int) -> tuple[float, float]:
    """Minimum milliseconds a frame of forward and of backward, of thread time: other processes count less in it."""
    s, poses = scene(), captured_poses()
    vertices = posed(poses[[i % len(poses) for i in range(frames)]])
    view = cameras(frames, s)
    sent = torch.randn((frames, size, size, 3), generator=torch.Generator().manual_seed(0))
    forward, backward = [], []
    for _ in range(rounds + 1):
        leaf = vertices.clone().requires_grad_()
        start = time.thread_time()
        image = render(leaf, view, s.mesh, size, size, supersample, (1.0, 1.0, 1.0), antialias)
        middle = time.thread_time()
        image.backward(sent)
        end = time.thread_time()
        forward.append(middle - start)
        backward.append(end - middle)
    return 1e3 * min(forward[1:]) / frames, 1e3 * min(backward[1:]) / frames


def measure(quick: bool) -> list[dict[str, Any]]:
    """One row for each arm and size."""
    poses = captured_poses()[:2] if quick else captured_poses()
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        truths = references(size, poses, 4 if quick else 26)
        for antialias, supersample in ARMS:
            forward, backward = time_arm(size, supersample, antialias, FRAMES, 3 if quick else 20)
            inflated, nudged = silhouette_ratio(size, supersample, poses, antialias)
            squared, noisy = joint_angle_cosines(truths, supersample, antialias)
            rows.append(
                {
                    "size": size,
                    "supersample": supersample,
                    "antialias": antialias,
                    "forward_ms": forward,
                    "backward_ms": backward,
                    "inflation": inflated,
                    "nudge": nudged,
                    "cosine_l2": squared,
                    "cosine_noise": noisy,
                }
            )
    return rows


def measure_recovery(quick: bool) -> list[dict[str, Any]]:
    """Pose recovery from three views at 128², which starts 168 mm off."""
    found = []
    for antialias, supersample in (("none", 1), ("visible", 1), ("edge", 1), ("edge", 2)):
        errors = [recover_pose(128, supersample, antialias, seed=k)[1] * 1e3 for k in range(1 if quick else 5)]
        found.append({"antialias": antialias, "supersample": supersample, "errors_mm": errors})
    return found


def report(rows: list[dict[str, Any]]) -> str:
    """The main table."""
    columns = ["setting", "size", "ss", "forward", "backward", "sum", "inflation", "±1/8 px", "L2", "noise"]
    cells = []
    for r in rows:
        numbers = [r["forward_ms"], r["backward_ms"], r["forward_ms"] + r["backward_ms"]]
        numbers += [r["inflation"], r["nudge"], r["cosine_l2"], r["cosine_noise"]]
        fixed = [NAMES[r["antialias"]], f"{r['size']}²", str(r["supersample"])]
        cells.append(fixed + [f"{x:.2f}" for x in numbers[:3]] + [f"{x:.3f}" for x in numbers[3:]])
    return timing.table(columns, cells)


def main() -> None:
    """Measure, print the tables, and write JSON if asked to."""
    arguments = parse_simple(
        __doc__, "benchmarks.render",
        quick=(False, "fewer poses, axes and rounds"),
        json=("", "also write the numbers there"),
    )  # fmt: skip
    torch.set_num_threads(1)
    environment = timing.environment("warp-lang", "torch", "jax", "numpy")
    start = time.perf_counter()
    time_arm(32, 1, "edge", 1, 1)
    first = time.perf_counter() - start
    rows, recovery = measure(arguments.quick), measure_recovery(arguments.quick)
    small = time_arm(SMALL[0], SMALL[1], "edge", SMALL[2], 3 if arguments.quick else 20)
    print(f"{FRAMES} frames of {len(scene().mesh.triangles):,} shaded triangles, ms a frame; {PINNED}.\n")
    print(report(rows))
    print(f"\nThe embedded prior's size, {SMALL[0]}² ss{SMALL[1]}, {SMALL[2]} frames: ", end="")
    print(f"forward {small[0]:.2f}, backward {small[1]:.2f} ms a frame.")
    print(f"First call, with the kernels' compilation where they are not in Warp's cache: {first:.1f} s.\n")
    table = [
        [NAMES[r["antialias"]], str(r["supersample"]), ", ".join(f"{e:.0f}" for e in r["errors_mm"])] for r in recovery
    ]
    print(timing.table(["pose recovery, 128², from 168 mm", "ss", "mm left after 60 steps"], table))
    print("\n" + "; ".join(f"{name} {value}" for name, value in environment.items()))
    if arguments.json:
        results = {"environment": environment, "rows": rows, "recovery": recovery, "small_ms": small, "first_s": first}
        timing.write_json(arguments.json, results)


if __name__ == "__main__":
    run_program(main)
