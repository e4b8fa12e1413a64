"""Runs the case table under AddressSanitizer and UndefinedBehaviorSanitizer: `python -m simulator.sanitized [OP …]`.

Python itself is not built with them, so they are loaded before everything else, in a process of their own. NumPy's
arrays then come from their malloc, with red zones around them.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from simulator.build import unavailable

__all__ = ["run", "unavailable_here"]

TESTS = Path(__file__).parent.parent
RUNTIMES = ("libasan.so", "libstdc++.so")  # the second so that the first finds what it intercepts


@functools.cache
def _runtimes() -> list[str]:
    """Where g++ has the libraries; a bare name where it has none."""
    ask = [["g++", f"-print-file-name={name}"] for name in RUNTIMES]
    return [subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip() for call in ask]


def unavailable_here() -> str | None:
    """Why sanitizers cannot be used here, or None."""
    reason = unavailable()
    if reason:
        return reason
    missing = [path for path in _runtimes() if not os.path.isabs(path)]
    return f"g++ has no {missing[0]}" if missing else None


def run(*command: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Python with the sanitizers loaded and these arguments; stdout and stderr are together in `stdout`."""
    paths = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(_runtimes()),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "SIMULATOR_SANITIZED": "1",
    }
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def main(ops: list[str]) -> int:
    """All cases of the ops, fewer shapes: each once with aligned and once with misaligned arrays."""
    from nnfast import testing
    from nnfast.protocol import CUSTOM, OPS
    from nnfast.registry import get_backend
    from nnfast.testing import CASES, DTYPES
    from simulator.executing import SimulatedBackend, op_function

    judge = get_backend("numpy")
    todo = [op for op in ops or OPS if op not in CUSTOM and op_function(op)]
    backends = [(dtype, [SimulatedBackend(dtype, shift=s, sanitize=True) for s in (0, 1)]) for dtype in DTYPES]
    count = 0
    for dtype, both in backends:
        for op in todo:
            case = CASES[op]
            shapes = [dims for dims in case.shapes if max(dims.values()) < 20_000]
            for i, dims in enumerate(shapes):
                for j, keywords in enumerate(case.keywords):
                    call = case.make(case.rng(dtype), dtype, dims, keywords, case.forms[(i + j) % len(case.forms)])
                    testing.check_parity(both[(i + j) % 2], judge, case, call)
                    count += 1
    print(f"{count} calls of {len(todo)} ops, nothing found")
    return 0


if __name__ == "__main__":
    if os.environ.get("SIMULATOR_SANITIZED"):
        sys.exit(main(sys.argv[1:]))
    why = unavailable_here()
    if why:
        sys.exit(why)
    done = run("-m", "simulator.sanitized", *sys.argv[1:], timeout=600)
    print(done.stdout, end="")
    sys.exit(done.returncode)
