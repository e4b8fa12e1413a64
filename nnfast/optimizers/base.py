"""What every optimizer is: settings, names of its state arrays, and an update described as ops.

The state lives in flat arrays beside the parameters (`slots`), never on the layers. The learning rate of every step is
worked out here, on the host, and given to the update as data.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np

from nnfast.buffers import realigned
from nnfast.eager import call_op
from nnfast.errors import DTypeError, OptionError, OwnershipError
from nnfast.layers.base import Layer, described
from nnfast.lowering import Builder
from nnfast.protocol import Op
from nnfast.schedules import Schedule, rates_of
from nnfast.settings import Number
from nnfast.validation import number

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["GradientOptimizer", "Optimizer"]


class Optimizer:
    """Base of all optimizers: how a model's parameters change from step to step.

    `steps` counts the steps done. `slots` names the arrays that the update keeps beside the parameters.
    """

    scalars: ClassVar[tuple[str, ...]] = ()
    slots: tuple[str, ...] = ()
    uses_gradients: ClassVar[bool] = True

    def __init__(self) -> None:
        self.steps = 0
        self._model: Model | None = None

    def structure(self) -> Hashable:
        """What of the optimizer shapes the Program."""
        return (type(self), self.slots)

    def lower(self, b: Builder) -> None:
        """Emit the update."""
        raise NotImplementedError(f"{type(self).__name__} must define lower(b)")

    def scalar(self, name: str) -> float:
        """The value that the Program's scalar `name` has now."""
        return float(getattr(self, name))

    def learning_rates(self, first: int, count: int) -> np.ndarray[Any, Any]:
        """Rates of the steps after `first`, `first` + 1, … steps done."""
        return np.zeros(count)

    def _check_free(self) -> None:
        if self._model is not None:
            raise OwnershipError(
                f"{self!r} belongs to a model already and holds its state; give each model its own optimizer"
            )

    def _clone(self) -> Self:
        """A free copy with the same settings; its state is the new owner's affair."""
        twin = copy.copy(self)
        twin._model = None
        return twin

    def __repr__(self) -> str:
        return f"{type(self).__name__}({described(self)})"


class GradientOptimizer(Optimizer):
    """Base of the optimizers that follow a gradient, with learning rate, 1/t decay and clipping by global norm.

    The rate of the step after t steps is learning_rate/(1 + decay·t), with learning_rate(t) for a schedule; both can be
    changed at any time and count from the next step on. With `clip_norm`, gradients g of the whole model become
    g·min(1, clip_norm/‖g‖) (Pascanu, Mikolov & Bengio 2013).
    """

    decay = Number(0)
    clip_norm = Number(0, low_open=True, none=True)

    def __init__(self, learning_rate: float | Schedule, decay: float, clip_norm: float | None) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.decay = decay
        self.clip_norm = clip_norm
        # State of layers trained by hand: {layer: {slot: array}}, forgotten with the layer.
        self._by_hand: WeakKeyDictionary[Layer, dict[str, Any]] = WeakKeyDictionary()
        self._lowered: WeakKeyDictionary[Layer, tuple[Hashable, list[Op]]] = WeakKeyDictionary()

    @property
    def learning_rate(self) -> float | Schedule:
        """The rate before decay (≥ 0), or a schedule: a function of the steps done."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        self._learning_rate = value if callable(value) else number("learning_rate", value, 0)

    @property
    def current_learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self.learning_rates(self.steps, 1)[0])

    def learning_rates(self, first: int, count: int) -> np.ndarray[Any, Any]:
        rate = self._learning_rate
        rates: Any = rates_of(rate, first, count) if callable(rate) else np.full(count, rate, np.float64)
        if self.decay == 0:
            return np.asarray(rates)
        steps = np.arange(first, first + count, dtype=np.float64)
        return np.asarray(rates / (1.0 + self.decay * steps))

    def scalar(self, name: str) -> float:
        value = getattr(self, name)
        return math.inf if name == "clip_norm" and value is None else float(value)

    def lower(self, b: Builder) -> None:
        with b.owner("optimizer", ("clip_norm", *self.scalars)):
            b.slots = self.slots
            b.update("clip_by_global_norm", b.flat("gradients"))
            self.lower_update(b)

    def lower_update(self, b: Builder) -> None:
        """Emit the update of each range of trainable parameters: `b.ranges()`, `b.flat(space, offset, size)`."""
        raise NotImplementedError(f"{type(self).__name__} must define lower_update(b)")

    def _clone(self) -> Self:
        twin = super()._clone()
        twin._by_hand, twin._lowered = WeakKeyDictionary(), WeakKeyDictionary()
        return twin

    def __repr__(self) -> str:
        rate = self._learning_rate if callable(self._learning_rate) else f"{self._learning_rate:g}"
        extra = [f"{name}={getattr(self, name):g}" for name in ("decay", "clip_norm") if getattr(self, name)]
        parts = [str(rate), *extra, described(self), *self._said()]
        return f"{type(self).__name__}({', '.join(filter(None, parts))})"

    def _said(self) -> list[str]:
        """Settings that are no numbers, where they are not the usual ones."""
        return []

    def __getstate__(self) -> dict[str, Any]:
        by_hand = [
            (layer, {name: layer.backend.to_numpy(slot) for name, slot in slots.items()})
            for layer, slots in self._by_hand.items()
        ]
        return self.__dict__ | {"_by_hand": by_hand, "_lowered": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        by_hand: WeakKeyDictionary[Layer, dict[str, Any]] = WeakKeyDictionary()
        for layer, slots in state["_by_hand"]:
            by_hand[layer] = {name: realigned(slot, layer.backend) for name, slot in slots.items()}
        self.__dict__.update(state | {"_by_hand": by_hand, "_lowered": WeakKeyDictionary()})

    # ---- by hand ----------------------------------------------------------------------------------------------------

    def step(self, layers: Layer | Sequence[Layer]) -> None:
        """One update of these layers from their present gradients; layers without parameters or frozen are left alone.

        An optimizer that belongs to a model updates that model, all of it at once. Otherwise the state is kept per
        layer, in here, so several lone layers share one optimizer.
        """
        if isinstance(layers, str | bytes) or not isinstance(layers, Layer | Iterable):
            raise DTypeError(f"step takes a layer or a list of layers; {layers!r} was given")
        layers = [layers] if isinstance(layers, Layer) else list(layers)
        for layer in layers:
            if not isinstance(layer, Layer):
                raise DTypeError(f"step takes layers; {type(layer).__name__} was given")
        if len({id(layer) for layer in layers}) < len(layers):
            raise OptionError("step was given a layer twice")
        own = [layer for layer in layers if layer.parameter_shapes() and layer.trainable]
        if self._model is not None:
            self._model._update_by_hand(own)
            return
        taken = [layer for layer in own if layer._owner is not None]
        if taken:
            raise OwnershipError(f"{taken[0]!r} belongs to a model; step it with that model's own optimizer")
        rate = self.current_learning_rate  # first: a schedule may give what is no rate
        if self.clip_norm is not None:
            self._clip_together(own)
        for layer in own:
            self._step_layer(layer, rate)
        self.steps += 1

    def _step_layer(self, layer: Layer, rate: float) -> None:
        layer._materialise()
        assert layer._buffers is not None
        slots = self._by_hand.setdefault(layer, {})
        for name in self.slots:
            if name not in slots:
                slots[name] = layer.backend.zeros(layer._layout.size, layer.dtype)
        spaces = {"parameters": layer._buffers.parameters, "gradients": layer._buffers.gradients, **slots}
        values = {"learning_rate": rate, "step": self.steps + 1}
        values |= {f"optimizer.{name}": self.scalar(name) for name in self.scalars}
        for op in self._lone_update(layer):
            arrays = [None if b is None else spaces[b.space][b.offset : b.offset + b.width] for b in op.args]
            call_op(layer.backend, op, arrays, values)

    def _lone_update(self, layer: Layer) -> list[Op]:
        known = self._lowered.get(layer)
        if known is not None and known[0] == self.structure():
            return known[1]
        b = Builder("update", layer.dtype.name, layer._layout, 1)
        with b.owner("optimizer", ("clip_norm", *self.scalars)):
            self.lower_update(b)
        ops = list(b.finish().ops)
        self._lowered[layer] = (self.structure(), ops)
        return ops

    def _clip_together(self, layers: list[Layer]) -> None:
        """Clip by the norm over all layers: the kernel on their joined gradients, written back."""
        flats = [layer._buffers.gradients for layer in layers if layer._buffers is not None]
        if not flats:
            return
        backend = layers[0].backend
        if len({layer.backend.device for layer in layers}) > 1:
            raise OptionError("with clip_norm all layers of a step must be on one device")
        widest = max((layer.dtype for layer in layers), key=lambda dtype: dtype.itemsize)
        joined = backend.empty(sum(g.size for g in flats), widest)
        start = 0
        for g in flats:
            joined[start : start + g.size] = g
            start += g.size
        kernel = backend.kernel("clip_by_global_norm")
        assert kernel is not None
        kernel(joined, clip_norm=self.clip_norm)
        start = 0
        for g in flats:
            g[...] = joined[start : start + g.size]
            start += g.size
