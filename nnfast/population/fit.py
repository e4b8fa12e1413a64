"""`Population.fit`: all models make the same steps, job after job; who is finished is left out from then on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast._warning import warn
from nnfast.errors import DTypeError, NonFiniteWarning, OptionError
from nnfast.population.data import PopulationData
from nnfast.population.history import PopulationHistory
from nnfast.population.hooks import Hooks
from nnfast.population.resuming import resumed
from nnfast.population.running import Measuring, make_job, run, tally_of
from nnfast.population.varying import penalized
from nnfast.progress import Progress
from nnfast.training.batches import evaluation_rows
from nnfast.training.interrupts import Interrupts
from nnfast.training.orders import EpochOrders
from nnfast.training.run import JOB_SECONDS, ORDER_ROWS
from nnfast.validation import flag, integer

if TYPE_CHECKING:
    from nnfast.population.population import Population
    from nnfast.storage.records import Record

__all__ = ["fit"]

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]


class PopulationRun:
    """One training: where it stands, who is still in it, and its next job."""

    def __init__(self, population: Population, data: PopulationData, shuffle: bool) -> None:
        program, _ = population._runner("train")
        self.population, self.data = population, data
        self.tally = tally_of(population, program, data.batch_rows)
        self.models = np.arange(population.n)
        self.steps = 0
        self.first_epochs = population._members.epochs.copy()
        self.stopped = False
        self._shuffled = shuffle and data.size < data.rows
        self._orders = EpochOrders(population.backend, data.rows)
        self._held: list[tuple[Array, Array]] = []  # sums and weights of the epoch that is not complete
        self._seconds = 0.0  # per step of all, in the last job
        self._warned = False
        self.is_whole = True  # whether all models have made the same steps: false where a job ended in an error

    @property
    def epochs_done(self) -> int:
        return self.steps // self.data.steps

    @property
    def at_epoch_end(self) -> bool:
        return self.steps % self.data.steps == 0

    def job(self, epoch: int, measuring: Measuring | None, every: int, last: int) -> tuple[Columns, Columns, list[int]]:
        """Up to this epoch at most: values (models, epochs) of those completed; validation, and after which of them."""
        steps = self._steps_now(epoch * self.data.steps - self.steps)
        first, done = self.steps // self.data.steps + 1, (self.steps + steps) // self.data.steps
        due = [e for e in range(first, done + 1) if e % every == 0 or e == last] if measuring is not None else []
        pauses = [e * self.data.steps - self.steps for e in due]
        begin = time.perf_counter()
        self.is_whole = False
        made = [self._part(models, steps, measuring, pauses) for models in self._chunks(steps)]
        self._seconds = (time.perf_counter() - begin) / steps
        sums, weights, asides = (list(parts) for parts in zip(*made, strict=True))
        self.steps += steps
        self.is_whole = True
        values = self._collect(np.concatenate(sums), np.concatenate(weights))
        measured = {}
        if measuring is not None and due:
            measured = measuring.values(self.models, np.concatenate(asides))
        return values, measured, due

    def _part(self, models: Array, steps: int, measuring: Measuring | None, pauses: list[int]) -> tuple[Any, Any, Any]:
        """The job's steps for some of the models: sums, weights of the batches, sums of what is run aside."""
        population, data = self.population, self.data
        members, program = population._members, population._runner("train")[0]
        first, batch = divmod(self.steps, data.steps)
        epochs = (self.steps + steps - 1) // data.steps + 1 - first
        order = None
        if self._shuffled:
            order = self._orders.draw(members.keys[models], self.first_epochs[models] + first, epochs)
        weights = np.ascontiguousarray(data.batch_weights(models, order, epochs)[:, batch : batch + steps])
        before = members.steps[models]
        job = make_job(
            population, program, models, data, weights, order=order, steps=steps, first_batch=batch,
            learning_rates=population._varying.rates(models, before, steps), first_steps=before + 1,
        )  # fmt: skip
        if measuring is not None and pauses:
            job.pauses, job.aside = pauses, measuring.aside(models)
        try:
            result = run(population, population._runner("train")[1], job)
        finally:
            members.steps[models] += job.done
            begun = -(-(self.steps + job.done) // data.steps)
            members.epochs[models] = self.first_epochs[models] + begun
        self._warn(models, np.asarray(result.nonfinite))
        return result.sums, weights, None if job.aside is None else job.aside.sums

    def _collect(self, sums: Array, weights: Array) -> Columns:
        """Values of the epochs now complete; what is left over is held."""
        self._held.append((sums, weights))
        if not self.at_epoch_end and sum(w.shape[1] for _, w in self._held) < self.data.steps:
            return {}
        sums, weights = (np.concatenate(parts, axis=1) for parts in zip(*self._held, strict=True))
        epochs = weights.shape[1] // self.data.steps
        whole = epochs * self.data.steps
        self._held = [(sums[:, whole:], weights[:, whole:])]
        shape = len(sums) * epochs, self.data.steps
        flat = np.ascontiguousarray(sums[:, :whole]).reshape(*shape, -1)
        found = self.tally.values(flat, np.ascontiguousarray(weights[:, :whole]).reshape(shape), self.data.batch_rows)
        return {name: column.reshape(len(sums), epochs) for name, column in found.items()}

    def drop(self, finished: Array) -> None:
        """Leave out the models for which this is true; between epochs, when nothing is held."""
        self.models = self.models[~finished]
        self._held = []

    def _steps_now(self, left: int) -> int:
        """As many steps as take about a tenth of a second, and if possible whole epochs."""
        per_epoch = self.data.steps
        if self._shuffled:
            rows = self.data.rows * len(self.models)
            left = min(left, max(1, ORDER_ROWS // rows) * per_epoch)
            if rows > ORDER_ROWS:  # orders are drawn anew for each part of the models: once an epoch
                return min(left, per_epoch - self.steps % per_epoch)
        steps = 1 if not self._seconds else max(1, min(left, int(JOB_SECONDS / self._seconds)))
        to_epoch_end = -(self.steps + steps) % per_epoch
        whole = steps - (per_epoch - to_epoch_end) if to_epoch_end else steps
        return whole if whole > 0 else steps

    def _chunks(self, steps: int) -> list[Array]:
        """The models, in parts whose row orders fit into memory together."""
        if not self._shuffled:
            return [self.models]
        size = max(1, ORDER_ROWS // self.data.rows)
        if size >= len(self.models):
            return [self.models]
        return [self.models[i : i + size] for i in range(0, len(self.models), size)]

    def _warn(self, models: Array, nonfinite: Array) -> None:
        bad = nonfinite >= 0
        if bad.any() and not self._warned:
            self._warned = True
            epoch = (self.steps + int(nonfinite[bad].min())) // self.data.steps + 1
            named = ", ".join(map(str, models[bad][:8].tolist())) + (" …" if bad.sum() > 8 else "")
            warn(
                f"the loss or the gradient is not finite in {bad.sum()} of {len(models)} models ({named}) since epoch "
                f"{epoch}; a smaller learning rate or clip_norm= may help, or the data hold NaN",
                NonFiniteWarning,
            )

    # ---- in a file --------------------------------------------------------------------------------------------------

    def signature(self) -> dict[str, Any]:
        return {"rows": self.data.rows, "batch_size": self.data.size, "shuffle": bool(self._shuffled)}

    def record(self) -> dict[str, Any]:
        held = [pair for pair in self._held if pair[1].shape[1]]
        sums, weights = (
            [np.concatenate(parts, axis=1) for parts in zip(*held, strict=True)] if held else [np.empty(0)] * 2
        )
        return {
            "steps": self.steps,
            "models": self.models,
            "first_epochs": self.first_epochs,
            "stopped": self.stopped,
            "signature": self.signature(),
            "sums": sums,
            "weights": weights,
        }

    def go_on(self, record: dict[str, Any]) -> None:
        self.steps, self.stopped = record["steps"], record["stopped"]
        self.models, self.first_epochs = np.array(record["models"]), np.array(record["first_epochs"])
        self._held = [(np.array(record["sums"]), np.array(record["weights"]))] if record["weights"].size else []

    def check(self, record: Record, history: PopulationHistory) -> int:
        """Refuse a record from which this run could not go on; the number of epochs that it has behind it."""
        record.part("signature").check_alike(self.signature())
        epochs, batches = divmod(record.count("steps"), self.data.steps)
        record.of("stopped", bool)
        record.counts("first_epochs", (self.population.n,))
        models = record.ascending("models", 0, self.population.n - 1)
        shape = (len(models), batches) if batches else (0,)
        record.array("sums", np.float64, (*shape, self.tally.columns) if batches else shape)
        record.weights("weights", shape)
        known = (history.epochs <= epochs).all() and (history.epochs[models] == epochs).all()
        if "loss" not in history.history or not known or max(history.validated, default=0) > epochs:
            record.refuse("steps", "those of the epochs in the history")
        return epochs


def fit(population: Population, X: Any, y: Any, given: dict[str, Any]) -> PopulationHistory:
    """See `Population.fit`."""
    pattern, n = population.pattern, population.n
    pattern._needs("fit", optimizer=True)
    optimizer = pattern.optimizer
    assert optimizer is not None
    if not optimizer.uses_gradients:
        raise OptionError(f"{type(optimizer).__name__} tries its candidates one after the other; a population has none")
    epochs, every = integer("epochs", given["epochs"], 0), integer("validation_every", given["validation_every"], 1)
    shuffle, hooks = flag("shuffle", given["shuffle"]), Hooks(given["callbacks"])
    data = PopulationData(pattern, n, X, y, given["sample_weight"], given["batch_size"])
    measuring = _measuring(population, given["validation_data"])
    progress, now = Progress.of(given["verbose"], epochs), PopulationRun(population, data, shuffle)
    names = now.tally.names + tuple(f"val_{name}" for name in (measuring.names if measuring else ()))
    higher = [m.name for m in pattern.metrics if m.higher_is_better]
    program, _ = population._runner("train")
    strong = penalized(program, population._varying.scalars(program))
    history = PopulationHistory(names, n, epochs, higher=higher, penalized=strong)
    hooks.begin(population._members, names, higher)
    before = resumed(population, now, hooks, names, epochs, given["resume"])
    history = history if before is None else before
    population.history = history
    interrupts = Interrupts()
    population._session = lambda: {"run": now.record(), "patience": hooks.state()}
    try:
        with progress, interrupts.held_back():
            _loop(now, hooks, measuring, every, epochs, progress, interrupts)
    finally:
        try:
            if now.is_whole and (now.steps or before is not None):
                hooks.write(population, now.epochs_done, final=True)
        finally:
            population._session = None
            if hooks.patience is not None:
                hooks.patience.restore_best(history)
    return history


def _loop(
    now: PopulationRun,
    hooks: Hooks,
    measuring: Measuring | None,
    every: int,
    epochs: int,
    progress: Progress,
    interrupts: Interrupts,
) -> None:
    history = now.population.history
    while now.epochs_done < epochs and not now.stopped and len(now.models):
        before, models = now.epochs_done, now.models
        due = min(hooks.next_due(before, epochs, models), before + 1 if progress.every_epoch else epochs)
        values, measured, validated = now.job(due, measuring, every, epochs)
        done = now.epochs_done
        history.extend(models, before, values)
        if measured:
            history.measured(models, validated, measured)
        if now.at_epoch_end and values:
            if hooks.patience is not None:
                now.drop(hooks.patience.look(models, history, before, done, epochs))
            logs = {name: rows[:, done - 1] for name, rows in history.history.items()}
            now.stopped = hooks.after(now.population, done, logs)
            if done < epochs and not now.stopped and len(now.models):
                hooks.write(now.population, done, final=False)
            _show(progress, done, history, before, models, len(now.models))
        interrupts.heed()


def _show(progress: Progress, done: int, history: PopulationHistory, before: int, models: Array, left: int) -> None:
    """The best and the median of what was measured, and how many models are still in training."""
    logs = {}
    for name, rows in history.history.items():
        column = rows[models, done - 1]
        column = column[np.isfinite(column)]
        if column.size:
            logs[f"median {name}"] = float(np.median(column))
            logs[f"best {name}"] = float(history.sign(name) * (history.sign(name) * column).min())
    progress.update(done, logs | {"models": float(left)}, {"loss": np.zeros(done - before)})


def _measuring(population: Population, given: Any) -> Measuring | None:
    if given is None:
        return None
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise DTypeError("validation_data must be (X, y) or (X, y, sample_weight)")
    X, y, w = (*given, None)[:3]
    size = evaluation_rows(population._runner("evaluate")[0])
    return Measuring(population, PopulationData(population.pattern, population.n, X, y, w, size, "validation "))
