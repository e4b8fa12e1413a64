"""How far a `fit` is, as a callback: what `verbose=1` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnfast.callbacks.base import Callback, Logs
from nnfast.progress import Progress
from nnfast.validation import integer

if TYPE_CHECKING:
    from nnfast.history import History
    from nnfast.model import Model

__all__ = ["ProgressBar"]

UPDATES = 100  # of a bar whose `every` was left open


class ProgressBar(Callback):
    """A bar on a terminal where rich is installed, else at most ten plain lines, on stderr; for `fit(verbose=0)`.

    It shows what `verbose=1` shows, which is cheaper, because it looks whenever the runner comes back anyway. `every`
    is the number of epochs between two looks; by default a hundredth of them all. It appears after the first of these.
    """

    rank_zero = True

    def __init__(self, *, every: int | None = None) -> None:
        self._wanted = None if every is None else integer("every", every, 1)
        self.every = self._wanted or 1
        self._progress: Progress | None = None
        self._entered = False

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        self.every = self._wanted or max(1, epochs // UPDATES)
        self._progress, self._entered = Progress.of(1, epochs), False

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        assert self._progress is not None
        if not self._entered:  # not before: a `fit` that another callback refuses must leave no bar behind
            self._progress.__enter__()
            self._entered = True
        self._progress.update(epoch, logs, {})
        return None

    def on_end(self, model: Model, history: History) -> None:
        if self._progress is not None and self._entered:
            self._progress.__exit__(None, None, None)
        self._progress, self._entered = None, False
