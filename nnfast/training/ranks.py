"""The processes of an MPI job that train one model together: what they tell each other, and how they fail together.

A communicator of mpi4py is handed over by the caller; nothing here imports mpi4py. Numbers and bytes travel as NumPy
arrays through the buffer methods (`Allreduce`, `Allgather`, `Bcast`), never as pickles.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from nnfast.errors import DTypeError, RankError

__all__ = ["Ranks"]

METHODS = ("Get_rank", "Get_size", "Dup", "Free", "Allreduce", "Allgather", "Bcast", "Abort")
INTERRUPTED = "KeyboardInterrupt"
LAST_WORDS = 0.3  # seconds that they have to arrive


class Ranks:
    """All ranks of a communicator, seen from one of them. A context: within, it has a communicator of its own.

    Every method that exchanges something must be called on all ranks, in the same order. What may fail on one rank
    alone stands in `together()`; any other error on one rank would leave the rest waiting, so `guarded()` ends the job.
    """

    def __init__(self, comm: Any) -> None:
        missing = [name for name in METHODS if not callable(getattr(comm, name, None))]
        if missing:
            raise DTypeError(
                f"comm is {comm!r}, which has no {missing[0]}; expected a communicator of mpi4py, such as "
                "MPI.COMM_WORLD (from mpi4py import MPI; pip install 'nnfast[mpi]')"
            )
        self._given = comm
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        self._known = False  # whether an error is on its way that all ranks know of

    def __enter__(self) -> Self:
        self._comm = self._given.Dup()  # messages of the caller and of this training cannot meet
        self._exit = ExitStack()
        self._exit.callback(self._comm.Free)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._known:
            self._end_job(error)
        self._exit.close()

    def at_end(self, close: Callable[[], None]) -> None:
        """To be called when the training is over, and before the communicator goes."""
        self._exit.callback(close)

    # ---- numbers and words ------------------------------------------------------------------------------------------

    def add_up(self, array: np.ndarray[Any, Any]) -> None:
        """Replace an array on the host by its sum over all ranks; the same bits on each."""
        self._comm.Allreduce(None, array)  # None: in place

    def gathered(self, values: Any) -> np.ndarray[Any, Any]:
        """What each rank has, as float64: (ranks, …). The values are of the same shape everywhere."""
        mine = np.array(values, np.float64, order="C")
        everyones = np.empty((self.size, *mine.shape))
        self._comm.Allgather(mine, everyones)
        return everyones

    def texts(self, text: str) -> list[str]:
        """What each rank says."""
        said = text.encode("utf-8", "surrogatepass")
        lengths = self.gathered(len(said)).astype(np.int64)
        mine = np.zeros(max(int(lengths.max()), 1), np.uint8)
        mine[: len(said)] = np.frombuffer(said, np.uint8)
        everyones = np.empty((self.size, len(mine)), np.uint8)
        self._comm.Allgather(mine, everyones)
        return [row[:n].tobytes().decode("utf-8", "surrogatepass") for row, n in zip(everyones, lengths, strict=True)]

    def spread(self, array: np.ndarray[Any, Any]) -> None:
        """Replace an array on the host by that of rank 0."""
        self._comm.Bcast(array, root=0)

    # ---- failing together -------------------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        """What may fail on some ranks: an error of any is raised on all, on the others as a RankError."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as caught:
            error = caught
        self.settle(error)

    def settle(self, error: BaseException | None, flag: bool = False) -> bool:
        """Whether the flag is set on any rank; raises on all of them where one has an error."""
        state = self.gathered([error is not None, flag])
        if not state[:, 0].any():
            return bool(state[:, 1].any())
        words = self.texts("" if error is None else f"{type(error).__name__}: {error}")
        self._known = True
        if error is not None:
            raise error
        failed = int(state[:, 0].argmax())
        if words[failed].startswith(INTERRUPTED):
            raise KeyboardInterrupt
        raise RankError(f"rank {failed} of {self.size} failed, so all ranks stop: {words[failed]}")

    def refuse(self, error: Exception) -> NoReturn:
        """Raise what all ranks have found out."""
        self._known = True
        raise error

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Steps: an error of one rank in here, of which the others do not know, ends the whole job at once."""
        try:
            yield
        except BaseException as error:
            if not self._known:
                self._end_job(error)
            raise

    def _end_job(self, error: BaseException) -> None:
        """The others wait for a rank that will not come: MPI ends them all. Alone there is nobody to wait."""
        if self.size == 1:
            return
        told = "".join(traceback.format_exception(error))
        told += (
            f"nnfast: rank {self.rank} of {self.size} failed in the midst of a training ({type(error).__name__}), so "
            "the job is ended; resume= goes on from the last checkpoint\n"
        )
        sys.stdout.flush()
        sys.stderr.write(told)
        sys.stderr.flush()
        time.sleep(LAST_WORDS)  # with the job mpiexec ends too, and may not have passed on yet what was written
        self._given.Abort(1)
