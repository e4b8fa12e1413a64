"""Whole training steps and predictions beside PyTorch's and JAX's, in interleaved rounds."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpu_parts.networks import NETWORKS, POPULATIONS, TINY, TINY_POPULATION, Network
from gpu_parts.section import Section
from gpu_parts.stand import PRECISIONS
from gpu_parts.workers import Failed, Worker

__all__ = ["CONTENDERS", "Contender", "populations", "predictions", "training"]

ROUNDS = 7
ROUND = 0.06  # seconds per contender and round
LOSSES = 20  # the first steps, whose losses are compared
MAKE, RUN = 40.0, 30.0  # seconds that an answer may take
TRAINING, PREDICTING = 10.0, 4.0  # seconds without which they are not begun
# torch.compile begins nothing new after the first of these shares of the section's time, and is ended after the second.
COMPILE, COMPILED = 0.25, 0.45


class Contender(NamedTuple):
    """Who trains or predicts: its name in the table, the process it lives in, its maker.

    `units` are steps that go together, of small networks and of large ones; the maker is told where it is not one.
    """

    title: str
    process: str
    module: str
    maker: str
    ours: bool = False
    small_only: bool = False  # for networks whose time goes into launches
    units: tuple[int, int] = (1, 1)
    extra: tuple[Any, ...] = ()

    def unit(self, case: Network) -> int:
        return self.units[case.bound != "launches"]


# The most telling first: who comes last is left out when time is short.
CONTENDERS = (
    Contender("nnfast", "nnfast", "nnfast_steps", "jobs", ours=True),
    Contender("PyTorch, step captured by hand", "torch", "torch_steps", "graph"),
    Contender("PyTorch, eager", "torch", "torch_steps", "eager"),
    Contender("JAX, whole loop", "jax", "jax_steps", "loop", units=(64, 4)),
    Contender("nnfast, fit", "nnfast", "nnfast_steps", "fit", ours=True),
    Contender("PyTorch, 16 steps captured by hand", "torch", "torch_steps", "graph", small_only=True, units=(16, 1)),
    Contender("nnfast, a job per step", "nnfast", "nnfast_steps", "one_by_one", ours=True, small_only=True),
    Contender("PyTorch, torch.compile", "compile", "torch_steps", "compiled"),
    Contender("PyTorch, torch.compile, reduce-overhead", "compile", "torch_steps", "reduce_overhead"),
    Contender("JAX, step by step", "jax", "jax_steps", "one_step", small_only=True),
)
PREDICTORS = (
    Contender("nnfast", "nnfast", "nnfast_steps", "predict_", ours=True),
    Contender("PyTorch, eager", "torch", "torch_steps", "predict_"),
    Contender("PyTorch, captured by hand", "torch", "torch_steps", "predict_", extra=(True,)),
    Contender("JAX, jit", "jax", "jax_steps", "predict_"),
)
IN_POPULATIONS = (
    Contender("nnfast", "nnfast", "nnfast_populations", "jobs", ours=True),
    Contender("PyTorch, vmap, step captured by hand", "torch", "torch_populations", "graph"),
    Contender("JAX, vmap over the loop", "jax", "jax_populations", "loop", units=(64, 64)),
    Contender("nnfast, fit", "nnfast", "nnfast_populations", "fit", ours=True),
    Contender("PyTorch, vmap, eager", "torch", "torch_populations", "eager"),
    Contender("nnfast, model by model", "nnfast", "nnfast_populations", "one_by_one", ours=True),
)
ON_CPU = (
    "PyTorch, vmap, eager",
    "JAX, vmap over the loop",
    "PyTorch, eager",
    "PyTorch, torch.compile",
    "JAX, whole loop",
    "JAX, step by step",
    "JAX, jit",
)


class Field:
    """The processes of all contenders, started when first needed; who fails is left out, with the reason."""

    def __init__(self, section: Section, *, simulated: bool, peers: bool) -> None:
        self.section, self.simulated, self.peers = section, simulated, peers
        self._folder = tempfile.TemporaryDirectory(prefix="nnfast-gpu-bench-")
        self._workers: dict[str, Worker] = {}
        self._soft = self._hard = 0.0  # seconds that must be left for torch.compile to begin, and to go on
        self.compiled: dict[tuple[str, str, str], list[float] | str] = {}  # the first losses, or why there are none

    def device(self, contender: Contender) -> str:
        return "cuda" if not self.simulated else "simulated" if contender.ours else "cpu"

    def enters(self, contender: Contender, case: Network) -> bool:
        if contender.small_only and case.bound != "launches":
            return False
        return contender.ours or (self.peers and (not self.simulated or contender.title in ON_CPU))

    def worker(self, process: str) -> Worker:
        if process not in self._workers:
            folder = self._folder.name
            environment = {"NNFAST_CACHE_DIR": folder, "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
            environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
            if self.simulated:
                environment |= {"GPU_BENCH_SIMULATED": "1", "JAX_PLATFORMS": "cpu"}
            self._workers[process] = Worker(**environment)
        return self._workers[process]

    def process_of(self, contender: Contender, case: Network) -> str:
        return f"compile {case.name}" if contender.process == "compile" else contender.process

    def make(self, contender: Contender, key: str, case: Network, *args: Any, limit: float) -> Worker:
        process = self.process_of(contender, case)
        try:
            worker = self.worker(process)
            module = f"gpu_parts.{contender.module}"
            unit = contender.unit(case)
            args += (*contender.extra, *([unit] if unit > 1 else []))
            worker.make(key, module, contender.maker, *args, limit=min(limit, self.section.left))
        except Failed:
            self.renew(process)
            raise
        return worker

    def renew(self, process: str) -> None:
        """A process that has ended is started anew for whoever comes next."""
        worker = self._workers.get(process)
        if worker is not None and not worker.alive:
            del self._workers[process]

    def compile_all(self, cases: Sequence[Network]) -> dict[str, str]:
        """Have torch.compile at work on all networks at once, before anybody is timed: it takes long."""
        self._soft, self._hard = (self.section.left * (1 - share) for share in (COMPILE, COMPILED))
        entrants = [c for c in CONTENDERS if c.process == "compile"]
        threads = []
        for case in cases:
            jobs = [(c, p) for p in PRECISIONS for c in entrants if self.enters(c, case)]
            if jobs:
                self.worker(self.process_of(jobs[0][0], case))
                threads.append(threading.Thread(target=self._compile, args=(case, jobs), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {", ".join(key): got if isinstance(got, str) else "compiled" for key, got in self.compiled.items()}

    def _compile(self, case: Network, jobs: Sequence[tuple[Contender, str]]) -> None:
        for contender, precision in jobs:
            key, place = f"{contender.title}, {precision}", (case.name, precision, contender.title)
            if self.section.left < self._soft:
                self.compiled[place] = "no time was left"
                continue
            try:
                limit = self.section.left - self._hard
                worker = self.make(contender, key, case, case.name, precision, self.device(contender), limit=limit)
                # It compiles when it is called.
                self.compiled[place] = worker.ask(key, "losses", LOSSES, limit=self.section.left - self._hard)
            except Failed as error:
                self.compiled[place] = str(error)

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._folder.cleanup()


@contextlib.contextmanager
def _field(section: Section, simulated: bool, peers: bool) -> Iterator[Field]:
    field = Field(section, simulated=simulated, peers=peers)
    try:
        yield field
    finally:
        field.close()


def training(section: Section, *, simulated: bool, peers: bool) -> None:
    cases = [TINY] if simulated else list(NETWORKS.values())
    with _field(section, simulated, peers) as field:
        if peers:
            section.step("torch.compile", field.compile_all, cases)
        for precision in PRECISIONS:
            for case in cases:
                section.step(f"{case.name}, {precision}", _train, field, case, precision, needs=TRAINING)


def populations(section: Section, *, simulated: bool, peers: bool) -> None:
    """Training steps of many models at once."""
    cases = [TINY_POPULATION] if simulated else list(POPULATIONS.values())
    with _field(section, simulated, peers) as field:
        for case in cases:
            section.step(f"{case.name}, fp32", _train, field, case, "fp32", IN_POPULATIONS, needs=TRAINING)


def _train(field: Field, case: Network, precision: str, contenders: Sequence[Contender] = CONTENDERS) -> dict[str, Any]:
    running: dict[str, tuple[Contender, Worker, str]] = {}
    found: dict[str, Any] = {"network": case.name, "precision": precision, "bound": case.bound, "contenders": {}}
    for contender in contenders:
        if not field.enters(contender, case):
            continue
        entry: dict[str, Any] = {"ours": contender.ours}
        found["contenders"][contender.title] = entry
        key = f"{contender.title}, {precision}"
        try:
            worker, entry["losses"] = _made(field, contender, key, case, precision)
            running[contender.title] = contender, worker, key
        except Failed as error:
            entry["failed"] = str(error)
    _compare(found["contenders"])
    _time(field, case, running, found)
    for title, (contender, worker, key) in running.items():
        with contextlib.suppress(Failed):
            entry = found["contenders"][title]
            entry["told"] = worker.ask(key, "costs" if contender.ours else "told", limit=RUN)
            worker.drop(key)
    return found


def _compare(contenders: dict[str, Any]) -> None:
    """How far each one's first losses are from the median of all: whether all do the same training."""
    losses = {title: np.array(entry["losses"]) for title, entry in contenders.items() if "losses" in entry}
    if losses:
        middle = np.median(list(losses.values()), axis=0)
        for title, own in losses.items():
            contenders[title]["losses apart"] = float(np.max(np.abs(own - middle) / np.abs(middle)))


def _made(field: Field, contender: Contender, key: str, case: Network, precision: str) -> tuple[Worker, list[float]]:
    """Its process, and the losses of its first steps."""
    if contender.process == "compile":
        losses = field.compiled.get((case.name, precision, contender.title), "it was not compiled")
        if isinstance(losses, str):
            raise Failed(losses)
        return field.worker(field.process_of(contender, case)), losses
    if field.section.left < MAKE / 2:
        raise Failed("no time was left")
    worker = field.make(contender, key, case, case.name, precision, field.device(contender), limit=MAKE)
    return worker, worker.ask(key, "losses", LOSSES, limit=MAKE + RUN)  # compiling and tuning included


def _time(field: Field, case: Network, running: dict[str, Any], found: dict[str, Any]) -> None:
    """Microseconds per step of each in each round; every other round goes backwards."""
    counts: dict[str, int] = {}
    contenders = found["contenders"]
    rounds, seconds = (2, 0.002) if field.simulated else (ROUNDS, ROUND)
    for r in range(-2, rounds):  # calibrating, then a round that is not kept
        for title in list(running) if r % 2 else list(reversed(running)):
            contender, worker, key = running[title]
            try:
                if r == -2:
                    counts[title] = _calibrated(worker, key, contender.unit(case), seconds)
                    contenders[title]["microseconds"] = []
                    continue
                taken = worker.run(key, counts[title], warm=contender.unit(case), limit=RUN)
                if r >= 0:
                    contenders[title]["microseconds"].append(taken / counts[title] * 1e6)
            except Failed as error:
                contenders[title]["failed"] = str(error)
                contenders[title].pop("microseconds", None)
                del running[title]
                field.renew(field.process_of(contender, case))
    for title, count in counts.items():
        contenders[title]["steps per round"] = count


def _calibrated(worker: Worker, key: str, unit: int, seconds: float) -> int:
    """How many steps take about this time."""
    worker.run(key, unit, limit=RUN)
    count, taken = unit, worker.run(key, unit, limit=RUN)
    while taken < seconds / 4:
        count *= 4
        taken = worker.run(key, count, limit=RUN)
    return max(1, round(count * seconds / taken / unit)) * unit


def predictions(section: Section, *, simulated: bool, peers: bool) -> None:
    """One row from NumPy to NumPy, and a batch that stays on the device."""
    names = [TINY.name] if simulated else ["784-512-256-10, batch 128", "784-1024-1024-10, batch 1024"]
    cases = {name: TINY if simulated else NETWORKS[name] for name in names}
    with _field(section, simulated, peers) as field:
        for kind in ("one", "many"):
            for precision in PRECISIONS if kind == "many" else PRECISIONS[:1]:
                for case in cases.values():
                    rows = "1 row" if kind == "one" else f"{case.batch} rows"
                    name = f"{case.name.partition(',')[0]}, {rows}, {precision}"
                    section.step(name, _predict, field, case, precision, kind, needs=PREDICTING)


def _predict(field: Field, case: Network, precision: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {"network": case.name, "precision": precision, "contenders": {}}
    running: dict[str, tuple[Contender, Worker, str]] = {}
    for general in PREDICTORS:
        contender = general._replace(maker=f"predict_{kind}")
        if not field.enters(contender, case):
            continue
        entry: dict[str, Any] = {"ours": contender.ours}
        found["contenders"][contender.title] = entry
        key = f"{contender.title}, {precision}, {kind}"
        try:
            worker = field.make(contender, key, case, case.name, precision, field.device(contender), limit=MAKE)
            entry["outputs"] = worker.ask(key, "outputs", limit=RUN)
            running[contender.title] = contender, worker, key
        except Failed as error:
            entry["failed"] = str(error)
    _time(field, case, running, found)
    for _, worker, key in running.values():
        with contextlib.suppress(Failed):
            worker.drop(key)
    return found
