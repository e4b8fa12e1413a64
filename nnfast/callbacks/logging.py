"""What was measured, written down while it happens: as a table in a file, and for TensorBoard."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

from nnfast.callbacks.base import Callback, Logs
from nnfast.errors import OptionError
from nnfast.optimizers.base import GradientOptimizer
from nnfast.validation import file_name, flag, integer

if TYPE_CHECKING:
    from nnfast.history import History
    from nnfast.model import Model
    from nnfast.storage.records import Record

__all__ = ["CSVLogger", "TensorBoard"]


class CSVLogger(Callback):
    """A row per epoch into the file at `path`, in columns "epoch" and all that the training measures.

    What was not measured in an epoch is left empty; numbers are written with all their digits. Rows are written and
    flushed after every `every` epochs, and those of all epochs since are there then, so a large `every` loses none and
    costs less; the rest is written when the training ends, also in an error. A new training overwrites the file; with
    `append` its rows, numbered from 1 anew, follow those that are there. A training that is resumed always goes on in
    its file: rows of epochs that it will do again are taken out first, so that none is there twice.
    Raises OptionError where the folder does not exist or the file has other columns.
    """

    rank_zero = True

    def __init__(self, path: Any, separator: str = ",", append: bool = False, *, every: int = 1) -> None:
        if not isinstance(separator, str) or len(separator) != 1 or separator.isalnum() or separator in '+-."\n\r':
            raise OptionError(f"separator is {separator!r}; expected one character that is in no number, such as ';'")
        self.path = file_name("path", path)
        self.separator = separator
        self.append = flag("append", append)
        self.every = integer("every", every, 1)
        self._begin(())

    def _begin(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._rows = _NewEpochs()
        self._start = 0  # where in the file the rows of this training begin
        self._resumed = False
        self._file: BinaryIO | None = None

    @property
    def _header(self) -> bytes:
        return self._line(["epoch", *self._names])

    def _line(self, cells: list[Any]) -> bytes:
        import csv
        import io

        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator="\n").writerow(cells)
        return text.getvalue().encode()

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        self._begin(names)
        folder = os.path.dirname(os.path.abspath(self.path))
        if not os.path.isdir(folder):
            raise OptionError(f"path is {self.path!r}; the folder {folder} does not exist")
        if os.path.isdir(self.path):
            raise OptionError(f"path is {self.path!r}, which is a folder; expected the name of a file")
        self._start = len(self._header)
        if self.append and self._check_header():
            self._start = len(_whole_lines(self.path)) or self._start

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        self._write(model.history)
        return None

    def on_end(self, model: Model, history: History) -> None:
        try:
            self._write(history)
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None

    def state(self) -> dict[str, Any]:
        return {"epoch": self._rows.last, "start": self._start}

    def check_state(self, model: Model, state: Record) -> None:
        state.count("epoch")
        self._check_start(state.count("start"))

    def restore(self, state: dict[str, Any]) -> None:
        """Take out the rows of later epochs; those that the file lacks will be written again."""
        start = int(state["start"])
        self._check_header()
        self._check_start(start)
        self._resumed, self._rows.last, self._start = True, int(state["epoch"]), start

    def _write(self, history: History) -> None:
        if history.epochs <= self._rows.last:
            return
        if self._file is None:
            self._file = self._open()
        lines = [self._line([epoch, *map(row.get, self._names)]) for epoch, row in self._rows.take(history)]
        self._file.write(b"".join(lines))
        self._file.flush()

    def _open(self) -> BinaryIO:
        """The file, at the place where the next row goes."""
        keep = self.append or self._resumed
        file = open(self.path, "r+b" if keep and os.path.exists(self.path) else "w+b")  # noqa: SIM115  # until on_end
        content = _whole_lines(self.path)
        if not content:
            content = self._header
            file.write(content)
        if self._resumed and self._start <= len(content):
            kept, self._rows.last = _up_to(content[self._start :], self.separator, self._rows.last)
            content = content[: self._start + kept]
        elif self._resumed:
            self._start, self._rows.last = len(content), 0  # the file has lost all of its rows
        file.truncate(len(content))
        file.seek(len(content))
        return file

    def _check_start(self, start: int) -> None:
        """Refuse a file in which no line begins where the rows of this training did."""
        if os.path.isfile(self.path) and _whole_lines(self.path)[:start][-1:] not in (b"\n", b""):
            raise OptionError(f"the file {self.path!r} was changed since this training wrote to it; name another file")

    def _check_header(self) -> bool:
        """Whether the file is there; one that is and has other columns is refused."""
        if not os.path.exists(self.path):
            return False
        with open(self.path, "rb") as file:
            first = file.readline()
        if first and first != self._header:
            raise OptionError(
                f"the file {self.path!r} has the columns {first.decode(errors='replace').strip()!r}, this training "
                f"{self._header.decode().strip()!r}; name another file"
            )
        return True


class TensorBoard(Callback):
    """Scalars for TensorBoard into `folder`: all that is measured, and the rate of the next step as "learning_rate".

    Values of every epoch are written after every `every` epochs, the rate as it is then; the epoch is the step. A
    training that is resumed goes on in the same folder, and TensorBoard hides what an interrupted one had written
    beyond. Look at it with `tensorboard --logdir FOLDER`.
    Writes with the small package tensorboardX (no TensorFlow, no PyTorch); ImportError where that is missing.
    """

    rank_zero = True

    def __init__(self, folder: Any, *, every: int = 1) -> None:
        self.folder = file_name("folder", folder)
        self.every = integer("every", every, 1)
        self._begin()

    def _begin(self) -> None:
        self._rows = _NewEpochs()
        self._resumed = False
        self._writer: Any = None

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        self._begin()
        _summary_writer()  # a missing package shows now, not after the first epoch
        if os.path.exists(self.folder) and not os.path.isdir(self.folder):
            raise OptionError(f"folder is {self.folder!r}, which is a file; expected a folder, there or to be made")

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        self._write(model.history)
        if isinstance(model.optimizer, GradientOptimizer):
            self._writer.add_scalar("learning_rate", model.optimizer.current_learning_rate, epoch)
        self._writer.flush()
        return None

    def on_end(self, model: Model, history: History) -> None:
        try:
            if history.epochs > self._rows.last:
                self._write(history)
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def state(self) -> dict[str, Any]:
        return {"epoch": self._rows.last}

    def check_state(self, model: Model, state: Record) -> None:
        state.count("epoch")

    def restore(self, state: dict[str, Any]) -> None:
        self._resumed, self._rows.last = True, int(state["epoch"])

    def _write(self, history: History) -> None:
        if self._writer is None:
            purge = self._rows.last + 1 if self._resumed else None
            # Without an ending of its own, a second writer within a second would overwrite the first one's file.
            ending = f".{os.getpid()}.{time.time_ns()}"
            self._writer = _summary_writer()(self.folder, purge_step=purge, filename_suffix=ending)
        for epoch, row in self._rows.take(history):
            for name, value in row.items():
                self._writer.add_scalar(name, value, epoch)


class _NewEpochs:
    """The epochs of a history that were not taken yet; `last` is the last that was."""

    def __init__(self) -> None:
        self.last = 0

    def take(self, history: History) -> list[tuple[int, Logs]]:
        rows: dict[int, Logs] = {epoch: {} for epoch in range(self.last + 1, history.epochs + 1)}
        for name, column in history.history.items():
            epochs = history.epochs_of(name)
            start = bisect_right(epochs, self.last)
            for epoch, value in zip(epochs[start:], column[start:], strict=True):
                rows[epoch][name] = value
        self.last = max(self.last, history.epochs)
        return list(rows.items())


def _whole_lines(path: str) -> bytes:
    """What the file holds, without a last line that was cut off while it was written."""
    with open(path, "rb") as file:
        content = file.read()
    return content[: content.rfind(b"\n") + 1]


def _up_to(rows: bytes, separator: str, last: int) -> tuple[int, int]:
    """How many bytes of these rows are of epochs up to `last`, in order from 1, and which is the last of them."""
    length = found = 0
    for line in rows.splitlines(keepends=True):
        number = line.split(separator.encode(), 1)[0]
        if not number.isdigit() or int(number) != found + 1 or found == last:
            break
        length, found = length + len(line), found + 1
    return length, found


def _summary_writer() -> Any:
    try:
        return import_module("tensorboardX").SummaryWriter
    except ImportError as error:
        raise ImportError(
            f"TensorBoard files need tensorboardX ({error}); install it with `pip install 'nnfast[tensorboard]'`"
        ) from error
