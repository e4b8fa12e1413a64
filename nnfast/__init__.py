"""nnfast: dense neural networks at the speed of the hardware, from plain Python, on interchangeable backends.

    import nnfast as nn

    model = nn.Model(
        [nn.Dense(2, 64), nn.ReLU(), nn.Dense(64, 3)],
        loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(0.05), metrics=["accuracy"],
    )
    model.fit(X, y, epochs=100)

This module holds public names only. Importing it loads NumPy and nothing heavier.
"""

from nnfast import datasets, errors, functional, initializers, metrics, optimizers, schedules
from nnfast.callbacks import Callback, EarlyStopping
from nnfast.errors import BackendUnavailable
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
    SigmoidBinaryCrossEntropy,
    SoftmaxCrossEntropy,
)
from nnfast.model import Model
from nnfast.optimizers import SGD, Adagrad, Adam, AdamW, RandomSearch, RMSprop
from nnfast.program import Program
from nnfast.protocol import OpSpec
from nnfast.registry import available_backends, get_backend, register_backend, register_op, use_backend

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "BackendUnavailable",
    "BinaryCrossEntropy",
    "Callback",
    "CategoricalCrossEntropy",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "History",
    "Huber",
    "Layer",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Model",
    "OpSpec",
    "Poisson",
    "Program",
    "PythonLayer",
    "RMSprop",
    "RandomSearch",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "SigmoidBinaryCrossEntropy",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Tanh",
    "__version__",
    "available_backends",
    "datasets",
    "errors",
    "functional",
    "get_backend",
    "initializers",
    "metrics",
    "optimizers",
    "register_backend",
    "register_op",
    "schedules",
    "use_backend",
]
