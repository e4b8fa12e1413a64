"""What the battery of optimizers believes: their equations in float64, in plain NumPy, as the papers have them.

Nothing here is nnfast's. g is the gradient with penalties, clipped; lr the rate of the step; t counts from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = ["INPUTS", "OUTPUTS", "WEIGHTS", "Sequence", "Setting", "all_settings", "expected_end", "fixed_sequence"]

INPUTS, OUTPUTS = 45, 2
WEIGHTS = INPUTS * OUTPUTS  # and OUTPUTS biases behind them


@dataclass(frozen=True, eq=False)
class Setting:
    """An optimizer and its numbers. `numbers` are those of the equation, `l1` and `l2` penalties on all parameters."""

    kind: str
    variant: str
    rate: float
    numbers: Mapping[str, float]
    decay: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    clip: float | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.variant}"


class Sequence(NamedTuple):
    """Gradients that are known beforehand, (steps, parameters): that of step i is outer(x[i], signs[i])/2, signs[i]/2.

    All numbers are float32's, so that no dtype begins with a rounding.
    """

    x: Any
    signs: Any
    start: Any
    gradients: Any


def fixed_sequence(steps: int) -> Sequence:
    """Inputs from 1e-6 to 1 in size, so that epsilon counts in some places and not in others.

    The first input is always 0 and so are the weights behind it, which nothing may move. The others begin in ±[0.6, 1),
    far enough from 0 that no path gets there: an L1 penalty turns round at 0, and rounding would decide when.
    """
    rng = np.random.default_rng(7)
    x = (rng.standard_normal((steps, INPUTS)) * np.geomspace(1e-6, 1, INPUTS)).astype(np.float32).astype(np.float64)
    x[:, 0] = 0
    signs = rng.choice([-1.0, 1.0], (steps, OUTPUTS))
    start = rng.uniform(0.6, 1, WEIGHTS + OUTPUTS) * rng.choice([-1.0, 1.0], WEIGHTS + OUTPUTS)
    start[:OUTPUTS] = 0
    products = (x[:, :, None] * signs[:, None, :]).reshape(steps, WEIGHTS)
    gradients = np.concatenate([products, signs], axis=1) / OUTPUTS
    return Sequence(x, signs, start.astype(np.float32).astype(np.float64), gradients)


# ---- the equations ---------------------------------------------------------------------------------------------------

Step = Callable[[Any, Any, dict[str, Any], int, float, Mapping[str, float]], Any]


def _descent(p, g, state, t, lr, k):
    return p - lr * g


def _momentum(p, g, state, t, lr, k):
    """The book's, and Sutskever et al. 2013, equation 1: the rate is inside the velocity."""
    state["v"] = k["momentum"] * state.get("v", 0) - lr * g
    return p + state["v"]


def _nesterov(p, g, state, t, lr, k):
    """Sutskever et al. 2013, equation 3, seen from the point where the gradient is taken."""
    state["v"] = k["momentum"] * state.get("v", 0) - lr * g
    return p + k["momentum"] * state["v"] - lr * g


def _adagrad(p, g, state, t, lr, k):
    """Duchi, Hazan & Singer 2011, the diagonal form."""
    state["sum"] = state.get("sum", 0) + g**2
    return p - lr * g / (np.sqrt(state["sum"]) + k["epsilon"])


def _rmsprop(p, g, state, t, lr, k):
    """Hinton 2012, lecture 6e."""
    state["mean"] = k["rho"] * state.get("mean", 0) + (1 - k["rho"]) * g**2
    return p - lr * g / (np.sqrt(state["mean"]) + k["epsilon"])


def _adam_direction(g, state, t, k):
    """Kingma & Ba 2015, algorithm 1."""
    state["m"] = k["beta_1"] * state.get("m", 0) + (1 - k["beta_1"]) * g
    state["v"] = k["beta_2"] * state.get("v", 0) + (1 - k["beta_2"]) * g**2
    m_hat = state["m"] / (1 - k["beta_1"] ** t)
    v_hat = state["v"] / (1 - k["beta_2"] ** t)
    return m_hat / (np.sqrt(v_hat) + k["epsilon"])


def _adam(p, g, state, t, lr, k):
    return p - lr * _adam_direction(g, state, t, k)


def _adamw(p, g, state, t, lr, k):
    """Loshchilov & Hutter 2019, algorithm 2, where lr is both α and the schedule η."""
    decays = np.ones(p.size)
    decays[WEIGHTS:] = k["decay_biases"]
    return p - lr * (_adam_direction(g, state, t, k) + k["weight_decay"] * decays * p)


ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
DECOUPLED = ADAM | {"weight_decay": 0.05, "decay_biases": True}

# Kind: (equation, rate over 1,000 steps, numbers). No rate carries a parameter further than about 0.4.
KINDS: Mapping[str, tuple[Step, float, Mapping[str, float]]] = {
    "SGD": (_descent, 5e-3, {}),
    "momentum": (_momentum, 5e-4, {"momentum": 0.9}),
    "Nesterov": (_nesterov, 5e-4, {"momentum": 0.9}),
    "Adagrad": (_adagrad, 5e-3, {"epsilon": 1e-7}),
    "RMSprop": (_rmsprop, 3e-4, {"epsilon": 1e-7, "rho": 0.9}),
    "Adam": (_adam, 3e-4, ADAM),
    "AdamW": (_adamw, 3e-4, DECOUPLED),
    "AdamW on weights": (_adamw, 3e-4, DECOUPLED | {"decay_biases": False}),
}


def all_settings(sequence: Sequence) -> list[Setting]:
    """Every kind alone, with each of decay, L1, L2 and clipping, and with all of them.

    About half of all steps are clipped. In more steps than 1,000 the rates are smaller, so that the paths stay as long.
    """
    steps = len(sequence.gradients)
    half = float(np.median(np.linalg.norm(sequence.gradients, axis=1)))
    alone = {"decay": {"decay": 1 / steps}, "L1": {"l1": 1e-3}, "L2": {"l2": 1e-3}, "clipped": {"clip": half}}
    together = {name: value for extra in alone.values() for name, value in extra.items()}
    variants = {"plain": {}, **alone, "all of it": together}
    return [
        Setting(kind, variant, rate * 1_000 / steps, numbers, **extra)
        for kind, (_, rate, numbers) in KINDS.items()
        for variant, extra in variants.items()
    ]


def expected_end(setting: Setting, sequence: Sequence) -> Any:
    """Where the parameters end in float64."""
    equation, p, state = KINDS[setting.kind][0], sequence.start, {}
    moving, nearest = sequence.start != 0, np.inf
    for t, g in enumerate(sequence.gradients, 1):
        g = g + setting.l1 * np.sign(p) + 2 * setting.l2 * p
        norm = np.sqrt((g**2).sum())
        if setting.clip is not None and norm > setting.clip:
            g = g * (setting.clip / norm)
        lr = setting.rate / (1 + setting.decay * (t - 1))
        p = equation(p, g, state, t, lr, setting.numbers)
        nearest = min(nearest, float(np.abs(p[moving]).min()))
    if setting.l1 and nearest < 0.05:
        raise ValueError(f"{setting.name}: a path comes within {nearest:.2g} of 0, where L1 turns round")
    return p
