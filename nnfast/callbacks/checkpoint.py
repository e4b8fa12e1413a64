"""Writing a training down while it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnfast.callbacks.base import Logs
from nnfast.callbacks.monitoring import Monitoring
from nnfast.validation import file_name, flag, integer

if TYPE_CHECKING:
    from nnfast.history import History
    from nnfast.model import Model

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Monitoring):
    """Write the model and the position of its training to `path` every `every` epochs, and when the training ends.

    `fit(…, resume=path)` goes on from the file bit for bit, `nn.load(path)` gives the model. The file is replaced in
    one step: after a power cut the old one or the new one is there. With `every_steps` it is also written after so many
    steps, in the middle of an epoch too. It is called after all other callbacks; Ctrl-C is written down as well. After
    an error in the midst of steps, as of `on_gradients`, the last file stays: what those steps measured is lost. With
    `keep_best` the model is kept beside, in `best_path` ("run.best.nnfast" for "run.nnfast"), whenever `monitor` has
    improved; `monitor` and `mode` are as for `EarlyStopping`.
    """

    last = True
    rank_zero = True

    def __init__(
        self,
        path: Any,
        every: int = 1,
        keep_best: bool = False,
        *,
        every_steps: int | None = None,
        monitor: str | None = None,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, 0, mode, every)
        self.path = Path(file_name("path", path))
        self.every_steps = None if every_steps is None else integer("every_steps", every_steps, 1)
        self.keep_best = flag("keep_best", keep_best)
        self._saved: int | None = None

    @property
    def best_path(self) -> Path:
        return self.path.with_name(f"{self.path.stem}.best{self.path.suffix}")

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        self._saved = None
        if self.keep_best:
            super().on_begin(model, epochs, names)
        self.prepare()

    def prepare(self) -> None:
        """Make the folder, and raise CheckpointError if the file cannot be written there."""
        from nnfast.storage.files import prepare  # with the first training, not with the library

        prepare(os.fspath(self.path))

    def on_step(self, model: Model, step: int) -> None:
        self._save(model)

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> None:
        if self.keep_best and self.improved(epoch, logs):
            self._write(model, self.best_path)
        self._save(model, again=True)

    def on_end(self, model: Model, history: History) -> None:
        if model._session is not None and model._session.is_whole:
            self._save(model)

    def _save(self, model: Model, *, again: bool = False) -> None:
        """Unless nothing was trained since the last time; `again` after an epoch, which others may have ended."""
        steps = model._session.run.steps if model._session is not None else None
        if again or steps != self._saved:
            self._write(model, self.path)
            self._saved = steps

    def _write(self, model: Model, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)  # it may have gone meanwhile
        model.save(path)
