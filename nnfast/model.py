"""Model: layers, loss, optimizer and backend put together, trained and asked.

The model owns the flat arrays and builds Programs; `nnfast.training.fit` drives them. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nnfast.assembly import as_layers, assemble, check_parts
from nnfast.buffers import realign
from nnfast.errors import DTypeError, OwnershipError, ShapeError, StateError
from nnfast.history import History
from nnfast.layers.base import Layer
from nnfast.losses import Loss
from nnfast.metrics import Metric
from nnfast.optimizers.base import Optimizer
from nnfast.predictor import DevicePredictor, Predictor
from nnfast.program import Program
from nnfast.programs import Programs
from nnfast.protocol import Backend
from nnfast.random import as_rng, draw_key
from nnfast.registry import get_backend, portable
from nnfast.text import table
from nnfast.training import fit as training
from nnfast.training import stepping
from nnfast.twins import twin_of
from nnfast.validation import any_array, convert, integer, working_dtype

__all__ = ["Model"]


class Model:
    """A dense network: a list of layers, and, to train it, a loss and an optimizer.

    layers      at least one Dense (or other layer that knows its input width); each belongs to this model from now on
    loss        an object of `nnfast.losses`; without one the model only predicts
    optimizer   an object of `nnfast.optimizers`, belonging to this model
    metrics     names or objects of `nnfast.metrics`
    backend     "numpy", another name, "auto", a Backend object; None: `use_backend`, NNFAST_BACKEND, then "auto"
    dtype       "float32" or "float64"
    rng         int, Generator or RandomState: draws the weights layer by layer, then one 64-bit key for dropout and
                shuffling. The same seed, machine, versions, backend and thread count give the same bits.

    Weights that a layer has drawn or been given already are kept. Raises ShapeError where layers do not fit together
    and OwnershipError where a layer or the optimizer belongs to another model; then nothing has changed.

    On a GPU backend all data may come from the host, and are copied over once, or lie on that GPU already (CuPy,
    PyTorch, JAX: DLPack or `__cuda_array_interface__`): X and weights then stay there, while targets and sample weights
    are fetched once per call, because their values are checked on the host. Outputs and gradients are device arrays,
    losses are floats, and `parameters`, `get_weights` and `values` are copies on the host.
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        metrics: Sequence[str | Metric] = (),
        *,
        backend: str | Backend | None = None,
        dtype: Any = "float32",
        rng: Any = None,
    ) -> None:
        self._layers = as_layers(layers)
        self._loss = loss
        self._dtype = working_dtype(dtype)
        self._metrics, self._widths = check_parts(self._layers, loss, optimizer, metrics)
        self._backend = get_backend(backend)
        source = as_rng(rng)
        self._layout, self._buffers = assemble(self, self._layers, source)
        self._take_key(draw_key(source))
        self._epochs = 0  # epochs begun over the model's life: the number of the next shuffle
        self._session: training.Session | None = None  # while it is being fitted
        self.history = History()  # of the last fit, also of one that ended in an error
        self._optimizer: Optimizer | None = None
        self._programs = Programs(self)
        if optimizer is not None:
            self.optimizer = optimizer

    # ---- parts ------------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self._layers

    @property
    def loss(self) -> Loss | None:
        return self._loss

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self._metrics

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def n_inputs(self) -> int:
        return self._widths[0]

    @property
    def n_outputs(self) -> int:
        return self._widths[-1]

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer. Assigning another one gives it fresh state; the old one is free again."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, new: Optimizer) -> None:
        if not isinstance(new, Optimizer):
            raise DTypeError(f"optimizer must be an object of nnfast.optimizers; {new!r} was given")
        if new is self._optimizer:
            return
        new._check_free()
        if self._optimizer is not None:
            self._optimizer._model = None
        new._model = self
        new.steps = 0
        self._optimizer = new
        self._programs.forget()  # its runners hold views of the old state
        self._buffers.slots = {}
        self._buffers.state = self._backend.zeros(0, np.float64)

    # ---- parameters -------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Any:
        """All parameters as one flat array, each block aligned, padding zero. On a GPU: a copy on the host.

        Assigning copies a flat array of the same length in, padding apart.
        """
        flat = self._buffers.parameters
        return flat if self._backend.device == "cpu" else self._backend.to_numpy(flat)

    @parameters.setter
    def parameters(self, flat: Any) -> None:
        values = any_array("parameters", flat, self._backend)
        if values.shape != (self._layout.size,):
            raise ShapeError(f"parameters is a flat array of {self._layout.size} elements; given: shape {values.shape}")
        values = convert("parameters", values, self._dtype)
        on_host = isinstance(values, np.ndarray)
        target = np.zeros(self._layout.size, self._dtype) if on_host else self._buffers.parameters
        for b in self._layout.blocks:
            target[b.offset : b.offset + b.size] = values[b.offset : b.offset + b.size]
        if on_host:
            self._buffers.parameters[...] = self._backend.asarray(target)

    @property
    def n_parameters(self) -> int:
        """Parameters in all, without padding."""
        return self._layout.n_parameters

    def get_weights(self) -> list[np.ndarray[Any, Any]]:
        """Copies of all parameter arrays in layer order: [W1, b1, W2, b2, …]."""
        return [value for layer in self._layers for value in layer.values().values()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Copy arrays in, in the order of `get_weights`. All shapes are checked before anything changes."""
        if isinstance(weights, str) or not isinstance(weights, Iterable):
            raise DTypeError(f"weights is a list of arrays, as get_weights gives them; {weights!r} was given")
        named = [(f"weights[{i}]", w) for i, w in enumerate(weights)]
        arrays = [convert(name, any_array(name, w, self._backend), self._dtype) for name, w in named]
        if len(arrays) != len(self._layout.blocks):
            raise ShapeError(f"the model has {len(self._layout.blocks)} parameter arrays; {len(arrays)} were given")
        for i, (w, block) in enumerate(zip(arrays, self._layout.blocks, strict=True)):
            if w.shape != block.shape:
                raise ShapeError(f"weights[{i}] must have shape {block.shape}, like {block.name}; given: {w.shape}")
        for w, block in zip(arrays, self._layout.blocks, strict=True):
            part = slice(block.offset, block.offset + block.size)
            self._buffers.parameters[part] = self._backend.asarray(w.reshape(-1))

    # ---- training and asking ----------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        shuffle: bool = True,
        verbose: int = 1,
        sample_weight: Any = None,
        class_weight: Any = None,
        accumulate: int = 1,
        steps_per_epoch: int | None = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        validation_every: int = 1,
        callbacks: Iterable[Any] = (),
        on_gradients: Callable[[Any], None] | None = None,
        resume: Any = None,
        comm: Any = None,
        sharded: bool = False,
    ) -> History:
        """Train `epochs` more epochs from the present state; returns the History.

        X (N, n_inputs) and y: class indices (N,) or rows (N, n_outputs), as the loss takes them. A memory-mapped X is
        read as it is needed. Or X is an iterable of batches (X, y) or (X, y, sample_weight), or a function that returns
        one; an epoch is all of them, or `steps_per_epoch`.

        batch_size        rows per batch; None is the whole set (then shuffling does nothing); a short last one is used
        accumulate        batches per update, which takes the gradient of all of them: a large batch in little memory
        sample_weight     (N,): losses and metrics are weighted means
        class_weight      {class: weight}, one weight per class, or "balanced"; multiplies the sample weights
        validation_data   (X, y), (X, y, weights) or an iterable of batches, measured every `validation_every` epochs;
        validation_split  or the share of rows to set aside for it, drawn with the model's seed
        callbacks         objects of `nnfast.callbacks` or functions f(model, epoch, logs); the answer True stops
        on_gradients      f(flat) sees the flat gradient of each update before clipping and may change it
        verbose           0 silent, 1 progress, 2 a line per epoch
        resume            a file of `ModelCheckpoint` or of `save` in a callback: go on as if never interrupted, bit for
                          bit, with `epochs` counted from that training's start. Begins anew where there is no file yet
        comm              a communicator of mpi4py, such as MPI.COMM_WORLD: its ranks train this model together, each on
                          its part of every batch. They start as rank 0, end with the same bits, and rank 0 alone
                          writes; up to rounding the result is that of one process. See docs/clusters.md
        sharded           False: every rank is given all rows; True: its own, and each batch takes of all in proportion

        history.history["loss"] holds, per epoch, data loss plus penalty of each batch before its update, averaged
        over samples; with penalties "data_loss" too. Ctrl-C raises KeyboardInterrupt between two steps: the model is
        usable and `model.history` complete up to there. Raises an error of `nnfast.errors` before anything changes.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "X", "y")}
        with self._programs.fitting():
            return training.fit(self, X, y, training.Settings(**given))

    def train_on_batch(
        self, X: Any, y: Any, *, sample_weight: Any = None, on_gradients: Callable[[Any], None] | None = None
    ) -> dict[str, float]:
        """One step on these rows; returns loss and metrics as they were before the update."""
        return stepping.train_on_batch(self, X, y, sample_weight=sample_weight, on_gradients=on_gradients)

    def evaluate(
        self, X: Any, y: Any = None, *, batch_size: int | None = None, sample_weight: Any = None
    ) -> dict[str, float]:
        """Loss (penalty included, as in `fit`) and metrics, without dropout, on data as `fit` takes it."""
        return training.evaluate(self, X, y, batch_size=batch_size, sample_weight=sample_weight)

    def predict(self, X: Any, batch_size: int | None = None) -> Any:
        """Outputs (N, n_outputs) for X (N, n_inputs): probabilities where the loss takes logits, else as they are.

        An array of the model's backend: one of NumPy, or on a GPU one of CuPy, which `.get()` copies to the host.
        """
        return training.predict(self, X, batch_size)

    def predictor(self, batch: int = 1) -> Predictor:
        """A callable for exactly `batch` rows with everything resolved, for control loops; see `Predictor`."""
        kind = Predictor if self._backend.device == "cpu" else DevicePredictor
        return kind(self, integer("batch", batch, 1))

    def loss_and_gradient(
        self, X: Any, y: Any, *, sample_weight: Any = None, training: bool = False
    ) -> tuple[float, np.ndarray[Any, Any]]:
        """Loss on these rows, penalty included, and its gradient as a flat array laid out like `parameters`.

        Makes any outside optimizer possible: minimise over `model.parameters = flat`. With `training=True` dropout
        acts with the mask of the next step; by default it does not, so that the function is deterministic.
        """
        return stepping.loss_and_gradient(self, X, y, sample_weight=sample_weight, training=training)

    # ---- files ------------------------------------------------------------------------------------------------------

    def save(self, path: Any) -> None:
        """Write the whole model, optimizer state and seeds included, into one file; `nn.load(path)` reads it.

        See `nnfast.checkpoint`: no pickle, written in one step, so that the old file or the new one is there, whole.
        """
        from nnfast import checkpoint

        checkpoint.save(self, path, run=None if self._session is None else self._session.record())

    def save_weights(self, path: Any, *, layout: str = "nnfast", modules: Sequence[str] | None = None) -> None:
        """Write the parameter arrays alone, for exchange: `.npz` or `.safetensors`, by the ending of the name.

        `layout="torch"` names and transposes them as PyTorch does; see `nnfast.exchange.names`.
        """
        from nnfast import checkpoint

        checkpoint.save_weights(self, path, layout=layout, modules=modules)

    def load_weights(self, path: Any, *, layout: str = "nnfast", modules: Sequence[str] | None = None) -> None:
        """Read parameter arrays that fit this model from `.npz`, `.safetensors` or a file of `save`.

        `layout="torch"`: they are named as PyTorch's Sequential names them, or, for a module of one's own, as
        `modules` says: the names of its Linear modules in order.
        """
        from nnfast import checkpoint

        checkpoint.load_weights(self, path, layout=layout, modules=modules)

    # ---- elsewhere --------------------------------------------------------------------------------------------------

    def to_onnx(self, path: Any, *, probabilities: bool = True, fold: bool = False, dtype: Any = "float32") -> None:
        """Write an ONNX file (opset 17, any number of rows) that gives what `predict` gives; needs `nnfast[onnx]`.

        probabilities   with the softmax or sigmoid of a loss on logits; False: the outputs of the last layer
        fold            Standardize becomes part of the Dense after it; False keeps its difference and quotient
        dtype           ONNX Runtime has no ELU, Softplus and GELU in "float64"

        Raises OptionError for layers of your own. `nn.from_onnx` reads the file.
        """
        from nnfast.exchange import onnx_writer

        onnx_writer.write(self, path, probabilities=probabilities, fold=fold, dtype=dtype)

    def to_c(
        self, path: Any, *, prefix: str = "net", probabilities: bool = True, fold: bool = True, dtype: Any = None
    ) -> None:
        """Write one C99 header with the constants and `void PREFIX_predict(const float *input, float *output)`.

        No allocation, no state, `<math.h>` only where an activation needs it; scratch lies on the stack, and the
        header says how many bytes. probabilities and fold as in `to_onnx`; dtype is the model's unless given:
        "float32" is float in C, "float64" double. Raises OptionError for layers of your own.
        """
        from nnfast.exchange import c_source

        c_source.write(self, path, prefix=prefix, probabilities=probabilities, fold=fold, dtype=dtype)

    def to_torch(self, *, probabilities: bool = False) -> Any:
        """A `torch.nn.Sequential` with copies of the weights, one module for each layer; needs PyTorch.

        Its outputs are those of the last layer, logits for a loss on logits, as PyTorch's losses want them;
        `probabilities=True` adds the softmax or sigmoid. Raises OptionError for layers of your own.
        """
        from nnfast.exchange import torch_models

        return torch_models.to_torch(self, probabilities=probabilities)

    # ---- looking closer ---------------------------------------------------------------------------------------------

    def plot_decision_regions(self, X: Any, y: Any, **options: Any) -> Any:
        """Draw what a model of two inputs answers where; see `nnfast.plots.decision_regions`."""
        from nnfast import plots

        return plots.decision_regions(self, X, y, **options)

    def plot_fit(self, X: Any, y: Any, **options: Any) -> Any:
        """Draw the curve of a model of one input through its data; see `nnfast.plots.fit`."""
        from nnfast import plots

        return plots.fit(self, X, y, **options)

    def profile(self, X: Any, y: Any = None, **options: Any) -> Any:
        """Where a training step spends its time, op by op, beside what the machine allows; see `nnfast.profiling`.

        A model without an optimizer is measured evaluating, and without y predicting.
        """
        from nnfast.profiling import measuring as profiling

        return profiling.profile(self, X, y, **options)

    # ---- copies -----------------------------------------------------------------------------------------------------

    def to(self, *, backend: str | Backend | None = None, dtype: Any = None) -> Model:
        """A new model on another backend or in another dtype, with the same parameters, optimizer state and seeds."""
        return twin_of(self, backend, dtype)

    # ---- programs ---------------------------------------------------------------------------------------------------

    @property
    def program(self) -> Program:
        """One step as data: the training step, or the prediction of a model that cannot train. `print` it."""
        return self._programs.lower(self._main_mode())

    def _main_mode(self) -> str:
        return "train" if self.loss is not None and self._optimizer is not None else "predict"

    def _take_key(self, key: int) -> None:
        """The key of its shuffling, and of the dropout of its layers."""
        self._key = key
        for layer in self._layers:
            layer._key = key

    def _update_by_hand(self, layers: list[Layer]) -> None:
        """One optimizer step from the gradients that the layers hold."""
        if {id(layer) for layer in layers} != {id(w) for w in self._layers if w.parameter_shapes() and w.trainable}:
            raise OwnershipError(
                "this optimizer belongs to a model: step all of its layers at once, step(model.layers)"
            )
        stepping.update(self)

    def _needs(self, what: str, *, optimizer: bool = False) -> None:
        if self.loss is None:
            raise StateError(f"{what} needs a loss: Model(layers, loss=…)")
        if optimizer and self._optimizer is None:
            raise StateError(f"{what} needs an optimizer: Model(layers, loss=…, optimizer=…)")

    def __copy__(self) -> Model:
        raise StateError("a shallow copy would share the weights; use model.to() or copy.deepcopy(model)")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_backend": portable(self._backend), "_session": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_backend": get_backend(state["_backend"])})
        realign(self._buffers, self._backend)

    # ---- words ------------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """The layers as a table: output width, parameters, whether they train."""
        rows = [
            [str(i), repr(layer), str(width), f"{layer.n_parameters:,}", "" if layer.trainable else "frozen"]
            for i, (layer, width) in enumerate(zip(self._layers, self._widths[1:], strict=True))
        ]
        head = f"Model: {self.n_inputs} inputs, {self._dtype}, backend {self._backend.name}"
        body = table(["#", "layer", "outputs", "parameters", ""], rows, right=(0, 2, 3))
        trainable = sum(layer.n_parameters for layer in self._layers if layer.trainable)
        foot = f"{self.n_parameters:,} parameters, {trainable:,} of them trained"
        parts = [repr(p) for p in (self.loss, self._optimizer) if p is not None]
        return "\n".join([head, body, foot, *([", ".join(parts)] if parts else [])])

    def backend_report(self) -> str:
        """Who runs each op of the program, and why, as a table."""
        _, runner = self._programs.runner(self._main_mode())
        rows = [[str(i), r.op, r.implementation, r.reason] for i, r in enumerate(runner.report())]
        return f"backend {self._backend.name}\n" + table(["#", "op", "implementation", "note"], rows, right=(0,))

    def __repr__(self) -> str:
        return f"Model({list(self._layers)!r}, loss={self.loss!r}, optimizer={self._optimizer!r})"
