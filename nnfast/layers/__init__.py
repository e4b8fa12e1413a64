"""Layers: what a network is made of. They hold configuration and parameters; backends do the arithmetic."""

from nnfast.layers.activations import ELU, GELU, LeakyReLU, Linear, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from nnfast.layers.base import Layer
from nnfast.layers.dense import Dense
from nnfast.layers.dropout import Dropout
from nnfast.layers.python import PythonLayer
from nnfast.layers.standardize import Standardize

__all__ = [
    "ELU",
    "GELU",
    "Dense",
    "Dropout",
    "Layer",
    "LeakyReLU",
    "Linear",
    "PythonLayer",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
]
