"""What a training run leaves behind: values per epoch, and the arithmetic that makes them from the sums of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nnfast.metrics import Metric

__all__ = ["History", "Tally"]


class History:
    """Values per epoch: `history.history["loss"]` and so on, one list per name; `val_…` one per validation."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.history: dict[str, list[float]] = {name: [] for name in names}

    def extend(self, values: dict[str, np.ndarray[Any, Any]]) -> None:
        for name, column in values.items():
            self.history.setdefault(name, []).extend(column.tolist())

    def last(self) -> dict[str, float]:
        """The latest value of each name."""
        return {name: column[-1] for name, column in self.history.items() if column}

    @property
    def epochs(self) -> int:
        """Epochs recorded."""
        return len(self.history.get("loss", []))

    def plot(self, **options: Any) -> Any:
        """Draw the curves; see `nnfast.plots.history`."""
        from nnfast import plots

        return plots.history(self, **options)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={value:.4g}" for name, value in self.last().items())
        return f"<History of {self.epochs} epochs: {last}>"


class Tally:
    """Collects the sums of steps and gives values for each epoch that is complete.

    Losses and metrics are Σ(weight·value)/Σ weight over the epoch; the penalty, which belongs to a step and not to a
    sample, is averaged over the epoch's samples.
    """

    def __init__(
        self, columns: tuple[str, ...], metrics: tuple[Metric, ...], rows: np.ndarray[Any, Any], *, penalized: bool
    ) -> None:
        self._metrics = {m: [i for i, c in enumerate(columns) if c.partition(".")[0] == m.name] for m in metrics}
        self._rows = rows  # samples of each batch of an epoch
        self._penalized = penalized
        self._sums = np.empty((0, len(columns)))
        self._weights = np.empty(0)

    @property
    def names(self) -> tuple[str, ...]:
        """What it gives for each epoch."""
        return ("loss", *(["data_loss"] if self._penalized else []), *(m.name for m in self._metrics))

    def add(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Take the sums and weights of further steps; values of the epochs now complete, by name; {} if none."""
        self._sums = np.concatenate([self._sums, sums])
        self._weights = np.concatenate([self._weights, weights])
        steps = len(self._rows)
        epochs = len(self._sums) // steps
        if not epochs:
            return {}
        done_sums, self._sums = np.split(self._sums, [epochs * steps])
        done_weights, self._weights = np.split(self._weights, [epochs * steps])
        return self._values(done_sums.reshape(epochs, steps, sums.shape[1]), done_weights.reshape(epochs, steps))

    def one_epoch(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> dict[str, float]:
        """The values of exactly one epoch."""
        return {name: float(column[0]) for name, column in self.add(sums, weights).items()}

    def _values(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        data = sums[..., 0].sum(axis=1) / weights.sum(axis=1)
        penalty = sums[..., 1] @ self._rows / self._rows.sum()
        values = {"loss": data + penalty}
        if self._penalized:
            values["data_loss"] = data
        for metric, columns in self._metrics.items():
            values[metric.name] = metric.value(sums[..., columns], weights)
        return values
