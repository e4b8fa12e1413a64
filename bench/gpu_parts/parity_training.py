"""Whole trainings on the device: against the reference in float64, and against themselves, launched in other ways."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import nnfast as nn
from gpu_parts.section import Section
from gpu_parts.stand import PRECISIONS, Stand
from nnfast.protocol import Job

__all__ = ["BLUEPRINTS", "Blueprint", "digest", "train", "training_parity"]

EPOCHS = 25  # of four batches: 100 steps
FREE = 1e-9  # how far 100 steps in float64 may end from the reference, per weight
# One step in float32 from the reference's weights: its gradient, in units of the largest of its block.
GRADIENT, LOSS = 2e-5, 2e-6


class Blueprint:
    """A training that uses many ops: its layers, loss and optimizer, made anew for every model."""

    def __init__(self, name: str, layers: Callable[[], list[Any]], loss: Any, optimizer: Callable[[], Any]) -> None:
        self.name, self.layers, self.loss, self.optimizer = name, layers, loss, optimizer

    def model(self, backend: Any, dtype: str) -> nn.Model:
        return nn.Model(self.layers(), self.loss(), self.optimizer(), backend=backend, dtype=dtype, rng=3)

    def data(self, rows: int = 100) -> tuple[Any, Any]:
        """Rows of which the last batch of 32 has four only."""
        rng = np.random.default_rng(5)
        X = rng.standard_normal((rows, 12))
        if self.loss is nn.SoftmaxCrossEntropy:
            return X, np.argmax(X[:, :5] + X[:, 5:10], axis=1)
        y = np.tanh(X[:, :5] * X[:, 5:10])
        return X, (y > 0).astype(np.float64) if self.loss is nn.BinaryCrossEntropy else y


def _classifier() -> list[Any]:
    first = nn.Dense(12, 33, weight_l2=1e-3, bias_l1=1e-4)
    return [first, nn.ReLU(), nn.Dropout(0.2), nn.Dense(33, 16), nn.ReLU(), nn.Dense(16, 5)]


BLUEPRINTS = (
    Blueprint("ReLU, dropout, penalties, Adam", _classifier, nn.SoftmaxCrossEntropy, lambda: nn.Adam(0.01, decay=1e-3)),
    Blueprint(
        "tanh, squared error, SGD",
        lambda: [nn.Dense(12, 20), nn.Tanh(), nn.Dense(20, 5)],
        nn.MeanSquaredError,
        lambda: nn.SGD(0.05, momentum=0.9),
    ),
    Blueprint(
        "sigmoid, binary cross-entropy, RMSprop",
        lambda: [nn.Dense(12, 24), nn.LeakyReLU(), nn.Dense(24, 5), nn.Sigmoid()],
        nn.BinaryCrossEntropy,
        lambda: nn.RMSprop(0.002),
    ),
)


def train(blueprint: Blueprint, backend: Any, dtype: str, epochs: int, **options: Any) -> nn.Model:
    model = blueprint.model(backend, dtype)
    model.fit(*blueprint.data(), epochs=epochs, batch_size=32, verbose=0, **options)
    return model


def digest(model: nn.Model) -> str:
    """The bits of all weights."""
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()[:24]


def training_parity(section: Section, stand: Stand) -> None:
    epochs = 2 if stand.simulated else EPOCHS
    for blueprint in BLUEPRINTS:
        section.step(f"float64, free: {blueprint.name}", _free, stand, blueprint, epochs)
        section.step(f"float32, step by step: {blueprint.name}", _step_by_step, stand, blueprint, epochs)
    first = BLUEPRINTS[0]
    for precision in PRECISIONS:
        section.step(f"the same bits, {precision}", _same_bits, stand, precision, first, epochs)
        section.step(f"NaN, {precision}", _flags_nan, stand, precision)
        section.step(f"a population beside its models, {precision}", _population, stand, precision, first, epochs)
    section.step("new rates without a new capture", _no_new_capture, stand, first)
    section.step("memory", _memory, stand, first, 20 if stand.simulated else 10_000)


def _free(stand: Stand, blueprint: Blueprint, epochs: int) -> dict[str, Any]:
    """Steps in float64 from the same weights, rows and masks, without ever meeting in between."""
    ours, reference = (train(blueprint, b, "float64", epochs) for b in (stand.backend("fp32"), "numpy"))
    apart = max(
        float(np.abs(a - b).max()) for a, b in zip(ours.get_weights(), reference.get_weights(), strict=True) if a.size
    )
    losses = [np.array(model.history.history["loss"]) for model in (ours, reference)]
    found = {"steps": 4 * epochs, "largest difference": apart, "of losses": float(np.abs(losses[0] - losses[1]).max())}
    _demand(apart <= FREE, f"weights are {apart:.3g} apart, {FREE:g} is allowed", found)
    return found


def _step_by_step(stand: Stand, blueprint: Blueprint, epochs: int) -> dict[str, Any]:
    """Loss and gradient in float32 wherever a training in float64 comes by."""
    X, y = blueprint.data(32)
    reference, ours = blueprint.model("numpy", "float64"), blueprint.model(stand.backend("fp32"), "float32")
    worst, worst_loss = 0.0, 0.0
    for _ in range(epochs):
        reference.set_weights([w.astype(np.float32) for w in reference.get_weights()])
        ours.set_weights(reference.get_weights())
        loss, gradient = reference.loss_and_gradient(X.astype(np.float32), y)
        got_loss, got = ours.loss_and_gradient(X.astype(np.float32), y)
        worst_loss = max(worst_loss, abs(got_loss - loss) / abs(loss))
        for here, there in zip(_blocks(ours, got), _blocks(reference, gradient), strict=True):
            size = float(np.abs(there).max())
            if size > 0:
                worst = max(worst, float(np.abs(here - there).max()) / size)
        reference.train_on_batch(X, y)
    found = {"steps": epochs, "largest difference of a gradient": worst, "of a loss": worst_loss}
    _demand(worst <= GRADIENT and worst_loss <= LOSS, f"{GRADIENT:g} and {LOSS:g} are allowed", found)
    return found


def _blocks(model: nn.Model, flat: Any) -> list[Any]:
    return [flat[b.offset : b.offset + b.size] for b in model._layout.blocks]


def _same_bits(stand: Stand, precision: str, blueprint: Blueprint, epochs: int) -> dict[str, Any]:
    """Graphs, single launches, a hook, another stream, again and again: the same weights to the bit."""
    backend = stand.backend(precision)

    def trained(**options: Any) -> str:
        return digest(train(blueprint, backend, "float32", epochs, **options))

    found: dict[str, Any] = {"graphs": trained()}
    again = 2 if stand.simulated else 20
    found[f"{again} times"] = sorted({trained() for _ in range(again)})
    found["a hook that looks at the gradients"] = trained(on_gradients=lambda gradient: None)
    with _groups(stand, ()):
        found["launched one by one"] = trained()
    with _groups(stand, (1,)):
        found["graphs of one step"] = trained()
    with stand.stream():
        found["called from another stream"] = trained()
    bits = {words for value in found.values() for words in ([value] if isinstance(value, str) else value)}
    plain, cut = (digest(_with_python(backend, python)) for python in (False, True))
    found["a layer in plain Python"] = {"plain": cut, "of nnfast": plain}
    _demand(len(bits) == 1 and plain == cut, "not all the same", found)
    return found


def _population(stand: Stand, precision: str, blueprint: Blueprint, epochs: int) -> dict[str, Any]:
    """Models that are trained together have the bits that each has alone, with and without epilogues."""
    backend = stand.backend(precision)
    seeds, rates = [3, 4, 5, 6], [0.01, 0.02, 0.03, 0.01]
    found: dict[str, Any] = {}
    for how in ("as measured", "separate"):
        with _joining(stand, how):
            population = nn.Population(
                lambda: blueprint.model(backend, "float32"), 4, {"rng": seeds, "learning_rate": rates}
            )
            population.fit(*blueprint.data(), epochs=epochs, batch_size=32, verbose=0)
            together = [digest(population[k]) for k in range(4)]
            alone = []
            for seed, rate in zip(seeds, rates, strict=True):
                parts = blueprint.layers(), blueprint.loss(), blueprint.optimizer()
                model = nn.Model(*parts, backend=backend, dtype="float32", rng=seed)
                model.optimizer.learning_rate = rate
                model.fit(*blueprint.data(), epochs=epochs, batch_size=32, verbose=0)
                alone.append(digest(model))
        runner = population._runner("train")[1].population()
        found[how] = {"together": together, "alone": alone, "launched for all": bool(runner._steps)}
    same = all(f["together"] == f["alone"] and f["launched for all"] for f in found.values())
    _demand(same, "not the bits that they have alone", found)
    return found


class _PythonReLU(nn.PythonLayer):
    def compute(self, x: Any, training: bool) -> Any:
        self.mask = x > 0
        return x * self.mask

    def gradient(self, dy: Any) -> Any:
        return dy * self.mask


def _with_python(backend: Any, python: bool) -> nn.Model:
    """The same network with a ReLU of nnfast's, not fused, or with one that cuts the step."""
    layers = [nn.Dense(12, 16), _PythonReLU() if python else nn.ReLU(), nn.Dense(16, 5)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.01), backend=backend, rng=3)
    model._programs.fuse = False
    model.fit(*BLUEPRINTS[0].data(), epochs=2, batch_size=32, verbose=0)
    return model


@contextlib.contextmanager
def _groups(stand: Stand, sizes: tuple[int, ...]) -> Iterator[None]:
    """Graphs of so many steps only."""
    step = stand.part("step")
    before, step.GROUPS = step.GROUPS, sizes
    try:
        yield
    finally:
        step.GROUPS = before


def _flags_nan(stand: Stand, precision: str) -> dict[str, Any]:
    """The first batch with a NaN in it is named, whether cublasLt computes the ReLU (and loses the NaN) or we do."""
    found: dict[str, Any] = {}
    for how in ("as measured", "joined", "separate"):
        with _joining(stand, how):
            found[how] = _first_bad(stand, precision)
    _demand(all(n == 3 for n in found.values()), "the fourth step has the NaN", found)
    return found


@contextlib.contextmanager
def _joining(stand: Stand, how: str) -> Iterator[None]:
    """Ops are joined to products where that is faster "as measured", wherever they can be ("joined"), or nowhere."""
    tuner = stand.part("tuning").Tuner
    before = tuner.joins
    tuner.joins = {"as measured": before, "joined": _always, "separate": _never}[how]
    try:
        yield
    finally:
        tuner.joins = before


def _never(tuner: Any, joined: Any, separate: Any) -> bool:
    return False


def _always(tuner: Any, joined: Any, separate: Any) -> bool:
    """Joins whatever the library can do."""
    products = [call for call in joined if hasattr(call, "epilogue")]
    return bool(products) and all(p.epilogue == "" or tuner._supports(p) for p in products)


def _first_bad(stand: Stand, precision: str) -> int:
    backend = stand.backend(precision)
    blueprint = BLUEPRINTS[0]
    X, y = blueprint.data(160)
    X[3 * 32 + 7, 5] = np.nan
    model = blueprint.model(backend, "float32")
    program, runner = model._programs.runner("train")
    job = Job(model._buffers, backend.asarray(X.astype(np.float32)), backend.asarray(y), batch_size=32, steps=5)
    job.learning_rates, job.normalisers = np.full(5, 0.01), np.full(5, 32.0)
    job.scalars = model._programs.scalars(program)
    return int(runner.run(job).nonfinite)


def _no_new_capture(stand: Stand, blueprint: Blueprint) -> dict[str, Any]:
    """Graphs in being before and after the rate and a penalty were changed, and a schedule was put in."""
    model = train(blueprint, stand.backend("fp32"), "float32", 2, shuffle=False)
    _, runner = model._programs.runner("train")
    before = _graphs(runner)
    model.layers[0].weight_l2 = 5e-3
    for rate in (0.02, nn.schedules.ExponentialDecay(0.02, 0.9, 3)):
        model.optimizer.learning_rate = rate
        model.fit(*blueprint.data(), epochs=2, batch_size=32, shuffle=False, verbose=0)
    after = _graphs(runner)
    found = {"graphs": len(before), "new ones": len(after - before)}
    _demand(bool(before) and after == before, "a new capture", found)
    return found


def _graphs(runner: Any) -> set[int]:
    return {id(graph) for step in runner._steps.values() for graph in step._graphs.values()}


def _memory(stand: Stand, blueprint: Blueprint, steps: int) -> dict[str, Any]:
    """Bytes in use in CuPy's pool over many steps."""
    pool = stand.cupy.get_default_memory_pool()
    model = blueprint.model(stand.backend("fp32"), "float32")
    used = []
    for _ in range(4):
        model.fit(*blueprint.data(96), epochs=steps // 3 // 4 or 1, batch_size=32, verbose=0)
        used.append(int(pool.used_bytes()))
    found = {"steps": steps, "bytes": used}
    _demand(used[-1] <= used[0], "it grows", found)
    return found


def _demand(true: bool, words: str, found: dict[str, Any]) -> None:
    if not true:
        raise AssertionError(f"{words}: {found}")
