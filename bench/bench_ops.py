"""Microseconds per call of single ops: nnfast's public functions beside PyTorch's, and one prediction at a time.

    python bench/bench_ops.py [--quick] [--case TEXT] [--backend NAME] [--json FILE] [--markdown FILE]

Before anything is timed, every answer is compared with that of the equations in float64. How the clock is read:
`harness.py`. The floor is what an op must move at the bandwidth measured for its size, or compute at the BLAS peak.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import machine
import peers
from harness import Failed, Workers, backends, fresh_caches, measure, options_of, parser
from op_cases import OPS, STEPS, OpCase, expected, same
from report import compared, deliver

# contender: title, module, packages it needs, the kinds of ops it takes part in (None: all)
OTHERS: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...] | None]] = {
    "torch": ("PyTorch, eager", "peers.torch_ops", ("torch",), None),
    "onnxruntime": ("ONNX Runtime", "peers.onnx_runtime", ("onnxruntime", "onnx"), ("predict_one",)),
}


def run_case(
    case: OpCase, ours: Sequence[str], skipped: dict[str, str], options: Any, extra: dict[str, str]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Prove all answers, then time all: titles, and seconds per call in each round."""
    right = expected(case)
    titles, workers = {}, {}
    with Workers(options.threads, extra) as pool:
        for name, (title, module, args) in _contenders(case, ours, skipped).items():
            worker = pool.start()
            try:
                worker.make(module, "subject", case, *args)
                worker.run(STEPS)
                apart, close = same(worker.results(), right)
            except Failed as error:
                if name in ours:
                    raise SystemExit(f"{case.name}: {title}: {error}") from error
                skipped[f"{title} on {case.name}"] = str(error)
                continue
            if not close:
                raise SystemExit(f"{case.name}: {title} is {apart:.1e} from the equations; nothing was timed")
            print(f"{case.name}: {title} is within {apart:.1e} of the equations", file=sys.stderr)
            titles[name], workers[name] = title, worker
        return titles, measure(workers, options.rounds, options.seconds)


def _contenders(
    case: OpCase, ours: Sequence[str], skipped: dict[str, str]
) -> dict[str, tuple[str, str, tuple[Any, ...]]]:
    """Title, module and further arguments of everybody who takes part in this op."""
    taking: dict[str, tuple[str, str, tuple[Any, ...]]] = {}
    for name, (title, module, packages, kinds) in OTHERS.items():
        reason = next(filter(None, map(peers.missing, packages)), None)
        if reason is not None:
            skipped[title] = reason
        elif kinds is None or case.kind in kinds:
            taking[name] = title, module, ()
    return taking | {name: (f"nnfast, {name}", "peers.nnfast_ops", (name,)) for name in ours}


def main(argv: Sequence[str] | None = None) -> int:
    p = parser("Microseconds per call of single ops, nnfast and others.", rounds=21, seconds=0.2)
    p.add_argument("--case", metavar="TEXT", help="only the ops whose names contain this")
    options = options_of(p, argv)
    ours, facts = backends(options.backend), machine.facts(options.threads)
    skipped: dict[str, str] = {}
    rows = []
    with fresh_caches() as extra, Workers(options.threads, extra) as pool:
        meter = pool.start()
        limits = meter.ask("call", "machine", "limits", options.threads, options.quick)
        for case in (case for name, case in OPS.items() if (options.case or "") in name):
            titles, times = run_case(case, ours, skipped, options, extra)
            speed = meter.ask("call", "machine", "bandwidth", case.bytes, options.threads)
            floor = max(case.bytes / speed, case.flops / limits["float32 flops per second"])
            rows += compared(case.name, times, titles, ours, floor)
    record = {"bench": "ops", "machine": facts, "limits": limits, "skipped": skipped, "rows": rows}
    deliver(record | {"quick": options.quick, "settings": vars(options)}, options.json, options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
