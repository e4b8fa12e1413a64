"""Prints the error that each op is allowed, as the case table of `nnfast.testing` has it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from nnfast.testing import CASES
from nnfast.text import table


def described(limit: Callable[..., Any]) -> str:
    """A limit as it was asked for: `exact`, or the maker of `nnfast/testing/limits.py` with what it was given."""
    name = limit.__qualname__.partition(".")[0]
    given = inspect.getclosurevars(limit).nonlocals
    words = [f"{key}={value}" for key, value in given.items() if value != ""]
    return f"{name}({', '.join(words)})" if words else name


def main() -> None:
    ops: dict[str, list[str]] = {}
    for op, case in CASES.items():
        outputs = [arg.name for arg in case.spec.args if arg.role != "in"]
        limits = dict.fromkeys(described(case.limit_of(name)) for name in outputs)
        ops.setdefault("; ".join(limits), []).append(op)
    print(table(("limit", "ops"), [(limit, ", ".join(names)) for limit, names in ops.items()]))


if __name__ == "__main__":
    main()
