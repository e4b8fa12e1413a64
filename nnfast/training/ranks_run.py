"""A training run on several ranks: each does its part of every batch, and their gradients are added up.

Once per step the flat gradient is all-reduced, through the hook between backward and clipping; once per job the sums of
its steps are gathered. Every rank then clips and updates for itself, with the same bits. A batch is divided by the
weight of all of it and rows are counted from the first of the whole batch, so that up to rounding the result is that of
one process; rank 0 alone adds the penalties.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import RankError
from nnfast.protocol import Result
from nnfast.training import accumulation
from nnfast.training.batches import Data, make_job, normalisers, tally_of
from nnfast.training.ranks import Ranks
from nnfast.training.ranks_device import group_of
from nnfast.training.ranks_rows import RankRows, pieces
from nnfast.training.run import ORDER_ROWS, ArrayRun, Pauses, Values
from nnfast.training.shares import Part, Shares
from nnfast.training.staged import AT_ONCE

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.storage.records import Record

__all__ = ["RanksRun"]

Array = np.ndarray[Any, Any]


class RanksRun(ArrayRun):
    """Batches of arrays, each shared out among the ranks; `accumulate` of them to a step.

    data       the rows that this rank holds
    held       rows of each rank where they differ (sharded), None where all hold the same
    weighted   whether any rank has sample weights
    threads    the most that any rank computes with
    """

    def __init__(
        self,
        model: Model,
        data: Data,
        shuffle: bool,
        on_gradients: Any,
        accumulate: int,
        *,
        ranks: Ranks,
        shares: Shares,
        held: Array | None,
        weighted: bool,
        threads: int,
    ) -> None:
        super().__init__(model, data, shuffle, on_gradients)
        self._guess = 0.0  # ranks that hold different rows would expect different things
        self.ranks, self._shares, self._held = ranks, shares, held
        self._accumulate, self._weighted, self._threads = accumulate, weighted, threads
        self._shuffled = shuffle and shares.batches > 1
        self.per_epoch = math.ceil(shares.batches / accumulate)
        program, _ = model._programs.runner("train")
        self.tally = tally_of(model, program, shares.batch_rows)
        self._rows = RankRows(model, data, ranks.rank if held is not None else 0)
        self._gpus = group_of(ranks, model.backend)
        self._most_steps = self._steps_at_once()

    # ---- agreeing ---------------------------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        error: BaseException | None = None
        try:
            yield
        except BaseException as caught:
            error = caught
        self.stopped = self.ranks.settle(error, self.stopped)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        with self.ranks.guarded():
            yield

    def agreed(self, epoch: int, step: int | None) -> tuple[int, int | None]:
        epoch_now, step_now = self.ranks.gathered([epoch, math.inf if step is None else step]).min(axis=0)
        return int(epoch_now), None if step_now == math.inf else int(step_now)

    @property
    def takes_pauses(self) -> bool:
        return False

    def signature(self) -> dict[str, Any]:
        made = {"rows": self._shares.rows, "batch_size": self._shares.size, "shuffle": self._shuffled}
        if self._accumulate > 1:
            made["accumulate"] = self._accumulate
        return made if self._held is None else made | {"shards": [int(n) for n in self._held]}

    def expected(self, record: Record) -> dict[str, Any]:
        """Other shards can take over where an epoch ends; within one, rows would be left out or taken twice."""
        made, before = self.signature(), record.part("signature")
        if "shards" in made and "shards" in before and record.count("steps") % self.per_epoch == 0:
            made["shards"] = before["shards"]
        return made

    # ---- jobs -------------------------------------------------------------------------------------------------------

    def job(self, epoch: int, step: int | None, pauses: Pauses | None = None) -> Values:
        optimizer = self._current_optimizer()
        steps = self._steps_now(self._until(epoch, step))
        first = self.steps
        begin = time.perf_counter()
        epochs, batches = self._batches(steps)
        part = self._shares.parts(batches)
        rows = self._rows.of(self.first_epoch + epochs, part, shuffled=self._shuffled)
        own = self._rows.weights(rows, part.own)
        total = self.ranks.gathered(own).sum(axis=0) if self._weighted else part.total.astype(np.float64)
        clips = self._threads > 1 and optimizer.scalar("clip_norm") < math.inf  # a norm rounds by how it is shared out
        do = self._step_by_step if self._accumulate > 1 or clips else self._in_jobs
        result = do(part, rows, total)
        return self._over(result, own, total, first, time.perf_counter() - begin)

    def _in_jobs(self, part: Part, rows: list[Any], total: Array) -> Result:
        """As few jobs as the counts of rows allow: a job has batches of one size, and at its end a shorter one."""
        model = self.model
        program, runner = model._programs.runner("train")
        scalars = model._programs.scalars(program)
        if self.ranks.rank:
            scalars = accumulation.divided(program, scalars, math.inf)
        sums, nonfinite = [], -1
        for low, high in pieces(part.own):
            optimizer = self._current_optimizer()
            job = make_job(
                model,
                self._rows.data(rows[low:high], int(part.own[low]), whole=self._shares.batches == 1),
                scalars,
                steps=high - low,
                learning_rates=optimizer.learning_rates(optimizer.steps, high - low),
                normalisers=normalisers(total[low:high]),
                first_step=optimizer.steps + 1,
                first_rows=part.before[low:high],
                on_gradients=self._add_up,
            )
            try:
                result = model._programs.run(runner, job)
            finally:
                optimizer.steps += job.done
                self.steps += job.done
                self._count_epochs()
            sums.append(result.sums)
            if nonfinite < 0 <= result.nonfinite:
                nonfinite = low + result.nonfinite
        return Result(np.concatenate(sums), nonfinite)

    def _step_by_step(self, part: Part, rows: list[Any], total: Array) -> Result:
        """Steps of several batches; and where gradients are clipped, an update that is cut alike on all ranks."""
        sums, nonfinite, done = [], -1, 0
        while done < len(rows):
            count = self._of_step(self.steps)
            parts = [
                accumulation.Part(
                    self._rows.data([rows[b]], int(part.own[b])),
                    None,
                    0,
                    float(total[b]),
                    int(part.total[b]),
                    int(part.before[b]),
                )
                for b in range(done, done + count)
            ]
            result = accumulation.accumulated_step(self.model, parts, self._add_up, penalties=self.ranks.rank == 0)
            sums.append(result.sums)
            if nonfinite < 0 <= result.nonfinite:
                nonfinite = done
            done += count
            self.steps += 1
            self._count_epochs()
        return Result(np.concatenate(sums), nonfinite)

    def _add_up(self, flat: Any) -> None:
        """The hook of every step: the gradient of the whole batch, which is then shown to the caller's own hooks."""
        if isinstance(flat, np.ndarray):
            self.ranks.add_up(flat)
        elif self._gpus is not None:
            self._gpus.add_up(flat)
        else:  # on a device: by way of the host
            host = np.ascontiguousarray(self.model.backend.to_numpy(flat))
            self.ranks.add_up(host)
            flat[...] = self.model.backend.asarray(host)
        if self.on_gradients is not None:
            self.on_gradients(flat)

    def _over(self, result: Result, own: Array, total: Array, first: int, seconds: float) -> Values:
        """What all ranks know of the job when it is over."""
        facts = [seconds, result.nonfinite, *_checksum(self.model)]
        everyones = self.ranks.gathered(np.concatenate([facts, own, result.sums.ravel()]))
        if (everyones[:, 2:4] != everyones[0, 2:4]).any():
            self.ranks.refuse(
                RankError(
                    f"after steps {first + 1} to {self.steps} the ranks have different parameters: callbacks and hooks "
                    "must change the model in the same way on every rank"
                )
            )
        self._seconds = float(everyones[:, 0].max()) / (self.steps - first)
        bad = everyones[:, 1][everyones[:, 1] >= 0]
        if len(bad):
            step = self._step_of(int(bad.min()), first)
            with self.together():
                if self.ranks.rank == 0:
                    self._warn(Result(None, step), step // self.per_epoch + 1)
        weights, sums = everyones[:, 4 : 4 + len(own)].T, everyones[:, 4 + len(own) :]
        sums = sums.reshape(len(everyones), *result.sums.shape).swapaxes(0, 1)
        return self.tally.add(self.tally.merged(sums, weights), total)

    # ---- which rows -------------------------------------------------------------------------------------------------

    def _steps_at_once(self) -> int:
        """A job holds copies of its rows: so many steps that these stay small on every rank."""
        if self._shares.batches == 1:
            return ORDER_ROWS  # of one and the same batch
        row = (self.model.n_inputs + self.model.n_outputs + 1) * self.model.dtype.itemsize
        batches = AT_ONCE // (row * self._shares.most)
        return max(1, min(batches // self._accumulate, max(1, ORDER_ROWS // self._shares.rows) * self.per_epoch))

    def _steps_now(self, until: int) -> int:
        """The same on all ranks: `_seconds` is that of the slowest."""
        steps = self._steps_in_time(min(until - self.steps, self._most_steps))
        over = (self.steps + steps) % self.per_epoch
        return steps - over if over < steps else steps

    def _of_step(self, step: int) -> int:
        """Batches of a step; the last one of an epoch may have fewer."""
        first = step % self.per_epoch * self._accumulate
        return min(self._accumulate, self._shares.batches - first)

    def _step_of(self, batch: int, first: int) -> int:
        """The step that takes this batch of a job whose first step is `first`."""
        while batch >= self._of_step(first):
            batch -= self._of_step(first)
            first += 1
        return first

    def _batches(self, steps: int) -> tuple[Array, Array]:
        """Epoch and number of each batch of the next steps."""
        all_of_them, taken = self._shares.batches, []
        for step in range(self.steps, self.steps + steps):
            epoch, number = divmod(step, self.per_epoch)
            first = epoch * all_of_them + number * self._accumulate
            taken.append(np.arange(first, first + self._of_step(step)))
        epochs, batches = np.divmod(np.concatenate(taken), all_of_them)
        return epochs, batches


def _checksum(model: Model) -> tuple[int, int]:
    """Two numbers that tell parameters apart by their bits; on a device 0, so that nothing is fetched from there."""
    flat = model._buffers.parameters
    if not isinstance(flat, np.ndarray):
        return 0, 0
    return divmod(int(np.add.reduce(flat.view(np.uint64), dtype=np.uint64)), 1 << 32)
