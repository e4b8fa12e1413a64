"""The tests that a backend must pass, shipped so that backends from elsewhere can prove themselves.

`CASES` has one `Case` per op: valid arguments for odd, empty and wide shapes, and the error allowed per dtype.
`check_case` holds one backend's kernel to one case; loop over `CASES` to test a backend whole. `check_vjp` checks
gradients, `assert_parity` compares two arrays.
"""

from nnfast.testing.case import DTYPES, Call, Case
from nnfast.testing.cases import CASES
from nnfast.testing.contract import (
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
from nnfast.testing.gradcheck import check_vjp, off_kinks
from nnfast.testing.limits import Judged, Limit
from nnfast.testing.parity import assert_parity

__all__ = [
    "CASES",
    "DTYPES",
    "Call",
    "Case",
    "Judged",
    "Limit",
    "assert_parity",
    "check_case",
    "check_fills_outputs",
    "check_guards",
    "check_inputs_kept",
    "check_optional",
    "check_parity",
    "check_signature",
    "check_vjp",
    "check_weight",
    "off_kinks",
    "run",
]
