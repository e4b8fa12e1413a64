"""Epochs of adam and sgd in scikit-learn's row order: jobs for the model's runner, and their sums as losses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nnfast.sklearn.network import Network, scales
from nnfast.training.batches import Data, make_job, normalisers, repeated
from nnfast.training.run import JOB_SECONDS, ORDER_ROWS, expected_seconds

__all__ = ["Descent", "RowOrders"]

Array = np.ndarray[Any, Any]


class RowOrders:
    """The row orders that scikit-learn draws: each epoch shuffles the order of the one before."""

    def __init__(self, random: np.random.RandomState, rows: int) -> None:
        self._random = random
        self._last = np.arange(rows)

    def draw(self, epochs: int) -> Array:
        """The next orders, (epochs, rows)."""
        orders = np.empty((epochs, len(self._last)), np.int64)
        for order in orders:
            order[:] = self._last
            self._random.shuffle(order)  # which swaps places, whatever stands there
            self._last = order
        return orders


class Descent:
    """Rows that a network is trained on, epoch by epoch.

    constant    what is added to each row's loss although the network has no say in it, or None
    heed        called between jobs; may raise KeyboardInterrupt
    """

    def __init__(
        self, network: Network, data: Data, alpha: float, orders: RowOrders | None, constant: Array | None
    ) -> None:
        self.network, self.data, self._orders = network, data, orders
        network.penalize(alpha)
        self._constant = constant if constant is None or data.weight is None else constant * data.weight
        self.per_epoch = len(data.starts)
        self._factors = scales(network.architecture.out_activation, network.architecture.widths[-1])
        self._seconds = expected_seconds(network.model._programs.runner("train")[1], data.size)  # then, of the last job

    def at_once(self) -> int:
        """How many epochs fit into a job that lasts about 100 ms; 1 where nothing is known."""
        if not self._seconds:
            return 1
        within = int(JOB_SECONDS / (self._seconds * self.per_epoch))
        return max(1, min(within, ORDER_ROWS // self.data.rows))

    def run(self, epochs: int, seen: int, heed: Callable[[], None]) -> list[float]:
        """Train this many epochs after `seen` rows in all; the loss of each, batches before their updates."""
        data, B = self.data, self.per_epoch
        order = self._orders.draw(epochs) if self._orders is not None else None
        weights = data.batch_weights(order) if order is not None else repeated(data.batch_weights(None), epochs)
        weights = normalisers(weights)
        rates = self._rates(epochs, seen)
        values = np.empty(len(weights))
        most = max(1, int(JOB_SECONDS / self._seconds)) if self._seconds else len(weights)  # over in good time
        for first in range(0, len(weights), most):
            part = slice(first, first + most)
            values[part] = self._job(order, first, weights[part], rates[part])
            heed()
        if self._constant is not None:
            values += self._constants(order, epochs) / weights
        each = values.reshape(epochs, B) @ data.batch_rows / data.rows
        return [float(loss) for loss in each]

    def _rates(self, epochs: int, seen: int) -> Array:
        optimizer, B = self.network.optimizer, self.per_epoch
        if optimizer.steady:
            return np.asarray(optimizer.learning_rates(optimizer.steps, epochs * B))
        rates = []
        for epoch in range(epochs):
            rates.append(optimizer.learning_rates(optimizer.steps + epoch * B, B))
            optimizer.epoch_ends(seen + (epoch + 1) * self.data.rows)
        return np.concatenate(rates)

    def _job(self, order: Array | None, first: int, weights: Array, rates: Array) -> Array:
        """The next steps; the loss of each batch."""
        model, optimizer = self.network.model, self.network.optimizer
        of_loss, of_gradient = self._factors
        program, runner = model._programs.runner("train")
        epoch, batch = divmod(first, self.per_epoch)
        job = make_job(
            model,
            self.data,
            model._programs.scalars(program),
            order=None if order is None else order[epoch : (first + len(weights) - 1) // self.per_epoch + 1],
            steps=len(weights),
            first_batch=batch,
            learning_rates=rates,
            normalisers=weights / of_gradient,
            first_step=optimizer.late + optimizer.steps + 1,
        )
        begin = time.perf_counter()
        try:
            result = model._programs.run(runner, job)
        finally:
            optimizer.steps += job.done
        self._seconds = (time.perf_counter() - begin) / len(weights)
        return np.asarray(result.sums[:, 0] * of_loss / weights + result.sums[:, 1])

    def _constants(self, order: Array | None, epochs: int) -> Array:
        """Σ weight·constant of each batch."""
        assert self._constant is not None
        ordered = np.tile(self._constant, (epochs, 1)) if order is None else self._constant[order]
        return np.asarray(np.add.reduceat(ordered, self.data.starts, axis=1)).reshape(-1)
