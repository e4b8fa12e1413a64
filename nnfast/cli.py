"""The command line: `nnfast COMMAND …`. Each command reads its own arguments and loads what it needs, when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from nnfast.errors import NnfastError, UnknownNameError

__all__ = ["main"]

# The distributions that matter to nnfast, needed or optional. CuPy has one per CUDA version.
PACKAGES = ("numba", "scipy", "threadpoolctl", "rich", "matplotlib", "scikit-learn")
CUPY = ("cupy", "cupy-cuda12x", "cupy-cuda13x")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 all well, 1 it failed, 2 the call was wrong."""
    import nnfast

    parser = argparse.ArgumentParser(
        prog="nnfast",
        usage="nnfast [-h] [--version] COMMAND [...]",
        description="Dense neural networks on interchangeable backends.",
        epilog="commands:\n" + "\n".join(f"  {name:8} {text}" for name, (_, text) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nnfast {nnfast.__version__}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of those below; COMMAND --help says more")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    if options.command not in COMMANDS:
        print(f"nnfast: {UnknownNameError('command', options.command, COMMANDS)}", file=sys.stderr)
        return 2
    run, _ = COMMANDS[options.command]
    try:
        return run(options.arguments)
    except NnfastError as error:
        print(f"nnfast {options.command}: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1


def _demo(argv: list[str]) -> int:
    from nnfast.examples.demo import main as demo

    return demo(argv) or 0


def _info(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="nnfast info", description="What nnfast finds on this machine.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    facts = _facts()
    if options.json:
        import json

        print(json.dumps(facts, indent=2))
    else:
        print(_table(facts))
    return 0


def _facts() -> dict[str, Any]:
    import os
    import platform

    import numpy as np

    import nnfast
    from nnfast.registry import available_backends
    from nnfast.threads import cpu_count

    return {
        "nnfast": nnfast.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": cpu_count(),
        "blas": _blas(),
        "NNFAST_BACKEND": os.environ.get("NNFAST_BACKEND"),
        "backends": {name: str(found) for name, found in available_backends().items()},
        "packages": _packages(),
    }


def _table(facts: dict[str, Any]) -> str:
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [("", ""), (name, "")]
            lines += [(f"  {key}", text or "not installed") for key, text in value.items()]
        else:
            lines.append((name, "not set" if value is None else str(value)))
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:{width}}{text}".rstrip() for name, text in lines)


def _processor() -> str:
    """The CPU's name. `platform.processor()` says only "x86_64" on Linux, or nothing."""
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _blas() -> str:
    """NumPy's BLAS and its threads; from threadpoolctl where it is installed, else as NumPy was built."""
    import numpy as np

    config: Any = np.show_config(mode="dicts")
    built = config["Build Dependencies"]["blas"]
    name = f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return name
    running = [
        f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    return "; ".join(running) or name


def _packages() -> dict[str, str | None]:
    """Versions from the metadata; nothing is imported."""
    found = {name: _version(name) for name in PACKAGES}
    return found | {"cupy": next(filter(None, map(_version, CUPY)), None)}


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _inspect(argv: list[str]) -> int:
    from nnfast.checkpoint import examine

    parser = argparse.ArgumentParser(prog="nnfast inspect", description="What is inside a file; 1 if it is damaged.")
    parser.add_argument("file", help="written by model.save or save_weights, or any .safetensors or .npz")
    text, sound = examine(parser.parse_args(argv).file)
    print(text)
    return 0 if sound else 1


def _warmup(argv: list[str]) -> int:
    import time

    from nnfast.registry import get_backend

    parser = argparse.ArgumentParser(
        prog="nnfast warmup",
        description="Compile the kernels of a backend ahead, so that no training waits for it.",
    )
    parser.add_argument("--backend", default="numba", metavar="NAME", help="numba (the default), cupy, cupy-tf32")
    parser.add_argument(
        "--dtype", action="append", choices=["float32", "float64"], help="one of several (default: float32)"
    )
    options = parser.parse_args(argv)
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


def _parity(argv: list[str]) -> int:
    from nnfast.registry import get_backend
    from nnfast.testing.report import CASES_EACH, KINDS, THOROUGHLY, check_backend

    parser = argparse.ArgumentParser(
        prog="nnfast parity",
        description="Try a backend in every way: each op within its limit of the NumPy reference in float64, also with "
        "hostile numbers, then gradients and whole trainings. 0 if all agrees, else 1.",
    )
    parser.add_argument("--backend", metavar="NAME", help="who is tried (default: the one that would compute)")
    parser.add_argument("--cases", type=int, metavar="N", help=f"generated per op and dtype (default: {CASES_EACH})")
    parser.add_argument("--thorough", action="store_true", help=f"{THOROUGHLY:,} cases, and ten times all else")
    parser.add_argument("--op", action="append", metavar="NAME", help="one of several ops (default: all)")
    parser.add_argument("--only", action="append", choices=KINDS, help="one of several parts (default: all)")
    parser.add_argument("--dtype", action="append", choices=["float32", "float64"], help="of the ops (default: both)")
    options = parser.parse_args(argv)
    cases = options.cases if options.cases is not None else THOROUGHLY if options.thorough else CASES_EACH
    backend = get_backend(options.backend)

    def on_row(row: Any) -> None:
        if sys.stderr.isatty():
            print(f"\r{row.name:<40.40} {row.dtype:8}", end="", file=sys.stderr, flush=True)

    report = check_backend(
        backend,
        cases=cases,
        thorough=options.thorough,
        ops=options.op,
        kinds=options.only or (("ops", "gradients") if options.op else KINDS),
        dtypes=options.dtype or ("float32", "float64"),
        on_row=on_row,
    )
    if sys.stderr.isatty():
        print(f"\r{'':50}\r", end="", file=sys.stderr)
    print(report)
    return 0 if report.passed else 1


def _bench(argv: list[str]) -> int:
    import importlib.util

    folder = _checkout()
    if folder is None:
        print(
            "nnfast bench: the benchmarks are not installed with the package. Get the checkout, then in its folder:\n"
            "    pip install -e '.[bench]' && nnfast bench",
            file=sys.stderr,
        )
        return 2
    spec = importlib.util.spec_from_file_location("nnfast_bench_run", f"{folder}/bench/run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    status: int = module.main(argv)
    return status


def _checkout() -> str | None:
    """The folder with bench/ in it: the one that this package lies in, else the current one; None where neither has."""
    import os

    import nnfast

    for folder in (os.path.dirname(os.path.dirname(os.path.abspath(nnfast.__file__))), os.getcwd()):
        if all(os.path.isfile(os.path.join(folder, *parts)) for parts in (("bench", "run.py"), ("nnfast", "cli.py"))):
            return folder
    return None


COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "demo": (_demo, "train on every backend, compare them, draw a picture"),
    "inspect": (_inspect, "what is inside a file of a model or of weights"),
    "warmup": (_warmup, "compile the kernels of a backend ahead"),
    "info": (_info, "versions, backends and the machine, for a bug report"),
    "parity": (_parity, "prove that a backend agrees with the reference"),
    "bench": (_bench, "time nnfast beside other libraries and the machine's limits (needs the checkout)"),
}
