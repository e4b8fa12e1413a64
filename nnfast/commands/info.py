"""`nnfast info`: what is here, what would compute, what is wrong and what mends it; for its user and for bug reports.

`--json` prints the facts themselves. Keys keep their names and meanings; later versions may add some.

    versions      nnfast, Python and each package that matters; null where it is missing
    machine       platform, processor, cpus, allowed
    blas          numpy, scipy: name, version, threads
    threads       count, why
    backends      by name: available, reason
    selected      backend (null: none), why
    cache         folder, files, bytes, off, problem; null without Numba
    gpu           devices, current, driver, cuda_driver, cuda_runtime, reason
    environment   each variable that matters; null where it is not set
    problems      a list: problem, fix
"""

from __future__ import annotations

import argparse
from typing import Any

from nnfast.commands.parsing import Parser

__all__ = ["facts", "parser", "run"]


def parser() -> Parser:
    made = Parser("nnfast info", "What nnfast finds on this machine, what is wrong with it and what mends it.")
    made.add_argument("--json", action="store_true", help="print JSON with stable keys instead of text")
    return made


def run(options: argparse.Namespace) -> int:
    found = facts()
    if options.json:
        import json

        print(json.dumps(found, indent=2))
    else:
        from nnfast.commands.info_text import text

        print(text(found))
    return 0


def facts() -> dict[str, Any]:
    """All that the module's docstring lists. Never raises: what cannot be found out is told as a problem."""
    from nnfast.commands import gpu, machine, problems
    from nnfast.registry import available_backends

    backends = available_backends()
    found: dict[str, Any] = {
        "versions": machine.versions(),
        "machine": machine.machine_facts(),
        "blas": machine.blas(),
        "threads": machine.threads_facts(),
        "backends": {
            name: {"available": bool(answer), "reason": None if answer else str(answer)}
            for name, answer in backends.items()
        },
        "selected": _selected(),
        "cache": _cache(_usable(backends, "numba")),
        "gpu": gpu.gpu_facts(_usable(backends, "cupy")),
        "environment": machine.variables(),
    }
    return found | {"problems": problems.problems(found)}


def _usable(backends: dict[str, Any], name: str) -> Any:
    """The backend, or None where it cannot be used or another of its name has taken the place."""
    from nnfast.registry import get_backend

    return get_backend(name) if backends.get(name) else None


def _cache(backend: Any) -> dict[str, Any] | None:
    state: dict[str, Any] | None = backend.cache_state() if hasattr(backend, "cache_state") else None
    return state


def _selected() -> dict[str, str | None]:
    """Who computes when a program names no backend."""
    import os

    from nnfast.errors import BackendUnavailable
    from nnfast.registry import ENVIRONMENT, get_backend

    why = f"the environment variable {ENVIRONMENT}" if os.environ.get(ENVIRONMENT) else "the first that works"
    try:
        return {"backend": get_backend().name, "why": why}
    except BackendUnavailable as error:
        return {"backend": None, "why": str(error)}
