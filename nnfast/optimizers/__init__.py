"""Optimizers: settings and state on the host, the update as ops over flat arrays."""

from nnfast.optimizers.adagrad import Adagrad
from nnfast.optimizers.adam import Adam, AdamW
from nnfast.optimizers.base import GradientOptimizer, Optimizer
from nnfast.optimizers.random_search import RandomSearch
from nnfast.optimizers.rmsprop import RMSprop
from nnfast.optimizers.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "GradientOptimizer", "Optimizer", "RMSprop", "RandomSearch"]
