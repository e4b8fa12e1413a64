"""The book's Model: layers added one by one, a loss, an optimizer and an accuracy, trained in compiled steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnfast.compat import _training
from nnfast.compat._accuracy import Accuracy_Regression
from nnfast.compat._engine import Engine, draw_dropout_key, dtype_of, parts_of
from nnfast.compat._losses import Activation_Softmax_Loss_CategoricalCrossentropy, Loss
from nnfast.compat._own import PARAMETERS
from nnfast.compat._translate import ends_in_softmax_loss
from nnfast.devices import fetched
from nnfast.errors import DTypeError, OwnershipError, ShapeError, StateError
from nnfast.validation import FLOAT32, Array, convert, host_array, integer

__all__ = ["Layer_Input", "Model"]


class Layer_Input:
    """What stands before the first layer: output = inputs."""

    output: Any

    def forward(self, inputs: Any, training: bool = True) -> None:
        self.output = inputs


class Model:
    """A network of the book's parts.

        model = Model()
        model.add(Layer_Dense(2, 64))
        model.add(Activation_ReLU())
        model.add(Layer_Dense(64, 3))
        model.add(Activation_Softmax())
        model.set(loss=Loss_CategoricalCrossentropy(), optimizer=Optimizer_Adam(), accuracy=Accuracy_Categorical())
        model.finalize()
        model.train(X, y, epochs=10, batch_size=128, print_every=100, validation_data=(X_test, y_test))

    `train`, `evaluate` and `predict` run in the compiled step of `nnfast.Model`. `weights` and `biases` of the layers
    are views that follow each step; between two calls they may be changed, or others assigned, and so may rates,
    strengths and all parts. Layers, losses, optimizers and accuracies of your own join in, each at the price of a
    return to Python in every step.

    `layers`, `loss`, `optimizer` and `accuracy` are what was given; from `finalize` on there are `trainable_layers`,
    `output_layer_activation`, and on each layer `prev` and `next`.
    """

    loss: Any = None
    optimizer: Any = None
    accuracy: Any = None
    softmax_classifier_output: Activation_Softmax_Loss_CategoricalCrossentropy | None = None

    def __init__(self) -> None:
        self.layers: list[Any] = []
        self.trainable_layers: list[Any] = []
        self.input_layer = Layer_Input()
        self.output_layer_activation: Any = None
        self._finalized = False
        self._key = 0  # of dropout; 0 until there is some
        self._dtype = FLOAT32
        self._engine: Engine | None = None

    # ---- putting it together ----------------------------------------------------------------------------------------

    def add(self, layer: Any) -> None:
        """Append a layer or an activation: anything with `forward` and `backward`."""
        _check_part("layer", layer, "forward", "backward")
        if any(layer is other for other in self.layers):
            raise OwnershipError(
                f"this {type(layer).__name__} is in the model already; each place needs its own object"
            )
        self.layers.append(layer)
        self._finalized = False

    def set(self, *, loss: Any = None, optimizer: Any = None, accuracy: Any = None) -> None:
        """Set loss, optimizer and accuracy, or those of them that are given."""
        given = {"loss": loss, "optimizer": optimizer, "accuracy": accuracy}
        needed = {
            "loss": ("forward", "backward", "calculate"),
            "optimizer": ("pre_update_params", "update_params", "post_update_params"),
            "accuracy": ("compare", "calculate"),
        }
        for name, part in given.items():
            if part is not None:
                _check_part(name, part, *needed[name])
        for name, part in given.items():
            if part is not None:
                setattr(self, name, part)

    def finalize(self) -> None:
        """Connect the parts and compile the step. Raises ShapeError where layers do not fit together.

        The model computes in float64 where any weights are float64, else in float32; later weights are converted.
        """
        if not self.layers:
            raise StateError("finalize() was called on a model without layers: call add(layer) first")
        if not self._key:
            self._key = draw_dropout_key(self.layers)
        self._dtype = dtype_of(self.layers)
        self._build()
        self._finalized = True

    def _build(self) -> Engine:
        engine = Engine(self, self._key, self._dtype, self._engine)
        engine.push(training=True)
        self.trainable_layers = [layer for layer in self.layers if hasattr(layer, "weights")]
        self.output_layer_activation = self.layers[-1]
        chain = [self.input_layer, *self.layers, self.loss]
        for before, layer, after in zip(chain, self.layers, chain[2:], strict=False):
            layer.prev, layer.next = before, after
        if hasattr(self.loss, "remember_trainable_layers"):
            self.loss.remember_trainable_layers(self.trainable_layers)
        joint = ends_in_softmax_loss(self.layers, self.loss)
        self.softmax_classifier_output = Activation_Softmax_Loss_CategoricalCrossentropy() if joint else None
        engine.parts = parts_of(self)
        self._engine = engine
        return engine

    def _ready(self, call: str, *needed: str) -> Engine:
        """The engine, with everything that the program has changed since."""
        if not self._finalized:
            raise StateError(f"{call}() was called before finalize(): add the layers, set(…) the rest, then finalize()")
        for name in needed:
            if getattr(self, name) is None:
                raise StateError(f"{call}() needs {'a loss' if name == 'loss' else f'an {name}'}: model.set({name}=…)")
        if self._engine is None or self._engine.parts != parts_of(self):
            return self._build()
        self._engine.push(training=call in ("train", "save"))
        return self._engine

    # ---- training and asking ----------------------------------------------------------------------------------------

    def train(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        print_every: int = 1,
        validation_data: tuple[Any, Any] | None = None,
    ) -> None:
        """Train on X (N, I) and y, `batch_size` rows at a time in the order given, a last short batch included.

        Printed is every `print_every`-th step of an epoch and the last one, as it was before its update, with the rate
        that it used; then the epoch as a whole, with the penalties that its last update left. `validation_data` is
        (X, y), measured after each epoch. Raises an error of `nnfast.errors` before anything changes.
        """
        engine = self._ready("train", "loss", "optimizer", "accuracy")
        epochs, print_every = integer("epochs", epochs, 0), integer("print_every", print_every, 1)
        size = None if batch_size is None else integer("batch_size", batch_size, 1)
        y = fetched("y", y, engine.native.backend)
        rows, validation = engine.rows("", X, y, size), None
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise DTypeError("validation_data must be (X, y)")
            validation = engine.rows("validation ", *validation_data, size)
        if hasattr(self.accuracy, "init"):
            self.accuracy.init(y)
        engine.push(training=True)  # the precision
        _training.train(self, engine, rows, epochs=epochs, print_every=print_every, validation=validation)

    def evaluate(self, X_val: Any, y_val: Any, *, batch_size: int | None = None) -> None:
        """Print accuracy and loss (without penalties) on these rows, without dropout."""
        engine = self._ready("evaluate", "loss", "accuracy")
        size = None if batch_size is None else integer("batch_size", batch_size, 1)
        y_val = fetched("y", y_val, engine.native.backend)
        rows = engine.rows("", X_val, y_val, size)
        if isinstance(self.accuracy, Accuracy_Regression) and self.accuracy.precision is None:
            self.accuracy.init(y_val)  # nothing has been trained yet: measure by these
            engine.push(training=False)
        _training.evaluate(self, engine, rows)

    def predict(self, X: Any, *, batch_size: int | None = None) -> Array:
        """The outputs (N, O) of the last layer for X (N, I), without dropout."""
        engine = self._ready("predict")
        size = None if batch_size is None else integer("batch_size", batch_size, 1)
        return np.asarray(engine.native.backend.to_numpy(engine.native.predict(X, size)))

    def forward(self, X: Any, training: bool = True) -> Any:
        """One pass by hand, layer by layer, which leaves `output` on each; returns the last one."""
        self._ready("forward")
        self.input_layer.forward(X, training)
        output = self.input_layer.output
        for layer in self.layers:
            layer.forward(output, training)
            output = layer.output
        return output

    def backward(self, output: Any, y: Any) -> None:
        """The way back by hand, after `forward`: leaves `dinputs` on each layer, and `dweights` and `dbiases`."""
        self._ready("backward", "loss")
        rest = self.layers
        if self.softmax_classifier_output is not None:
            self.softmax_classifier_output.backward(output, y)
            dvalues = self.layers[-1].dinputs = self.softmax_classifier_output.dinputs
            rest = self.layers[:-1]
        else:
            self.loss.backward(output, y)
            dvalues = self.loss.dinputs
        for layer in reversed(rest):
            layer.backward(dvalues)
            dvalues = layer.dinputs

    def _penalty(self) -> float:
        """The penalties as the weights are now."""
        return sum(Loss().regularization_loss(layer) for layer in self.trainable_layers)

    # ---- parameters -------------------------------------------------------------------------------------------------

    def get_parameters(self) -> list[tuple[Array, ...]]:
        """Copies of weights and biases of each trainable layer."""
        self._ready("get_parameters")
        return [tuple(np.array(getattr(layer, name)) for name in _names(layer)) for layer in self.trainable_layers]

    def set_parameters(self, parameters: Sequence[Any]) -> None:
        """Copy in what `get_parameters` gave, perhaps that of another model; all is checked before anything changes."""
        engine = self._ready("set_parameters")
        if not _is_list(parameters) or not all(_is_list(pair) for pair in parameters):
            raise DTypeError(
                f"parameters are pairs (weights, biases), as get_parameters gives them; given: {parameters!r}"
            )
        pairs, layers = [tuple(pair) for pair in parameters], self.trainable_layers
        if [len(pair) for pair in pairs] != [len(_names(layer)) for layer in layers]:
            raise ShapeError(
                f"parameters must be {len(layers)} pairs (weights, biases), one for each trainable layer; "
                f"given: {len(pairs)} of lengths {[len(pair) for pair in pairs]}"
            )
        news = []
        for i, (layer, pair) in enumerate(zip(layers, pairs, strict=True)):
            for name, value in zip(_names(layer), pair, strict=True):
                old, new = getattr(layer, name), host_array(name, value)
                if new.shape != old.shape:
                    raise ShapeError(f"{name} of trainable layer {i} have shape {old.shape}; given: {new.shape}")
                news.append((layer, name, convert(name, new, old.dtype)))
        for layer, name, new in news:
            setattr(layer, name, new)
        engine.push(training=False)

    # ---- files ------------------------------------------------------------------------------------------------------

    def save_parameters(self, path: Any) -> None:
        """Write the parameters alone; a name ending in .npz gives NumPy's format, any other that of safetensors."""
        from nnfast.compat import _saving

        _saving.save_parameters(self._ready("save_parameters"), path)

    def load_parameters(self, path: Any) -> None:
        """Read parameters into a model of the same layers. Raises CheckpointError before anything changes."""
        from nnfast.compat import _saving

        _saving.load_parameters(self._ready("load_parameters"), path)

    def save(self, path: Any) -> None:
        """Write the whole model, with the optimizer's arrays and counters; no pickle. See `nnfast.checkpoint`."""
        from nnfast.compat import _saving

        _saving.save(self, self._ready("save"), path)

    @staticmethod
    def load(path: Any) -> Model:
        """The model of a file of `save`, finalized: it predicts and goes on training as the saved one would.

        Raises CheckpointError for any other file, with the reason.
        """
        from nnfast.compat import _saving

        model = Model()
        _saving.load(model, path)
        return model

    # The engine is made again from the parts where it is needed; copies and pickles do without it.
    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_engine": None}


def _check_part(name: str, part: Any, *methods: str) -> None:
    if isinstance(part, type):
        raise DTypeError(f"{name}: {part.__name__} is the class; give an object, {part.__name__}(…)")
    missing = [m for m in methods if not callable(getattr(part, m, None))]
    if missing:
        raise DTypeError(f"{name} must be one of nnfast.compat.nnfs, or have {', '.join(missing)}(): given {part!r}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def _names(layer: Any) -> list[str]:
    return [name for name in PARAMETERS if hasattr(layer, name)]
