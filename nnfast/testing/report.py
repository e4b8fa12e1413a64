"""A whole backend on trial: every op in every way, arrays, and trainings; one line of a table for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nnfast.errors import OptionError, UnknownNameError
from nnfast.protocol import Backend
from nnfast.registry import get_backend
from nnfast.testing.case import DTYPES
from nnfast.testing.cases import CASES
from nnfast.testing.parity import NONE, Error
from nnfast.testing.trials import Trial, trials_of
from nnfast.text import table
from nnfast.validation import flag, integer, working_dtype

__all__ = ["BY_OP", "CASES_EACH", "KINDS", "THOROUGHLY", "Report", "Row", "check_backend"]

CASES_EACH = 200  # generated cases per op and dtype, unless told otherwise
THOROUGHLY = 5_000  # what the command line means by thorough
KINDS = ("arrays", "ops", "gradients", "models")
BY_OP = ("ops", "gradients")  # those that have a row for each op


class Row(NamedTuple):
    """What was tried of one op or one part, how near it came to a limit, and the first failure."""

    kind: str
    name: str
    dtype: str
    cases: int
    worst: Error
    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure


class Report(NamedTuple):
    """All rows. `str(report)` is the table."""

    backend: str
    rows: tuple[Row, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    @property
    def failures(self) -> list[Row]:
        return [row for row in self.rows if not row.passed]

    def __str__(self) -> str:
        head = ("", "", "cases", "worst error", "limit", "of it", "verdict")
        return "\n".join([table(head, [_cells(row) for row in self.rows], right=(2, 3, 4, 5)), *self._words()])

    def _words(self) -> list[str]:
        said = [f"{row.name} {row.dtype}: {row.failure}" for row in self.failures]
        cases, failed = sum(row.cases for row in self.rows), len(self.failures)
        verdict = f"{failed} of {len(self.rows)} rows FAILED" if failed else "all agree"
        return ["", *said, f"backend {self.backend!r}: {cases:,} cases in {self.seconds:.0f} s; {verdict}"]


def _cells(row: Row) -> tuple[str, ...]:
    error, limit = row.worst
    measured = (f"{error:.1e}", f"{limit:.1e}", f"{row.worst.share:.0%}") if error else ("0", "", "")
    return (row.name, row.dtype, f"{row.cases:,}", *measured, "agrees" if row.passed else "FAILED")


def check_backend(
    backend: str | Backend,
    *,
    cases: int = CASES_EACH,
    thorough: bool = False,
    ops: Sequence[str] | None = None,
    kinds: Sequence[str] = KINDS,
    dtypes: Sequence[Any] = DTYPES,
    on_row: Callable[[Row], None] | None = None,
) -> Report:
    """Try a backend in every way this package knows, against the NumPy reference in float64.

    backend    its name or the object
    cases      generated cases per op and dtype; those of the case table and the hostile ones come on top
    thorough   all trainings to their full length, and ten times the shapes and random models
    ops        only these, of "ops" and "gradients"; None is all that the backend has a kernel for (a Program is cut
               around the others)
    kinds      some of "arrays", "ops", "gradients", "models"
    on_row     is called with each row of the report as it comes

    Nothing is raised where the backend errs: look at `report.passed`, or print the report. Raises BackendUnavailable
    where it cannot work here, UnknownNameError for an op that does not exist, DTypeError for a dtype that nothing
    computes in, OptionError for a kind that does not exist, fewer cases than 0, and where there is nothing to try.
    """
    tried, judge = get_backend(backend), get_backend("numpy")
    for op in ops or ():
        if op not in CASES:
            raise UnknownNameError("op", op, CASES)
    if not set(kinds) <= set(KINDS):
        raise OptionError(f"kinds is {tuple(kinds)!r}; expected some of {KINDS}")
    cases, thorough = integer("cases", cases, 0), flag("thorough", thorough)
    names = [working_dtype(dtype).name for dtype in dtypes]
    begin, rows = time.perf_counter(), []
    for trial in trials_of(tried, judge, cases=cases, thorough=thorough, ops=ops, kinds=kinds, dtypes=names):
        rows.append(_row(trial))
        if on_row is not None:
            on_row(rows[-1])
    if not rows:
        raise OptionError(f"there is nothing to try: kinds={tuple(kinds)}, ops={ops}, dtypes={tuple(names)}")
    return Report(tried.name, tuple(rows), time.perf_counter() - begin)


def _row(trial: Trial) -> Row:
    """Run a trial until a case of it fails."""
    kind, name, dtype, run = trial
    worst, done = NONE, 0
    try:
        for error in run():
            done += 1
            worst = max(worst, error, key=lambda e: e.share)
    except Exception as failure:  # whatever a backend from elsewhere may raise, or a check
        notes = "; ".join(getattr(failure, "__notes__", ()))
        sort = "" if isinstance(failure, AssertionError) else f"{type(failure).__name__}: "
        return Row(kind, name, dtype, done + 1, worst, f"{sort}{failure}" + (f" ({notes})" if notes else ""))
    return Row(kind, name, dtype, done, worst)
