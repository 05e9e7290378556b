"""What benchmarks.optimizers tries: optimisers, each with its learning rates, and schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# Rates where each is about as fast as Adam at 0.003 to 0.03 on this problem: gradients are clipped to norm 1, a field
# has some 9,000 parameters, so Adam's step has norm 90 x its rate, and sgd's (momentum 0.9) up to 10 x.
_SIGNS, _ADAM, _LARGER, _SUMS, _DIRECT, _OWN = (
    (0.001, 0.003, 0.01), (0.003, 0.01, 0.03), (0.01, 0.03, 0.1), (0.03, 0.1, 0.3), (0.3, 1.0, 3.0), (0.5, 1.0, 2.0),
)  # fmt: skip
GRIDS: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("lion", "sign_sgd", "signum", "rmsprop", "ademamix"), _SIGNS),
    "simplified_ademamix": (0.0001, 0.0003, 0.001),  # its momentum is a sum of a hundred gradients
    **dict.fromkeys(("adan", "lamb", "fromage", "novograd", "yogi", "madgrad", "muon", "schedule_free"), _LARGER),
    **dict.fromkeys(("adagrad", "sm3", "sgd"), _SUMS),
    **dict.fromkeys(("lars", "optimistic_gradient_descent", "schedule_free_sgd"), _DIRECT),
    "adadelta": (1.0, 3.0, 10.0),
    **dict.fromkeys(("cocob", "dadapt_adamw", "dog", "dowg", "prodigy"), _OWN),
}
OPTIMIZERS = (
    "adam", "adamw", "adabelief", "adafactor", "adan", "amsgrad", "lamb", "lion", "muon", "nadam", "novograd",
    "prodigy", "radam", "rmsprop", "schedule_free", "sgd", "signum", "yogi",
)  # fmt: skip
DECAYED = ("adam", "muon", "sgd")  # also with a falling rate


class Candidate(NamedTuple):
    """One thing to try."""

    optimizer: str
    learning_rate: float
    schedule: str

    @property
    def name(self) -> str:
        """Also its file's."""
        return f"{self.optimizer}-{self.learning_rate:g}-{self.schedule}"


def candidates_of(
    optimizers: Sequence[str], rates: Sequence[float], schedules: Sequence[str], most: int = 3
) -> list[Candidate]:
    """The grid, the middle rates of all optimisers first, should the time not do for everything.

    Args:
        optimizers: names.
        rates: empty: each optimiser's own.
        schedules: empty: constant, and cosine too for DECAYED.
        most: of each optimiser's own rates, the middle one first, then the lower.
    """
    found = []
    for name in optimizers:
        grid = rates or GRIDS.get(name, _ADAM)
        tried = sorted(enumerate(grid), key=lambda pair: abs(pair[0] - len(grid) // 2))[: None if rates else most]
        for schedule in schedules or ("constant", *(("cosine",) if name in DECAYED else ())):
            found += [(abs(i - len(grid) // 2), Candidate(name, rate, schedule)) for i, rate in tried]
    return [candidate for _, candidate in sorted(found, key=lambda pair: pair[0])]
