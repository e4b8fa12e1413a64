"""`nnfast warmup`: compiles the kernels of a backend, so that no training waits for it."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from nnfast.commands.parsing import BACKEND, Parser

__all__ = ["parser", "run"]


def parser() -> Parser:
    made = Parser("nnfast warmup", "Compile the kernels of a backend ahead, so that no training waits for it.")
    made.add_argument(
        "--backend", default="numba", type=BACKEND, metavar="NAME", help="numba (the default), cupy, cupy-tf32"
    )
    made.add_argument(
        "--dtype", action="append", choices=["float32", "float64"], help="one of several (default: float32)"
    )
    return made


def run(options: argparse.Namespace) -> int:
    from nnfast.registry import get_backend

    backend: Any = get_backend(options.backend)
    if not hasattr(backend, "warm_up"):
        print(f"nnfast warmup: the backend {options.backend!r} compiles nothing", file=sys.stderr)
        return 2
    begin, done = time.perf_counter(), 0
    for dtype in options.dtype or ["float32"]:
        for name in backend.warm_up(dtype):
            done += 1
            print(f"\r{done} ready, {name:<60.60}", end="", file=sys.stderr, flush=True)
    print(f"\r{'':72}\r", end="", file=sys.stderr)
    print(f"{done} kernels ready in {time.perf_counter() - begin:.1f} s; {backend.cache_report()}")
    return 0
