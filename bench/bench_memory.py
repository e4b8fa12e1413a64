"""Memory of a training run: the peak of the whole process, and what a step takes anew once all is warm.

    python bench/bench_memory.py [--quick] [--backend NAME] [--peer NAME] [--json FILE] [--markdown FILE]

784-512-512-10, batch 512, float32, Adam; a fresh process each, from warm caches, Linux only. "Imports" is the process
with its libraries imported, "loaded" after it trained a network of the same kind with eight units (what is loaded on
first use has then come too), "data" the rows that it was handed, "needed" parameters, gradients, optimizer state and
arena of the Program. "Temporary" is the most that Python and NumPy held at once, beyond what they held before, during
further epochs, "growth" by how much the process grew over them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import machine
import memory_probe
import numpy as np
import peers
from cases import Case, case, nnfast_model
from harness import Workers, backends, fresh_caches, options_of, parser
from report import deliver

CASE = "784-512-512-10, batch 512"
PEERS = ("torch_eager", "torch_compiled", "jax_loop")


def needed(c: Case) -> int:
    """Bytes that the Program names: what a step cannot do without."""
    program = nnfast_model(c, "numpy").program
    return 4 * (program.layout.size * (2 + len(program.slots)) + program.arena_size(c.batch_size))


def tiny() -> Case:
    """As many layers and the same loss, but next to no memory."""
    rows = np.random.default_rng(0).random((16, 8), dtype=np.float32)
    return Case("8-8-8-10, batch 8", (8, 8, 8, 10), "softmax", 8, False, rows, np.arange(16) % 10)


def probe(
    workers: Workers, c: Case, title: str, module: str, args: tuple[Any, ...], epochs: int, loader: tuple[str, ...]
) -> dict[str, Any]:
    """One run in a fresh process; a row of the record."""
    compiler = workers.start()  # its compilers take memory that no later process needs
    for each in (tiny(), c):
        compiler.make(module, "trainer", each, *args)
        compiler.run(1)
    worker = workers.start()
    worker.ask("call", "memory_probe", "imported", *loader)
    imports = worker.ask("call", "memory_probe", "imported", module)
    worker.make(module, "trainer", tiny(), *args)
    worker.run(1)
    loaded = worker.ask("call", "memory_probe", "resident")
    worker.make(module, "trainer", c, *args)
    worker.run(epochs)
    peak, ours = worker.ask("call", "memory_probe", "peak"), module == "peers.nnfast_fit"
    extra = worker.ask("probe", "memory_probe", "allocations", epochs) if ours else {}
    data, need = c.X.nbytes + c.y.nbytes, needed(c)
    return {
        "title": title,
        "nnfast": ours,
        "peak MB": peak / 1e6,
        "imports MB": imports / 1e6,
        "loaded MB": loaded / 1e6,
        "data MB": data / 1e6,
        "needed MB": need / 1e6,
        "above imports/needed": (peak - imports - data) / need,
        "above loaded/needed": (peak - loaded - data) / need,
        "temporary kB": extra["temporary"] / 1e3 if extra else None,
        "growth kB": extra["grown"] / 1e3 if extra else None,
        "arrays made by compiled code": extra.get("numba"),
        "epochs": epochs,
    }


def main(argv: Sequence[str] | None = None) -> int:
    p = parser("Memory of a training run, nnfast and others.", rounds=1, seconds=0)
    p.add_argument("--peer", action="append", choices=PEERS, help="one of several (default: all)")
    options = options_of(p, argv)
    if not memory_probe.STATUS.exists():
        print(f"left out: memory is read from {memory_probe.STATUS}, which only Linux has", file=sys.stderr)
        return 0
    facts, made = machine.facts(options.threads), case(CASE)
    epochs = 2 if options.quick else 25
    rows, skipped = [], {}
    with fresh_caches() as extra, Workers(options.threads, extra | {"NUMBA_NRT_STATS": "1"}) as workers:
        for name in options.peer or PEERS:
            title, package = peers.PEERS[name]
            reason = peers.missing(package)
            if reason is None:
                rows.append(probe(workers, made, title, f"peers.{name}", (), epochs, (package,)))
            else:
                skipped[title] = reason
        for name in backends(options.backend):
            loader = ("nnfast.registry", "get_backend", name)
            rows.append(probe(workers, made, f"nnfast, {name}", "peers.nnfast_fit", (name,), epochs, loader))
    torch = next((r["peak MB"] for r in rows if r["title"] == peers.TITLES["torch_eager"]), None)
    for row in rows:
        row["peak over PyTorch's"] = row["peak MB"] / torch if torch and row["nnfast"] else None
    record = {"bench": "memory", "machine": facts, "skipped": skipped, "rows": rows, "quick": options.quick}
    deliver(record | {"settings": vars(options)}, options.json, options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
