"""nnfast: dense neural networks at the speed of the hardware, from plain Python, on interchangeable backends.

    import nnfast as nn

    model = nn.Model(
        [nn.Dense(2, 64), nn.ReLU(), nn.Dense(64, 3)],
        loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(0.05), metrics=["accuracy"],
    )
    model.fit(X, y, epochs=100)

This module holds public names only. The module behind a name is loaded when the name is first used (SPEC 1), so that
importing this one costs no more than importing NumPy; the rest of the cost comes with the first name.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as _numpy  # noqa: F401  # where NumPy is missing or broken, that shows here and not at the first name

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nnfast import (
        callbacks,
        checkpoint,
        datasets,
        errors,
        functional,
        initializers,
        layers,
        losses,
        metrics,
        optimizers,
        plots,
        protocol,
        schedules,
    )
    from nnfast.callbacks import (
        Callback,
        CSVLogger,
        EarlyStopping,
        LearningRateSchedule,
        ModelCheckpoint,
        ProgressBar,
        ReduceLROnPlateau,
        TensorBoard,
        TerminateOnNaN,
    )
    from nnfast.checkpoint import load
    from nnfast.errors import BackendUnavailable, CheckpointError
    from nnfast.exchange.readers import from_keras, from_onnx, from_torch
    from nnfast.history import History
    from nnfast.layers import (
        ELU,
        GELU,
        Dense,
        Dropout,
        Layer,
        LeakyReLU,
        Linear,
        PythonLayer,
        ReLU,
        Sigmoid,
        SiLU,
        Softmax,
        Softplus,
        Standardize,
        Tanh,
    )
    from nnfast.losses import (
        BinaryCrossEntropy,
        CategoricalCrossEntropy,
        Huber,
        Loss,
        MeanAbsoluteError,
        MeanSquaredError,
        Poisson,
        PythonLoss,
        SigmoidBinaryCrossEntropy,
        SoftmaxCrossEntropy,
    )
    from nnfast.metrics import PythonMetric
    from nnfast.model import Model
    from nnfast.optimizers import SGD, Adagrad, Adam, AdamW, RandomSearch, RMSprop
    from nnfast.own_ops import register_op
    from nnfast.population import Population
    from nnfast.program import Program
    from nnfast.protocol import OpSpec
    from nnfast.registry import available_backends, get_backend, register_backend, use_backend
    from nnfast.threads import get_num_threads, set_num_threads

# The same once more, for Python; tests/test_import.py holds the two together.
_HOMES = {
    "callbacks": [
        *["CSVLogger", "Callback", "EarlyStopping", "LearningRateSchedule", "ModelCheckpoint", "ProgressBar"],
        *["ReduceLROnPlateau", "TensorBoard", "TerminateOnNaN"],
    ],
    "checkpoint": ["load"],
    "errors": ["BackendUnavailable", "CheckpointError"],
    "exchange.readers": ["from_keras", "from_onnx", "from_torch"],
    "history": ["History"],
    "layers": [
        *["Dense", "Dropout", "ELU", "GELU", "Layer", "LeakyReLU", "Linear", "PythonLayer", "ReLU", "SiLU", "Sigmoid"],
        *["Softmax", "Softplus", "Standardize", "Tanh"],
    ],
    "losses": [
        *["BinaryCrossEntropy", "CategoricalCrossEntropy", "Huber", "Loss", "MeanAbsoluteError", "MeanSquaredError"],
        *["Poisson", "PythonLoss", "SigmoidBinaryCrossEntropy", "SoftmaxCrossEntropy"],
    ],
    "metrics": ["PythonMetric"],
    "model": ["Model"],
    "optimizers": ["Adagrad", "Adam", "AdamW", "RMSprop", "RandomSearch", "SGD"],
    "population": ["Population"],
    "program": ["Program"],
    "protocol": ["OpSpec"],
    "own_ops": ["register_op"],
    "registry": ["available_backends", "get_backend", "register_backend", "use_backend"],
    "threads": ["get_num_threads", "set_num_threads"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "BackendUnavailable",
    "BinaryCrossEntropy",
    "CSVLogger",
    "Callback",
    "CategoricalCrossEntropy",
    "CheckpointError",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "History",
    "Huber",
    "Layer",
    "LeakyReLU",
    "LearningRateSchedule",
    "Linear",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Model",
    "ModelCheckpoint",
    "OpSpec",
    "Poisson",
    "Population",
    "Program",
    "ProgressBar",
    "PythonLayer",
    "PythonLoss",
    "PythonMetric",
    "RMSprop",
    "RandomSearch",
    "ReLU",
    "ReduceLROnPlateau",
    "SiLU",
    "Sigmoid",
    "SigmoidBinaryCrossEntropy",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Standardize",
    "Tanh",
    "TensorBoard",
    "TerminateOnNaN",
    "__version__",
    "available_backends",
    "callbacks",
    "checkpoint",
    "datasets",
    "errors",
    "from_keras",
    "from_onnx",
    "from_torch",
    "functional",
    "get_backend",
    "get_num_threads",
    "initializers",
    "layers",
    "load",
    "losses",
    "metrics",
    "optimizers",
    "plots",
    "protocol",
    "register_backend",
    "register_op",
    "schedules",
    "set_num_threads",
    "use_backend",
]
_MODULES = set(__all__) - set(_HOME) - {"__version__"}


if not TYPE_CHECKING:  # else type checkers would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"nnfast.{name}")
        if name in _HOME:
            globals()[name] = value = getattr(import_module(f"nnfast.{_HOME[name]}"), name)
            return value
        raise AttributeError(f"module 'nnfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
