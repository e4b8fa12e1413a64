"""The compiled side of the book's Model: a native model of the same parts, and the arrays that both share.

All that matters lives in the book's objects. An engine is made from them and can be thrown away and made again; while
it lasts, `weights`, `biases` and the optimizer's arrays are views of its flat arrays. N rows, I inputs, O outputs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from nnfast.compat._data import legacy_stream
from nnfast.compat._glue import floats
from nnfast.compat._layers import Layer_Dropout
from nnfast.compat._own import PARAMETERS
from nnfast.compat._translate import is_plain, layers_for, loss_for, metric_for, optimizer_for, set_numbers
from nnfast.devices import fetched
from nnfast.errors import ShapeError
from nnfast.model import Model as NativeModel
from nnfast.program import Block
from nnfast.protocol import Job, Result
from nnfast.random import draw_key
from nnfast.registry import get_backend
from nnfast.validation import FLOAT32, FLOAT64, Array, DType, convert, features, host_array

__all__ = ["Engine", "Rows", "draw_dropout_key", "dtype_of", "parts_of"]


class _Shared(NamedTuple):
    """One parameter array: the attribute of a layer, and where it lies in flat arrays."""

    layer: Any
    name: str
    block: Block
    shape: tuple[int, ...]

    def of(self, flat: Any) -> Any:
        return flat[self.block.offset : self.block.offset + self.block.size].reshape(self.shape)


class Rows(NamedTuple):
    """Checked data on the backend, in batches of `size` rows, the last of which may be short."""

    x: Any
    y: Any
    size: int

    @property
    def batch_rows(self) -> Array:
        """Rows of each batch."""
        starts = np.arange(0, len(self.x), self.size)
        return np.minimum(len(self.x) - starts, self.size).astype(np.float64)


def parts_of(model: Any) -> tuple[Any, ...]:
    """What an engine is made for: as long as this stays equal, it serves."""
    layers = model.layers
    shapes = tuple(np.shape(getattr(layer, name, ())) for layer in layers for name in PARAMETERS)
    parts = (*map(id, layers), *map(id, (model.loss, model.optimizer, model.accuracy, get_backend())))
    return (*parts, shapes, getattr(model.accuracy, "binary", None))


def dtype_of(layers: list[Any]) -> DType:
    """One for all: float64 where any weights are."""
    kinds = {floats("weights", layer.weights).dtype for layer in layers if hasattr(layer, "weights")}
    return FLOAT64 if FLOAT64 in kinds else FLOAT32


def draw_dropout_key(layers: list[Any]) -> int:
    """64 bits of NumPy's global stream for the masks of a model, which is left alone where nothing drops out."""
    return draw_key(legacy_stream()) if any(is_plain(layer, Layer_Dropout) for layer in layers) else 0


class Engine:
    """Runs the steps of the book's Model `book`. Dropout is drawn from `key`, as nnfast.Dropout draws it."""

    def __init__(self, book: Any, key: int, dtype: DType, before: Engine | None) -> None:
        self.parts = parts_of(book)
        self._layers, self._optimizer, self._accuracy = list(book.layers), book.optimizer, book.accuracy
        self._loss = book.loss  # held, like all parts, so that no other object gets its identity
        optimizer, self._slots = optimizer_for(book.optimizer)
        measured = book.loss is not None and book.accuracy is not None
        self.native = NativeModel(
            layers_for(book.layers, book.loss),
            loss_for(book.layers, book.loss),
            optimizer,
            [metric_for(book.layers, book.accuracy)] if measured else [],
            dtype=dtype,
            rng=0,  # nothing is drawn from it: the values come from the layers, the key is given
        )
        self.native._key = key
        self._pairs = list(zip(self._layers, self.native.layers, strict=False))  # a softmax may be in the loss
        self._shared = [
            _Shared(part, name, self.native._layout[f"{i}.{name}"], np.shape(getattr(part, name)))
            for i, (part, layer) in enumerate(self._pairs)
            for name in layer.parameter_shapes()
        ]
        self._hosts: dict[int, Array] = {}  # by place: on a device, what the layers hold in the place of views
        if before is not None and _is_alike(before.native, self.native):  # then views of the old one stay good
            self.native._buffers.parameters = before.native._buffers.parameters
            self._hosts = before._hosts
        self._views = [s.of(self.native._buffers.parameters) for s in self._shared]
        self._views_of: dict[str, list[Any]] = {}
        self._own_rates: list[float] = []
        self._own_steps = 0  # for an optimizer that does not count

    # ---- what is shared ---------------------------------------------------------------------------------------------

    def push(self, *, training: bool) -> None:
        """Bring in what the program has changed: numbers, and arrays that it has put in the place of the views."""
        for part, native in self._pairs:
            set_numbers(part, native)
        if self.native.metrics:
            set_numbers(self._accuracy, self.native.metrics[0])
        self._push_parameters()
        if training and self._slots is not None and self._optimizer is not None:
            set_numbers(self._optimizer, self.native.optimizer)
            self._push_slots(self._slots)

    def _push_parameters(self) -> None:
        news = []
        for i, (s, view) in enumerate(zip(self._shared, self._views, strict=True)):
            value = getattr(s.layer, s.name)
            if value is view:
                continue
            value = host_array(s.name, value)
            if value.shape != s.shape:
                raise ShapeError(f"{s.name} has shape {value.shape}; expected {s.shape}, as when training began")
            news.append((i, s, view, convert(s.name, value, self.native.dtype)))
        for i, s, view, value in news:
            view[...] = self.native.backend.asarray(value)
            setattr(s.layer, s.name, self._held(i, view))

    def _held(self, i: int, view: Any) -> Array:
        """What the layer holds of its array number `i`: the view, or on a device always the same copy on the host."""
        host = self.native.backend.to_numpy(view)
        if self.native.backend.device == "cpu":
            return host
        held: Array = self._hosts.setdefault(i, host)
        if held is not host:
            held[...] = host
        return held

    def _push_slots(self, slots: dict[str, str]) -> None:
        """The optimizer's memory and the native slots: one thing, so that steps by hand and in here go on together."""
        if self.native.loss is None:
            return
        self.native._programs.runner("train")  # makes the slots that this optimizer needs
        for book_name, name in slots.items():
            for s, view in zip(self._shared, self._slot_views(name), strict=False):
                kept, key = self._optimizer._memory.of(s.layer), f"{s.name}.{book_name}"
                old = kept.get(key)
                if old is view:
                    continue
                fits = old is not None and old.shape == s.shape
                view[...] = self.native.backend.asarray(convert(key, old, self.native.dtype)) if fits else 0
                kept[key] = self.native.backend.to_numpy(view)

    def _slot_views(self, name: str) -> list[Any]:
        """The parts of one of the optimizer's flat arrays; none where it does not keep that one now."""
        flat = self.native._buffers.slots.get(name)
        if flat is not None and name not in self._views_of:
            self._views_of[name] = [s.of(flat) for s in self._shared]
        return self._views_of.get(name, [])

    def pull(self) -> None:
        """After steps: what layers and optimizer hold is what there is now."""
        backend = self.native.backend
        if backend.device == "cpu":
            return  # they hold views
        for i, (s, view) in enumerate(zip(self._shared, self._views, strict=True)):
            setattr(s.layer, s.name, self._held(i, view))
        for book_name, name in (self._slots or {}).items():
            for s, view in zip(self._shared, self._slot_views(name), strict=False):
                self._optimizer._memory.of(s.layer)[f"{s.name}.{book_name}"] = backend.to_numpy(view)

    # ---- steps ------------------------------------------------------------------------------------------------------

    def rows(self, prefix: str, X: Any, y: Any, size: int | None) -> Rows:
        """Data checked and brought to the backend; nothing has changed when it raises."""
        model = self.native
        x = features(f"{prefix}X", X, model.n_inputs, model.dtype, backend=model.backend)
        assert model.loss is not None
        y = fetched(f"{prefix}y", y, model.backend)
        y = model.loss.check(f"{prefix}y", y, len(x), model.n_outputs, model.dtype)
        for metric in model.metrics:
            metric.check(y)
        return Rows(model.backend.asarray(x), model.backend.asarray(y), min(size or len(x), len(x)))

    def train(self, rows: Rows, first_batch: int, steps: int) -> tuple[Result, list[float]]:
        """`steps` steps from batch `first_batch` on: their sums (loss, penalty, hits), and their rates."""
        optimizer, own = self._optimizer, self._slots is None
        rates = np.zeros(steps) if own else _rates(optimizer, steps)
        job = self._job("train", rows, first_batch, steps)
        job.learning_rates, job.first_step = rates, getattr(optimizer, "iterations", self._own_steps) + 1
        job.on_gradients = self._own_update if own else None
        self._own_rates = []
        _, runner = self.native._programs.runner("train")
        try:
            result = self.native._programs.run(runner, job)
        finally:  # an error of an own part may end the job early; what was done counts
            self._own_steps += job.done
            if not own and job.done:
                optimizer.iterations += job.done
                optimizer.current_learning_rate = float(rates[job.done - 1])
            self.pull()
        return result, self._own_rates if own else rates.tolist()

    def measure(self, rows: Rows) -> Array:
        """The sums (loss, penalty, hits) of each batch, without dropout."""
        job = self._job("evaluate", rows, 0, len(rows.batch_rows))
        _, runner = self.native._programs.runner("evaluate")
        return np.asarray(self.native._programs.run(runner, job).sums)

    def _job(self, mode: str, rows: Rows, first_batch: int, steps: int) -> Job:
        program, _ = self.native._programs.runner(mode)
        job = Job(self.native._buffers, rows.x, y=rows.y, key=self.native._key, batch_size=rows.size, steps=steps)
        job.first_batch, job.scalars = first_batch, self.native._programs.scalars(program)
        batch_rows = rows.batch_rows
        job.normalisers = batch_rows[(first_batch + np.arange(steps)) % len(batch_rows)]
        return job

    def _own_update(self, flat: Any) -> None:
        """A step of an optimizer of the program's: by hand, between backward and the update, which then finds nothing.

        The native rate is 0 and the gradients are taken away, so the parameters stay as this leaves them.
        """
        for s in self._shared:
            setattr(s.layer, f"d{s.name}", np.array(self.native.backend.to_numpy(s.of(flat))))
        self._optimizer.pre_update_params()
        self._own_rates.append(float(getattr(self._optimizer, "current_learning_rate", math.nan)))
        for layer in {id(s.layer): s.layer for s in self._shared}.values():
            self._optimizer.update_params(layer)
        self._optimizer.post_update_params()
        flat[...] = 0
        self._push_parameters()


def _rates(optimizer: Any, steps: int) -> Array:
    """The rates of the next steps; without decay it is whatever stands there, also by hand."""
    if not optimizer.decay:
        return np.full(steps, optimizer.current_learning_rate, np.float64)
    return np.asarray(optimizer.learning_rate / (1.0 + optimizer.decay * (optimizer.iterations + np.arange(steps))))


def _is_alike(a: NativeModel, b: NativeModel) -> bool:
    """Whether the flat parameters of one serve the other."""
    return a.backend is b.backend and a.dtype == b.dtype and a._layout == b._layout
