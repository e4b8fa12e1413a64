"""The book's optimizers. The arrays kept from step to step lie in them, one set per layer, never on the layer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nnfast import functional
from nnfast.compat._glue import gradient
from nnfast.errors import DTypeError, StateError
from nnfast.settings import Number
from nnfast.validation import FLOAT32, FLOAT64, Array, number, writable

__all__ = ["Optimizer", "Optimizer_Adagrad", "Optimizer_Adam", "Optimizer_RMSprop", "Optimizer_SGD"]

_Arrays = dict[str, Array]
_Slot = Callable[[str], Array]  # name of a slot → its array, of the shape and dtype of the parameter


class _Memory:
    """Arrays by layer, found by identity and forgotten with the layer.

    Not a WeakKeyDictionary: anything with the four arrays counts as a layer, and some objects cannot be hashed (data
    classes) or not be referred to weakly (namespaces). The latter are kept alive with their arrays.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[Callable[[], Any], _Arrays]] = {}

    def of(self, layer: Any) -> _Arrays:
        if id(layer) not in self._entries:
            self._entries[id(layer)] = self._reference(layer), {}
        return self._entries[id(layer)][1]

    def _reference(self, layer: Any) -> Callable[[], Any]:
        entries, key = self._entries, id(layer)
        try:
            return weakref.ref(layer, lambda _: entries.pop(key, None))
        except TypeError:
            return lambda: layer

    # Weak references cannot be pickled. As pairs the arrays follow their layers into copies and files.
    def __getstate__(self) -> list[tuple[Any, _Arrays]]:
        return [(layer, arrays) for find, arrays in self._entries.values() if (layer := find()) is not None]

    def __setstate__(self, pairs: list[tuple[Any, _Arrays]]) -> None:
        self._entries = {}
        for layer, arrays in pairs:
            self.of(layer).update(arrays)


class Optimizer:
    """Base of the four: rate, decay, and the walk over a layer's arrays.

    One step is `pre_update_params()`, `update_params(layer)` for each layer, `post_update_params()`. The rate of the
    step after t steps is learning_rate/(1 + decay·t); `current_learning_rate` is what updates use.
    """

    _learning_rate: float = 1.0
    _decay: float = 0.0
    iterations: int = 0
    current_learning_rate: float

    def __init__(self, learning_rate: float, decay: float) -> None:
        self._memory = _Memory()
        self.iterations = 0
        self.decay = decay
        self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> float:
        """The rate before decay, ≥ 0. Setting it changes `current_learning_rate` at once."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = number("learning_rate", value, 0)
        self._apply_decay()

    @property
    def decay(self) -> float:
        """How fast the rate falls, ≥ 0. Setting it changes `current_learning_rate` at once."""
        return self._decay

    @decay.setter
    def decay(self, value: float) -> None:
        self._decay = number("decay", value, 0)
        self._apply_decay()

    def _apply_decay(self) -> None:
        self.current_learning_rate = self._learning_rate / (1.0 + self._decay * self.iterations)

    def pre_update_params(self) -> None:
        """Work out this step's rate. Without decay there is nothing to do, and a rate set by hand stays."""
        if self.decay:
            self._apply_decay()

    def update_params(self, layer: Any) -> None:
        """Update weights and biases in place from dweights and dbiases; all four are checked before either changes."""
        ready = [(name, *_pair(layer, name)) for name in ("weights", "biases")]
        arrays = self._memory.of(layer)
        for name, p, g in ready:
            self._step(p, g, partial(_slot, arrays, name, p))

    def post_update_params(self) -> None:
        """Count the step."""
        self.iterations += 1

    def _step(self, p: Array, g: Array, slot: _Slot) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define update_params(layer)")


def _pair(layer: Any, name: str) -> tuple[Array, Array]:
    """A parameter array, writable, and its gradient in the same shape and dtype."""
    for needed in (name, f"d{name}"):
        if not hasattr(layer, needed):
            raise StateError(f"{type(layer).__name__} has no {needed}: call its forward() and backward() first")
    p = getattr(layer, name)
    if not isinstance(p, np.ndarray) or p.dtype.newbyteorder("=") not in (FLOAT32, FLOAT64):
        kind = p.dtype if isinstance(p, np.ndarray) else type(p).__name__
        raise DTypeError(f"{name} is {kind}; it is updated in place: make it a NumPy array of float32 or float64")
    dtype = p.dtype.newbyteorder("=")
    return writable(name, p, p.shape, dtype), gradient(f"d{name}", getattr(layer, f"d{name}"), p.shape, dtype, name)


def _slot(arrays: _Arrays, name: str, p: Array, slot: str) -> Array:
    """The array `slot` of the parameter: zeros at first, and again when the parameter has got another shape."""
    key, dtype = f"{name}.{slot}", p.dtype.newbyteorder("=")
    kept = arrays.get(key)
    if kept is None or kept.shape != p.shape:
        arrays[key] = np.zeros(p.shape, dtype)
    elif kept.dtype != dtype:
        arrays[key] = kept.astype(dtype)
    return arrays[key]


class Optimizer_SGD(Optimizer):
    """p ← p − rate·g; with momentum v ← momentum·v − rate·g, p ← p + v."""

    momentum = Number(0, 1)

    def __init__(self, learning_rate: float = 1.0, decay: float = 0.0, momentum: float = 0.0) -> None:
        super().__init__(learning_rate, decay)
        self.momentum = momentum

    def _step(self, p: Array, g: Array, slot: _Slot) -> None:
        velocity = slot("momentum") if self.momentum else None
        functional.sgd_step(p, g, velocity, learning_rate=self.current_learning_rate, momentum=self.momentum)


class Optimizer_Adagrad(Optimizer):
    """cache ← cache + g², p ← p − rate·g/(√cache + epsilon)."""

    epsilon = Number(0)

    def __init__(self, learning_rate: float = 1.0, decay: float = 0.0, epsilon: float = 1e-7) -> None:
        super().__init__(learning_rate, decay)
        self.epsilon = epsilon

    def _step(self, p: Array, g: Array, slot: _Slot) -> None:
        functional.adagrad_step(p, g, slot("cache"), learning_rate=self.current_learning_rate, epsilon=self.epsilon)


class Optimizer_RMSprop(Optimizer):
    """cache ← rho·cache + (1 − rho)·g², p ← p − rate·g/(√cache + epsilon)."""

    epsilon = Number(0)
    rho = Number(0, 1, high_open=True)

    def __init__(
        self, learning_rate: float = 0.001, decay: float = 0.0, epsilon: float = 1e-7, rho: float = 0.9
    ) -> None:
        super().__init__(learning_rate, decay)
        self.epsilon = epsilon
        self.rho = rho

    def _step(self, p: Array, g: Array, slot: _Slot) -> None:
        rate = self.current_learning_rate
        functional.rmsprop_step(p, g, slot("cache"), learning_rate=rate, epsilon=self.epsilon, rho=self.rho)


class Optimizer_Adam(Optimizer):
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p − rate·m̂/(√v̂ + epsilon).

    m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 − β₂ᵗ), t = iterations + 1 (Kingma & Ba 2015).
    """

    epsilon = Number(0)
    beta_1 = Number(0, 1, high_open=True)
    beta_2 = Number(0, 1, high_open=True)

    def __init__(
        self,
        learning_rate: float = 0.001,
        decay: float = 0.0,
        epsilon: float = 1e-7,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
    ) -> None:
        super().__init__(learning_rate, decay)
        self.epsilon = epsilon
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def _step(self, p: Array, g: Array, slot: _Slot) -> None:
        functional.adam_step(
            p,
            g,
            slot("momentum"),
            slot("cache"),
            step=self.iterations + 1,
            learning_rate=self.current_learning_rate,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
        )
