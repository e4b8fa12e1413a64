"""Adam and SGD with scikit-learn's conventions, on the same ops as nnfast's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast import optimizers

__all__ = ["SGD", "Adam", "make"]

# A step so late that 1 − βᵗ is 1 in float64 for every β below 1: the largest is 1 − 2⁻⁵³, and there βᵗ is e⁻¹²⁸.
LATE = 1 << 60


class Adam(optimizers.Adam):
    """p ← p − lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ)·m/(√v + ε): ε is added before the correction, as in scikit-learn.

    The op adds it after; so the op is told that the step is a late one, where its own corrections are exactly 1, and
    the corrections that are due go into the rates, which are data of the run.
    """

    late = LATE
    steady = True  # nothing about the rates depends on where epochs end

    def learning_rates(self, first: int, count: int) -> np.ndarray[Any, Any]:
        t = np.arange(first + 1, first + count + 1, dtype=np.float64)
        corrections = np.sqrt(1.0 - self.beta_2**t) / (1.0 - self.beta_1**t)
        return np.asarray(super().learning_rates(first, count) * corrections)

    def epoch_ends(self, samples: int) -> None:
        """After an epoch, with `samples` seen in all."""

    def slow_down(self) -> bool:
        """Whether training goes on at a smaller rate although it does not improve."""
        return False


class SGD(optimizers.SGD):
    """v ← μv − lr·g, p ← p + v, or with Nesterov's momentum p ← p + μv − lr·g, at the rates of a schedule.

    "invscaling" is learning_rate_init/(samples seen + 1)^power_t, set after each epoch; "adaptive" divides by 5 when
    training no longer improves, until the rate is 1e-6.
    """

    late = 0
    steady = False

    def __init__(self, rate: float, schedule: str, momentum: float, nesterov: bool, power_t: float) -> None:
        super().__init__(learning_rate=rate, momentum=momentum, nesterov=nesterov)
        self.initial_rate, self.schedule, self.power_t = rate, schedule, power_t

    def epoch_ends(self, samples: int) -> None:
        if self.schedule == "invscaling":
            self.learning_rate = float(self.initial_rate) / (samples + 1) ** self.power_t

    def slow_down(self) -> bool:
        if self.schedule != "adaptive" or self.current_learning_rate <= 1e-6:
            return False
        self.learning_rate = self.current_learning_rate / 5.0
        return True


def make(estimator: Any) -> Adam | SGD:
    """The optimizer that an estimator's arguments ask for."""
    e = estimator
    if e.solver == "sgd":
        return SGD(e.learning_rate_init, e.learning_rate, e.momentum, bool(e.nesterovs_momentum), e.power_t)
    return Adam(e.learning_rate_init, beta_1=e.beta_1, beta_2=e.beta_2, epsilon=e.epsilon)
