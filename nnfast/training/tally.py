"""From the sums of batches to the values of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nnfast.metrics import Metric

__all__ = ["Tally"]


class Tally:
    """Collects the sums of batches and gives values for each epoch that is complete.

    Losses and metrics are Σ(weight·value)/Σ weight over the epoch; the penalty, which belongs to a step and not to a
    sample, is averaged over the epoch's samples.
    """

    def __init__(
        self,
        columns: tuple[str, ...],
        metrics: tuple[Metric, ...],
        rows: np.ndarray[Any, Any] | None,
        *,
        penalized: bool,
    ) -> None:
        self._metrics = {m: [i for i, c in enumerate(columns) if c.partition(".")[0] == m.name] for m in metrics}
        self.columns = len(columns)  # of the sums
        self._rows = rows  # samples of each batch of an epoch; None where that is known when it is over
        self._penalized = penalized
        self._held: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []  # sums, weights
        self.partial = np.empty((0, len(columns))), np.empty(0)

    @property
    def names(self) -> tuple[str, ...]:
        """What it gives for each epoch."""
        return ("loss", *(["data_loss"] if self._penalized else []), *(m.name for m in self._metrics))

    def add(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Take the sums and weights of further steps; values of the epochs now complete, by name; {} if none."""
        self._held.append((sums, weights))
        if self._rows is None or sum(len(held) for _, held in self._held) < len(self._rows):
            return {}
        steps = len(self._rows)
        sums, weights = self.partial
        epochs = len(sums) // steps
        self.partial = sums[epochs * steps :], weights[epochs * steps :]
        done_sums = sums[: epochs * steps].reshape(epochs, steps, sums.shape[1])
        return self.values(done_sums, weights[: epochs * steps].reshape(epochs, steps), self._rows)

    def finish(self, rows: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
        """The values of the epoch that has just ended, with so many samples in each of its batches."""
        sums, weights = self.partial
        self.partial = sums[:0], weights[:0]
        return self.values(sums[None], weights[None], np.array(rows, np.float64))

    @property
    def partial(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Sums and weights of the batches of an epoch that is not complete."""
        held = [pair for pair in self._held if len(pair[0])] or self._held[:1]
        if len(held) > 1:
            sums, weights = zip(*held, strict=True)
            held = [(np.concatenate(sums), np.concatenate(weights))]
        return held[0]

    @partial.setter
    def partial(self, held: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> None:
        self._held = [held]

    def merged(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """From the sums of the parts of each batch (batches, parts, columns) and their weights: those of the batch."""
        whole = np.asarray(sums.sum(axis=1))
        for metric, columns in self._metrics.items():
            whole[:, columns] = metric.merged(sums[..., columns], weights)
        return whole

    def one_epoch(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> dict[str, float]:
        """The values of exactly one epoch."""
        return {name: float(column[0]) for name, column in self.add(sums, weights).items()}

    def values(
        self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Values of epochs from their sums (epochs, steps, columns), weights (epochs, steps) and rows (steps,)."""
        data = sums[..., 0].sum(axis=1) / weights.sum(axis=1)
        penalties = sums[..., 1]
        penalty = (penalties * rows).sum(axis=1) / rows.sum()  # not `@`: it rounds by how many epochs come at once
        values = {"loss": data + penalty if penalties.any() else data}
        if self._penalized:
            values["data_loss"] = data
        for metric, columns in self._metrics.items():
            values[metric.name] = metric.value(sums[..., columns], weights)
        return values
