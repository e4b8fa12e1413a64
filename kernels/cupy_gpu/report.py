"""Who runs each op, in words: for `Model.backend_report()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnfast.protocol import CUSTOM, Op, OpReport

from ..reference.runner import report_of as report_of_op
from .emitter import Call, Emitter, Launch, Policy, Ref
from .plan import Batch, Places, Plan, plan_of, spaces_of
from .step import Step

if TYPE_CHECKING:
    from nnfast.protocol import Program

__all__ = ["nominal_plan", "report_of"]

ROWS = 128  # of the batch that is planned for where none has run yet
PARAMETERS, GRADIENTS, ARENA = 8 << 40, 9 << 40, 10 << 40  # made-up addresses


def report_of(program: Program, step: Step | None) -> list[OpReport]:
    """A row per op, as the step last run has it, or as one would be planned before anything is measured."""
    plan = nominal_plan(program) if step is None else step.plan
    calls = {piece.op: piece.calls for piece in plan.pieces}
    how = "" if step is None else step.why_no_graph or ("in a graph" if step.is_captured else "")
    return [_row(op, calls.get(i, []), how) for i, op in enumerate(program.ops)]


def nominal_plan(
    program: Program, rows: int = ROWS, policy: Policy | None = None, idle: frozenset[int] = frozenset()
) -> Plan:
    """The plan of a step on addresses that are made up: for looking at, not for running."""
    spaces = spaces_of(program)
    flat = {name: (i + 1) << 32 for i, name in enumerate(sorted(spaces - {"x", "y", "weight", "output", "sums"}))}
    kind = "f4" if program.dtype == "float32" else "f8"
    batch = Batch(
        rows,
        Ref(1 << 40, (rows, program.n_inputs), kind),
        Ref(2 << 40, (rows, program.n_outputs), kind),
        None,
        Ref(3 << 40, (rows, program.n_outputs), kind) if "output" in spaces else None,
        True,
    )
    flat |= {"parameters": PARAMETERS, "gradients": GRADIENTS}
    places = Places(flat, ARENA, 11 << 40, 12 << 40, 13 << 40, 14 << 40)
    return plan_of(program, places, batch, Emitter(program.dtype, policy), idle)


def _row(op: Op, calls: list[Call] | None, how: str) -> OpReport:
    if calls is None:
        if op.name == "python":
            return report_of_op(op, dict(op.attributes)["call"])
        if "cuda" in CUSTOM.get(op.name, {}):
            return OpReport(op.name, "its own cuda= function", "cuts the program")
        return OpReport(op.name, "its reference, on the host", "no CUDA kernel: copied there and back")
    names = [call.kernel if isinstance(call, Launch) else _product(call.epilogue) for call in calls]
    return OpReport(op.name, " + ".join(dict.fromkeys(names)) or "nothing to do", how)


def _product(epilogue: str) -> str:
    return f"cublasLt ({epilogue})" if epilogue else "cublasLt"
