"""Single ops: the public functions beside PyTorch's, and every kernel of the protocol on every backend.

"functions" are `nn.functional` as a user calls it, checks of the arguments included, compared with the equations in
float64. "kernels" are a backend's own calls without checks, of every op and at three sizes; the cases and the errors
that are allowed are those of the parity tests, `nnfast.testing.CASES`. A floor is what the op must move
at the bandwidth measured for its size, or compute at the BLAS peak.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import peers
from cases.kernels import KernelCase, kernel_cases, moved
from cases.ops import OPS, STEPS
from measuring.functions import timed_function
from measuring.groups import Entry, Group, Outcome, Wrong, timed
from measuring.stand import Contender, Stand
from measuring.workers import Worker

SUITE = "ops"
QUICK = ("softmax cross-entropy with gradient, 128×10", "dense with ReLU and its gradients, 300×2→64")
# Of an output's largest element, for 99.9 %: a norm over millions that PyTorch adds up in float32 is off by 2e-4. What
# nnfast's kernels must keep are the limits of the tests.
PEERS_ARE_CLOSE = 1e-3


def groups(stand: Stand) -> Iterator[Group]:
    yield from _functions(stand)
    yield from _kernels(stand)


# ---- the public functions -------------------------------------------------------------------------------------------


def _functions(stand: Stand) -> Iterator[Group]:
    taking = tuple(stand.contenders(ours="nnfast_ops", kind="function"))
    for name, op in OPS.items():
        if op.kind != "predict_one" and (name in QUICK or not stand.settings.quick):
            floor = lambda stand, op=op: stand.floor(op.flops, op.bytes)  # noqa: E731
            yield Group(SUITE, "functions", name, taking, measure_function, "call", floor)


def measure_function(group: Group, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
    return timed_function(group, taking, stand, stand.settings.pace(9, 0.03, 3.0), STEPS)


# ---- all kernels ----------------------------------------------------------------------------------------------------


def _kernels(stand: Stand) -> Iterator[Group]:
    everybody = stand.contenders(ours="nnfast_kernels", kind="kernel")
    for each in kernel_cases(("small",) if stand.settings.quick else ("small", "medium", "large")):
        taking = tuple(who for who in everybody if who.nnfast or each.op not in peers.named(who.name).lacks)
        # Asked again about the candidate that it has taken, random_search_accept copies nothing: that has no floor.
        once = each.op == "random_search_accept"
        floor = None if once else lambda stand, each=each: stand.floor(each.flops, moved(_answer(each).call))
        work = lambda group, taking, stand, each=each: measure_kernel(each, taking, stand)  # noqa: E731
        x = float(np.prod([n for _, n in each.dims[:2]]))
        yield Group(SUITE, "kernels", each.name, taking, work, "call", floor, "size", x)


def measure_kernel(each: KernelCase, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
    answer = _answer(each)

    def ready(who: Contender, worker: Worker) -> dict[str, Any]:
        worker.make(who.module, "subject", each, *who.args)
        worker.run(1)
        for name, got in worker.results().items():
            _hold(answer, name, got, strict=who.nnfast)
        return {"op": each.op, "size": each.size}

    return timed(stand, taking, ready, stand.settings.pace(5, 0.004, 0.5))


class Answer(NamedTuple):
    """What was asked, the reference's answers in float64, and how far from them a kernel of nnfast may be."""

    call: Any
    right: Mapping[str, Any]
    limits: Mapping[str, Any]


@functools.lru_cache(maxsize=1)  # of the same group: its floor and its measurement
def _answer(each: KernelCase) -> Answer:
    from nnfast.registry import get_backend
    from nnfast.testing import CASES, Judged

    call = each.call()
    before, after = call.astype(np.float64), call.astype(np.float64)
    after(get_backend("numpy").kernel(each.op))
    judged = Judged(before.arrays, after.arrays, call.keywords, call.dtype)
    written = [arg.name for arg, _ in call.args("out", "inout")]
    with np.errstate(all="ignore"):
        limits = {name: CASES[each.op].limit_of(name)(judged, name) for name in written}
    return Answer(call, after.arrays, limits)


def _hold(answer: Answer, name: str, got: Any, *, strict: bool) -> None:
    from nnfast.testing import assert_parity

    want = answer.right[name]
    if strict:
        try:
            assert_parity(got, want, limit=answer.limits[name], dtype=answer.call.arrays[name].dtype, name=name)
        except AssertionError as error:
            raise Wrong(str(error)) from error
        return
    apart = float(np.quantile(np.abs(got - want), 0.999) / (np.abs(want).max() or 1.0))
    if got.shape != want.shape or not apart <= PEERS_ARE_CLOSE:
        raise Wrong(f"{name} is {apart:.1e} from the reference")


def test_ops(entry: Entry, measured: Any) -> None:
    measured(entry)
