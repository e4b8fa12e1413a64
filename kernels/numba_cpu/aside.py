"""What is run between the steps of a job, see `nnfast.protocol.Aside`, laid out so that the interpreter does it itself.

The executors of the job stay together: at a pause they run the other header, and go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .addresses import address_of
from .interpreter import H, address, execute
from .pace import AWAKE

if TYPE_CHECKING:
    from .binding import Binding

__all__ = ["Turns"]


class Turns:
    """A job that has been filled into its binding, to be run once at each of `pauses`: after so many steps of another.

    turns.attach(header, first, end)    the interpreter takes the turns by itself, those of the steps first … end − 1
    turns.take()                        or somebody calls for each: one way or the other for all turns of a job
    turns.sums(done, columns)           (turns · steps, columns), of the turns that came until a step was over
    """

    def __init__(self, binding: Binding, sums: Any, pauses: Any, steps: int, seconds: float) -> None:
        self._binding, self._steps, self._seconds = binding, steps, seconds
        self._sums = np.zeros((len(pauses), *sums.shape))
        self._pauses = np.asarray(pauses, np.int64)
        self._by_hand = 0

    def attach(self, header: Any, first: int, end: int) -> float:
        """Ready the header for these steps; about how many seconds the turns among them take."""
        self._ready()
        header[H.PAUSES], header[H.PAUSES_AT] = len(self._pauses), address_of(self._pauses)
        header[H.PAUSE] = begin = self._before(first)
        header[H.ASIDE_AT], header[H.INTERPRETER_AT] = address_of(self._binding.header), address()
        header[H.ASIDE_SUMS_AT], header[H.ASIDE_BYTES] = address_of(self._sums), self._sums.strides[0]
        return (self._before(end) - begin) * self._seconds

    def suits(self, executors: int) -> bool:
        """Whether so many executors take a turn as fast as any number would."""
        return self._binding.shares <= executors or self._seconds < AWAKE

    def evened(self, pieces: list[tuple[int, bool]], first: int) -> list[tuple[int, bool]]:
        """The pieces of `Pace`, the second from the pause before it: else it would have a turn for too few steps.

        Where that is far, turns are too small a part of the time to matter, and a longer trial would cost more.
        """
        if len(pieces) != 2:
            return pieces
        (rest, alone), (tried, otherwise) = pieces
        at = self._before(first + rest) - 1
        begin = max(int(self._pauses[at]), first) if at >= 0 else first
        longer = first + rest + tried - begin
        if longer > 2 * tried:
            return pieces
        return [(begin - first, alone), (longer, otherwise)][begin == first :]

    def take(self) -> None:
        """The next turn, now."""
        self._ready()
        self._binding.header[H.SUMS_AT] = address_of(self._sums) + self._by_hand * self._sums.strides[0]
        execute(self._binding.header, self._binding.shares, alone=self._seconds < AWAKE)
        self._by_hand += 1

    def sums(self, done: int, columns: int) -> Any:
        """The sums of the turns until so many steps were over, those of all shares together."""
        taken = self._sums[: self._before(done)].sum(axis=1)
        return np.ascontiguousarray(taken[:, :, :columns]).reshape(-1, columns)

    def _ready(self) -> None:
        self._binding.span((0, self._steps), (0, len(self._binding.plan.instructions)), begins=True)

    def _before(self, step: int) -> int:
        """How many pauses come until a step is over."""
        return int(np.searchsorted(self._pauses, step, side="right"))
