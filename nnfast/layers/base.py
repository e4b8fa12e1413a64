"""What every layer is: configuration, perhaps parameters, and a description of itself as ops (`lower`).

A layer computes nothing itself. Inside a Model it becomes part of the Program; called by hand, `nnfast.eager` runs the
same ops one at a time. To write one of your own, see `Layer` (ops) and `PythonLayer` (plain Python).
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnfast.buffers import allocate, realign
from nnfast.errors import OwnershipError, ShapeError, StateError, UnknownNameError
from nnfast.program import Block, Layout
from nnfast.protocol import Backend, Buffers
from nnfast.random import as_rng, draw_key
from nnfast.registry import get_backend, portable
from nnfast.validation import any_array, convert, flag, working_dtype

if TYPE_CHECKING:
    from nnfast.eager import Eager
    from nnfast.lowering import Builder

__all__ = ["Layer", "described"]


class Layer:
    """Base of all layers.

    A layer of your own sets `scalars` (names of attributes that are numbers of the run: changing them recompiles
    nothing), overrides `n_outputs_for` if its width changes, `parameter_shapes` and `initial_values` if it has
    parameters, and describes itself in `lower(b)`: forward ops through `b.forward`, backward ops through `b.backward`,
    with `b.x`, `b.output(width)`, `b.dy`, `b.dx`, `b.parameter(name)` and `b.gradient(name)` naming the arrays.

    Parameters of every layer: `backend` (name or object; the default is chosen at first use), `dtype` ("float32" or
    "float64") and `rng` (int, Generator or RandomState) matter to a layer used by hand; in a Model the model's count.
    """

    scalars: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, backend: str | Backend | None = None, dtype: Any = "float32", rng: Any = None) -> None:
        # A backend asked for by name works or fails here and now; the default is chosen at first use.
        self._backend_choice = None if backend is None else get_backend(backend)
        self._dtype = working_dtype(dtype)
        self._trainable = True
        self._owner: object | None = None  # the Model, once there is one
        self._buffers: Buffers | None = None
        self._blocks: dict[str, Block] = {}
        self._initial: dict[str, np.ndarray[Any, Any]] = {}
        self._was_given = False  # in a Model: whether its values were there before the Model drew any
        self._index = 0
        self._key: int | None = None
        self._training_forwards = 0  # by hand: the number of the dropout mask
        self._eager: Eager | None = None
        self._rng = None if rng is None else as_rng(rng)

    # ---- what a subclass says of itself -----------------------------------------------------------------------------

    @property
    def n_inputs_wanted(self) -> int | None:
        """The width of the input that the layer insists on, or None where any will do."""
        return None

    def n_outputs_for(self, n_inputs: int) -> int:
        """Width of the output for this width of the input."""
        return n_inputs

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameter arrays, in order."""
        return {}

    def initial_values(self, rng: Any) -> dict[str, np.ndarray[Any, Any]]:
        """Freshly drawn values of all parameter arrays."""
        return {name: np.zeros(shape) for name, shape in self.parameter_shapes().items()}

    def lower(self, b: Builder) -> None:
        """Emit the layer's ops; a layer that emits none passes its input on."""
        raise NotImplementedError(
            f"{type(self).__name__} must define lower(b); for plain Python derive from PythonLayer"
        )

    def structure(self) -> Hashable:
        """What of the layer shapes the Program. Equal structures give equal Programs."""
        return (id(self), self._trainable)

    # ---- parameters -------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def backend(self) -> Backend:
        """Who computes this layer: chosen at first use, then fixed."""
        if self._backend_choice is None:
            self._backend_choice = get_backend()
        return self._backend_choice

    @property
    def trainable(self) -> bool:
        """Whether training changes the parameters. A frozen layer still passes gradients down."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if self._trainable != flag("trainable", value):
            self._trainable = bool(value)
            self._eager = None
            if self._buffers is not None:
                for name in self._blocks:  # a frozen layer's gradient is zero, never a stale one
                    self._view("gradients", name)[...] = 0

    @property
    def n_parameters(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.parameter_shapes().values())

    def drawn(self, rng: Any) -> dict[str, np.ndarray[Any, Any]]:
        """The layer's values, or freshly drawn ones if it has none yet; changes nothing but the state of `rng`."""
        if self._buffers is not None or self._initial or not self.parameter_shapes():
            return self.values()
        values = {name: np.asarray(v) for name, v in self.initial_values(rng).items()}
        for name, shape in self.parameter_shapes().items():
            given = values[name].shape if name in values else "nothing"
            if given != shape:
                raise ShapeError(f"{name} of {self!r} need initial values of shape {shape}; they came as {given}")
        return values

    def values(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of the parameter arrays, on the host."""
        if self._buffers is None:
            return {name: v.copy() for name, v in self._initial.items()}
        return {name: np.array(self.backend.to_numpy(self._view("parameters", name))) for name in self._blocks}

    def _in_dtype(self, values: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        return {name: v.astype(self._dtype) for name, v in values.items()}

    def _materialise(self) -> None:
        """Give a lone layer flat arrays of its own."""
        if self._buffers is not None:
            return
        backend, values = self.backend, self.drawn(self._random())
        layout = Layout.of([(f"0.{n}", s) for n, s in self.parameter_shapes().items()], self._dtype.name)
        buffers = allocate(backend, layout, self._dtype)
        self._adopt(buffers, layout, 0, values, backend, self._dtype)

    def _adopt(
        self,
        buffers: Buffers,
        layout: Layout,
        index: int,
        values: dict[str, np.ndarray[Any, Any]],
        backend: Backend,
        dtype: np.dtype[Any],
    ) -> None:
        """Move into flat arrays, perhaps of another backend or dtype, with these values."""
        self._backend_choice, self._dtype = backend, dtype
        self._buffers, self._layout, self._index = buffers, layout, index
        self._blocks = {name: layout[f"{index}.{name}"] for name in self.parameter_shapes()}
        self._initial, self._eager = {}, None
        for name, value in self._in_dtype(values).items():
            self._view("parameters", name)[...] = backend.asarray(value)

    def _view(self, space: str, name: str) -> Any:
        self._materialise()
        assert self._buffers is not None
        if not isinstance(name, str) or name not in self._blocks:
            raise UnknownNameError(f"parameter array of {type(self).__name__}", name, self._blocks)
        block = self._blocks[name]
        flat = self._buffers.parameters if space == "parameters" else self._buffers.gradients
        return flat[block.offset : block.offset + block.size].reshape(block.shape)

    def _assign(self, name: str, value: Any) -> None:
        shape = self.parameter_shapes()[name]
        array = any_array(name, value, self.backend)
        if array.shape != shape:
            raise ShapeError(f"{name} of {self!r} have shape {shape}; an array of shape {array.shape} was given")
        self._view("parameters", name)[...] = self.backend.asarray(convert(name, array, self._dtype))

    # ---- by hand ----------------------------------------------------------------------------------------------------

    def forward(self, x: Any, training: bool = False) -> Any:
        """The layer's output for rows `x` (N, n_inputs); dropout acts where `training`.

        What `backward` needs is kept, not copied: leave x and the output as they are until then.
        """
        from nnfast.eager import Eager

        eager = self._eager or Eager(self)
        y = eager.forward(x, flag("training", training))
        self._eager = eager  # only now: a layer that is new is told so when its first input is refused
        return y

    def backward(self, dy: Any) -> Any:
        """Gradient with respect to the last `forward`'s input; fills those of the parameters, penalties included."""
        if self._eager is None:
            raise StateError(f"{type(self).__name__}.backward() was called before forward()")
        return self._eager.backward(dy)

    def penalty(self) -> float:
        """The layer's regularization: Σ over its arrays of l1·Σ|p| + l2·Σp²."""
        return 0.0

    def _random(self) -> Any:
        """The layer's own source of randomness: its `rng`, else fresh entropy."""
        if self._rng is None:
            self._rng = as_rng(None)
        return self._rng

    @property
    def key(self) -> int:
        """The 64-bit seed of the layer's dropout masks: its model's, or drawn once from its own `rng`."""
        if self._key is None:
            self._key = draw_key(self._random())
        return self._key

    # ---- ownership --------------------------------------------------------------------------------------------------

    def _check_free(self) -> None:
        if self._owner is not None:
            raise OwnershipError(
                f"{self!r} belongs to a model already; a layer serves one model (build another one, or use model.to())"
            )

    def _clone(self) -> Layer:
        """A free copy with the same configuration and parameter values."""
        twin = copy.copy(self)
        twin._initial, twin._buffers, twin._blocks = self.values(), None, {}
        twin._owner = twin._eager = twin._rng = twin._key = twin._backend_choice = None
        twin.__dict__ = copy.deepcopy(twin.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        choice = self._backend_choice
        return self.__dict__ | {"_backend_choice": choice and portable(choice), "_eager": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        choice = state["_backend_choice"]
        self.__dict__.update(state | {"_backend_choice": choice and get_backend(choice)})
        if self._owner is None and self._buffers is not None:  # those of a model are its own affair
            realign(self._buffers, self.backend)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({described(self)})"


def described(part: Any) -> str:
    """The numbers of a layer, loss or optimizer as `name=value, …`."""
    return ", ".join(f"{name}={getattr(part, name):g}" for name in part.scalars if getattr(part, name) is not None)
