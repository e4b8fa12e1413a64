"""What a backend is tried with, one `Trial` for each row of the report: arrays, ops, gradients, whole models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from nnfast.protocol import ALIGNMENT, Backend
from nnfast.testing.case import Case
from nnfast.testing.cases import CASES
from nnfast.testing.contract import check_call, check_parity, check_signature
from nnfast.testing.generated import check_generated
from nnfast.testing.gradients import DIFFERENTIABLE, check_gradient
from nnfast.testing.hostile import check_hostile
from nnfast.testing.long_sums import long_call
from nnfast.testing.models import MODELS, random_task, smooth_task
from nnfast.testing.parity import NONE, Error
from nnfast.testing.trainings import CHECKS, check_free_run, check_model_gradient, check_outputs

__all__ = ["Trial", "trials_of"]

SHAPES_EACH = 50  # shapes per op in which gradients are checked
RANDOM_MODELS = 20


class Trial(NamedTuple):
    """`run()` goes through the cases, raises at the first that fails, and gives the worst error of each."""

    kind: str
    name: str
    dtype: str
    run: Callable[[], Iterator[Error]]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}".strip()


def trials_of(
    backend: Backend,
    judge: Backend,
    *,
    cases: int,
    thorough: bool,
    ops: Sequence[str] | None,
    kinds: Sequence[str],
    dtypes: Sequence[Any],
) -> Iterator[Trial]:
    """All trials of a backend; the arguments are those of `check_backend`."""
    if "arrays" in kinds:
        yield Trial("arrays", "arrays", "", partial(_arrays, backend))
    chosen = [op for op in CASES if (backend.kernel(op) is not None if ops is None else op in ops)]
    for op in chosen if "ops" in kinds else ():
        for dtype in dtypes:
            run = partial(_op, backend, judge, CASES[op], dtype, cases)
            yield Trial("ops", op, str(np.dtype(dtype)), run)
    shapes = SHAPES_EACH * (10 if thorough else 1)
    for op in DIFFERENTIABLE if "gradients" in kinds else ():
        if op in chosen:
            yield Trial("gradients", f"{op}, gradient", "float64", partial(_gradients, backend, op, shapes))
    if "models" in kinds:
        yield from _models(backend, judge, thorough)


def _arrays(backend: Backend) -> Iterator[Error]:
    """What a backend says of its arrays."""
    for dtype in ("float32", "float64", "int64"):
        for shape in [(0,), (1,), (5,), (3, 0), (4, 3), (257, 65)]:
            values = (np.arange(np.prod(shape)) * 1_000_003).astype(dtype).reshape(shape)  # beyond float32
            layouts = [values, values[::-1], np.asfortranarray(values), values.astype(values.dtype.newbyteorder())]
            for given in layouts:
                array = backend.asarray(given)
                host = backend.to_numpy(array)
                assert isinstance(host, np.ndarray), f"to_numpy gives {type(host).__name__}, expected numpy.ndarray"
                assert (host == given).all(), f"asarray changed values of a {given.shape} {given.dtype} array"
                assert host.dtype == dtype, f"asarray made {host.dtype} of {given.dtype}"
                rows = not isinstance(array, np.ndarray) or array.flags.c_contiguous
                assert rows, "asarray gave an array that is not C-contiguous"
                other = backend.to_numpy(backend.asarray(given, np.float64))
                assert other.dtype == np.float64, f"asarray made {other.dtype} where float64 was asked for"
                assert (other == given).all(), "asarray changed values on the way to another dtype"
                assert backend.asarray(array) is array, "asarray copied an array of its own"
                yield NONE
            zeros, empty = backend.zeros(shape, np.dtype(dtype)), backend.empty(shape, np.dtype(dtype))
            assert not backend.to_numpy(zeros).any(), "zeros are not zero"
            for array in (zeros, empty):
                host = backend.to_numpy(array)
                assert host.shape == shape, f"an array of shape {shape} came as {host.shape}"
                assert host.dtype == dtype, f"an array of {dtype} came as {host.dtype}"
                at = getattr(array, "ctypes", None)
                assert at is None or not host.size or at.data % ALIGNMENT == 0, (
                    f"memory is not aligned to {ALIGNMENT} bytes"
                )
            yield NONE


def _op(backend: Backend, judge: Backend, case: Case, dtype: Any, cases: int) -> Iterator[Error]:
    """The table's cases with all rules, long sums, hostile numbers, and generated cases."""
    kernel = backend.kernel(case.op)
    assert kernel is not None, f"the backend has no kernel for {case.op!r}"
    check_signature(kernel, case)
    for call in case.calls(case.rng(str(np.dtype(dtype))), dtype):
        yield check_call(backend, judge, case, call)
    long = long_call(case) if np.dtype(dtype) == np.float32 else None
    if long is not None:
        yield check_parity(backend, judge, case, long)
    for _ in check_hostile(backend, judge, case, dtype):
        yield NONE
    for number in range(cases):
        yield check_generated(backend, judge, case, dtype, number)


def _gradients(backend: Backend, op: str, shapes: int) -> Iterator[Error]:
    for number in range(shapes):
        rng = CASES[op].rng("gradient", number)
        rows, inputs, outputs = (int(n) for n in rng.integers(1, 30, 3))
        check_gradient(backend, op, rng, rows, inputs, outputs)
        yield NONE


def _models(backend: Backend, judge: Backend, thorough: bool) -> Iterator[Trial]:
    for name, check in CHECKS.items():
        options = {"steps": 1_000 if thorough else 200} if name == "steps" else {}
        dtype = "float32" if name in ("steps", "not finite") else "float64"
        yield Trial("models", f"training: {name}", dtype, partial(_fixed_models, backend, judge, check, options))
    models = RANDOM_MODELS * (10 if thorough else 1)
    yield Trial("models", "random models", "float64", partial(_random_models, backend, judge, models))
    yield Trial("models", "random models, gradient", "float64", partial(_random_gradients, backend, models))


def _fixed_models(backend: Backend, judge: Backend, check: Any, options: Mapping[str, int]) -> Iterator[Error]:
    for task in MODELS.values():
        yield check(backend, judge, task, **options)


def _random_models(backend: Backend, judge: Backend, models: int) -> Iterator[Error]:
    for number in range(models):
        task = random_task(number)
        outputs = check_outputs(backend, judge, task)
        yield max(outputs, check_free_run(backend, judge, task, epochs=3), key=lambda e: e.share)


def _random_gradients(backend: Backend, models: int) -> Iterator[Error]:
    for number in range(models):
        check_model_gradient(backend, smooth_task(number), np.random.default_rng(number))
        yield NONE
