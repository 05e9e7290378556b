"""The PoseField: a small network from the frame's time to pose parameters that never leave their bound.

    P_α : τ ↦ mean + kσ·tanh(f_α(τ))   or   mean + clip(f_α(τ), ±kσ)

The head of f starts at zero, so that step 0 is exactly the mean pose. Nothing is rescaled afterwards, in time or in
amplitude. M motions are M independent fields with stacked parameters.

Source: Janson et al. 2024, sec. 3.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from md_jax.body import rotations
from md_jax.errors import UserError
from md_jax.mocap.statistics import PoseStatistics
from md_jax.timeline.features import NORMALIZED_FREQUENCIES, RAW_FREQUENCIES, span_weights, time_scale

Root = Literal["fixed", "orient", "full"]
Rotation = Literal["axis_angle", "6d"]
Bound = Literal["tanh", "clamp"]
Time = Literal["normalized", "raw"]


class Fixed(nnx.Variable):
    """Mean, standard deviation and where they hold: part of the field, never trained."""


class PoseField(nnx.Module):
    """One motion: frame indices to pose parameters of K rotations with R numbers each.

    Args:
        mean, std: centre and standard deviation of the parameters; axis-angle in radians (R = 3) or 6D (R = 6). With
            `spans` one of each span, (S, K, R).
        frames: F, the frames of the motion; with time="normalized" frame F − 1 is at time 1.
        loop: time goes round: frame F is frame 0. Needs time="normalized".
        spans: (S, 2), the first frame of each span and the one after its last.
        blend: frames over which one span's mean and deviation pass into the next one's, half on either side.
        hidden: width of each hidden layer.
        time: "normalized" or "raw" frame index.
        frequencies: of the sine and cosine features, radians per unit of time; default: four for the kind of time.
        layer_norm: normalise each hidden layer before its activation, as the paper's code does.
        bound: "tanh" approaches mean ± k·std and has a gradient everywhere, "clamp" is the paper's hard limit.
        bound_sigma: k.
        rngs: where the hidden layers' initial weights come from.
    """

    def __init__(
        self,
        mean: Float[Array, "*S K R"],
        std: Float[Array, "*S K R"],
        *,
        frames: int,
        loop: bool = False,
        spans: Float[Array, "S 2"] | None = None,
        blend: float = 1.0,
        hidden: Sequence[int] = (64, 64),
        time: Time = "normalized",
        frequencies: Sequence[float] | None = None,
        layer_norm: bool = False,
        bound: Bound = "tanh",
        bound_sigma: float = 3.0,
        rngs: nnx.Rngs,
    ) -> None:
        default = NORMALIZED_FREQUENCIES if time == "normalized" else RAW_FREQUENCIES
        self.frequencies = default if frequencies is None else tuple(frequencies)
        self.time_scale = time_scale(frames, loop) if time == "normalized" else 1.0
        self.period, self.blend = float(frames) if loop else 0.0, blend
        self.spans = None if spans is None else Fixed(jnp.asarray(spans))
        self.bound, self.bound_sigma = bound, bound_sigma
        self.mean, self.std = Fixed(jnp.asarray(mean)), Fixed(jnp.asarray(std))
        widths = [2 * len(self.frequencies), *hidden]
        self.depth, self.layer_norm = len(hidden), layer_norm
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            setattr(self, f"hidden_{i}", nnx.Linear(inputs, outputs, rngs=rngs))
            if layer_norm:
                setattr(self, f"norm_{i}", nnx.LayerNorm(outputs, rngs=rngs))
        zeros = nnx.initializers.zeros_init()
        self.head = nnx.Linear(widths[-1], math.prod(mean.shape[-2:]), kernel_init=zeros, bias_init=zeros, rngs=rngs)

    def __call__(self, tau: Float[Array, "F"]) -> Float[Array, "F K R"]:
        """Pose parameters at frame indices `tau`, whole or in between."""
        angles = (tau * self.time_scale)[:, None] * jnp.asarray(self.frequencies, tau.dtype)
        x = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        for i in range(self.depth):
            x = getattr(self, f"hidden_{i}")(x)
            x = jax.nn.silu(getattr(self, f"norm_{i}")(x) if self.layer_norm else x)
        mean, std = self.mean[...], self.std[...]
        if self.spans is not None:
            weights = span_weights(tau, self.spans[...], self.blend, self.period)
            mean, std = (jnp.einsum("fs,skr->fkr", weights, x) for x in (mean, std))
        limit = self.bound_sigma * std
        raw = self.head(x).reshape(-1, *mean.shape[-2:])
        return mean + (limit * jnp.tanh(raw) if self.bound == "tanh" else jnp.clip(raw, -limit, limit))


# --- M motions --------------------------------------------------------------------------------------------------


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["fixed"],
    meta_fields=["graphdef", "frames", "root", "rotation", "highest_frequency"],
)
@dataclasses.dataclass(frozen=True)
class Fields:
    """M PoseFields without their trainable parameters."""

    graphdef: Any
    fixed: Any  # means and standard deviations, leading axis M
    frames: int
    root: Root
    rotation: Rotation
    highest_frequency: float  # of the time features, radians a frame: below π, frames decide what lies between them


class Poses(NamedTuple):
    """What `md_jax.body.lbs.pose` takes: rotation vectors (..., 3), or matrices (..., 3, 3) with rotation="6d"."""

    body: Array  # (M, F, 21, 3) or (M, F, 21, 3, 3)
    root: Array | None  # (M, F, 3) or (M, F, 3, 3); None with root="fixed"
    transl: Float[Array, "M F 3"] | None  # metres; None unless root="full"


class Span(NamedTuple):
    """The statistics that hold from a frame on, up to another."""

    statistics: PoseStatistics
    first: float
    end: float


def init_fields(
    statistics: Sequence[PoseStatistics | Sequence[Span]],
    keys: Array,
    *,
    frames: int,
    root: Root = "fixed",
    rotation: Rotation = "axis_angle",
    **settings: Any,
) -> tuple[Fields, Any]:
    """The PoseFields of M motions and their trainable parameters, a dict of arrays with leading axis M.

    Args:
        statistics: of each motion, or of its spans, in order.
        keys: (M,) random keys; a motion's parameters depend on its own key alone.
        frames: F.
        root: "fixed", or what else moves: "orient"ation, or the "full" root with translation.
        rotation: what the parameters are.
        settings: further arguments of `PoseField`.

    Raises:
        UserError: root="full", and statistics have no translation.
    """
    most = max(1 if isinstance(each, PoseStatistics) else len(each) for each in statistics)
    starts = [_start_of(each, most, frames, root, rotation) for each in statistics]
    fields = [
        PoseField(mean, std, spans=spans, frames=frames, rngs=nnx.Rngs(key), **settings)
        for (mean, std, spans), key in zip(starts, keys, strict=True)
    ]
    graphdef, *_ = nnx.split(fields[0], nnx.Param, ...)
    states = [nnx.split(field, nnx.Param, ...)[1:] for field in fields]
    # Plain dicts: any optimiser and checkpoint can hold them.
    stack = jax.jit(lambda *each: jax.tree.map(lambda *x: jnp.stack(x), *each))
    params, fixed = stack(*(tuple(map(nnx.to_pure_dict, s)) for s in states))
    highest = max(fields[0].frequencies) * fields[0].time_scale
    return Fields(graphdef, fixed, frames, root, rotation, highest), params


@jax.jit
def apply_fields(
    fields: Fields, params: Any, tau: Float[Array, "F"] | Float[Array, "M F"] | None = None
) -> Float[Array, "M F K R"]:
    """Pose parameters of every motion; motion m is the same, bit for bit on a CPU, alone or in company.

    The K rows are the root orientation (unless root="fixed"), the 21 body joints, and with root="full" the
    translation, padded with zeros to R.

    Args:
        fields, params: from `init_fields`.
        tau: frame indices, the same for all motions or each motion's own; default: all frames.
    """
    return _per_motion(partial(_values, fields), tau, params, fields.fixed)


@jax.jit
def poses(fields: Fields, params: Any, tau: Float[Array, "F"] | Float[Array, "M F"] | None = None) -> Poses:
    """The poses of every motion, ready for skinning; arguments and reproducibility as in `apply_fields`."""

    def of_one(tau: Array | None, params: Any, fixed: Any) -> Poses:
        return _as_poses(_values(fields, tau, params, fixed), fields.root, fields.rotation)

    return _per_motion(of_one, tau, params, fields.fixed)


def mean_pose(statistics: PoseStatistics, root: Root, rotation: Rotation) -> Poses:
    """Where a field of these statistics begins: one frame of one motion. Arguments and errors as in `init_fields`."""
    return _as_poses(_moments(statistics, root, rotation)[0][None, None], root, rotation)


def _as_poses(values: Float[Array, "*batch K R"], root: Root, rotation: Rotation) -> Poses:
    first = 0 if root == "fixed" else 1
    to_pose = rotations.sixd_to_matrix if rotation == "6d" else lambda x: x
    return Poses(
        body=to_pose(values[..., first : first + 21, :]),
        root=to_pose(values[..., 0, :]) if first else None,
        transl=values[..., -1, :3] if root == "full" else None,
    )


def _per_motion(function: Callable[..., Any], tau: Array | None, *arguments: Any) -> Any:
    """`function` of (times, each motion's slice of the arguments), whose leading axis is M, results stacked. Times are
    the same for all motions, or, with a leading axis M too, each motion's own.

    A batched matrix product, or an elementwise loop over M motions, need not have the bits of M separate ones; a loop
    over one compiled body has. XLA dissolves a loop of one turn into its surroundings, and then rounds differently:
    so a motion alone goes round twice. On a CPU the loop is as fast; a GPU needs the motions side by side.
    """
    if tau is not None and tau.ndim == 2:
        arguments = (tau, *arguments)
    else:
        function = partial(function, tau)
    if jax.default_backend() != "cpu":
        return jax.vmap(function)(*arguments)
    motions = jax.tree.leaves(arguments)[0].shape[0]
    if motions == 1:
        arguments = jax.tree.map(lambda x: jnp.concatenate([x, x]), arguments)
    results = jax.lax.map(lambda of_one: function(*of_one), arguments)
    return jax.tree.map(lambda x: x[:motions], results)


def _start_of(
    statistics: PoseStatistics | Sequence[Span], most: int, frames: int, root: Root, rotation: Rotation
) -> tuple[Array, Array, Array | None]:
    """(means, deviations, spans) of a motion; where any motion of the run has several spans, of `most` each."""
    if isinstance(statistics, PoseStatistics):
        if most == 1:
            return *_moments(statistics, root, rotation), None
        statistics = [Span(statistics, 0.0, float(frames))]
    padding = [Span(statistics[-1].statistics, statistics[-1].end, statistics[-1].end)] * (most - len(statistics))
    spans = [*statistics, *padding]
    means, stds = zip(*(_moments(span.statistics, root, rotation) for span in spans), strict=True)
    return jnp.stack(means), jnp.stack(stds), jnp.asarray([span[1:] for span in spans], jnp.float32)


def _values(fields: Fields, tau: Float[Array, "F"] | None, params: Any, fixed: Any) -> Float[Array, "F K R"]:
    """Pose parameters of one motion."""
    tau = jnp.arange(fields.frames, dtype=float) if tau is None else tau
    return nnx.merge(fields.graphdef, params, fixed)(tau)


def _moments(statistics: PoseStatistics, root: Root, rotation: Rotation) -> tuple[Array, Array]:
    """Mean and standard deviation (K, R) of what the field optimises."""
    end = "_6d" if rotation == "6d" else ""
    result = []
    for kind in ("mean", "std"):
        rows = [getattr(statistics, f"body_{kind}{end}")]
        if root != "fixed":
            rows.insert(0, getattr(statistics, f"root_{kind}{end}")[None])
        if root == "full":
            transl = getattr(statistics, f"transl_{kind}")
            if transl is None:
                raise UserError(
                    f"--root=full needs statistics with translation, and those of {statistics.action!r} have none"
                    f" ({statistics.source}): give --statistics=FOLDER with clips that have `trans`, or --root=orient."
                )
            rows.append(np.pad(transl, (0, rows[0].shape[-1] - 3))[None])
        result.append(jnp.asarray(np.concatenate(rows), jnp.float32))
    return result[0], result[1]
