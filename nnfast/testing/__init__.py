"""The tests that a backend must pass, shipped so that backends from elsewhere can prove themselves.

`check_backend` tries a backend in every way: each op on the case table, on hostile numbers and on generated cases, its
arrays, gradients against differences, whole trainings against the reference, its runner against its own kernels. From
the shell that is `nnfast parity --backend NAME`, in a test suite `pytest --nnfast-backend NAME`.

The parts can be had one by one. `CASES` has one `Case` per op: valid arguments for odd, empty and wide shapes, and the
error allowed per dtype. `check_case` holds one kernel to one case, `check_vjp` checks gradients, `assert_parity`
compares two arrays.
"""

from nnfast.testing.case import DTYPES, Call, Case
from nnfast.testing.cases import CASES
from nnfast.testing.contract import (
    check_call,
    check_case,
    check_fills_outputs,
    check_guards,
    check_inputs_kept,
    check_optional,
    check_parity,
    check_signature,
    check_weight,
    run,
)
from nnfast.testing.generated import check_generated, generated_call
from nnfast.testing.gradcheck import check_vjp, off_kinks
from nnfast.testing.gradients import DIFFERENTIABLE, check_gradient
from nnfast.testing.hostile import check_hostile, hostile_calls
from nnfast.testing.limits import Judged, Limit
from nnfast.testing.parity import Error, assert_parity
from nnfast.testing.report import Report, Row, check_backend

__all__ = [
    "CASES",
    "DIFFERENTIABLE",
    "DTYPES",
    "Call",
    "Case",
    "Error",
    "Judged",
    "Limit",
    "Report",
    "Row",
    "assert_parity",
    "check_backend",
    "check_call",
    "check_case",
    "check_fills_outputs",
    "check_generated",
    "check_gradient",
    "check_guards",
    "check_hostile",
    "check_inputs_kept",
    "check_optional",
    "check_parity",
    "check_signature",
    "check_vjp",
    "check_weight",
    "generated_call",
    "hostile_calls",
    "off_kinks",
    "run",
]
