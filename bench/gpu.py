"""The GPU backend on a GPU: what the device can do, whether results are right, and times beside PyTorch and JAX.

    python bench/gpu.py --out DIR [--only probe,parity,measure] [--seconds N]
    python bench/gpu.py --simulated --out DIR         # no GPU: does this script still work? no figures
    python bench/gpu.py --table FILE_OR_DIR           # the Markdown tables of a record, or of all in a folder

Runs from a copy of the repository: nnfast need not be installed, nothing is fetched. Needs CuPy 14 and a driver; peers
that are not there are left out. Writes `gpu-<device>.json` and `gpu-<device>.md` into DIR.

Each section runs in a process of its own and writes what it found after every step, so neither a fault of the device
nor a time limit takes more than the step that it falls into. The record keeps the sections of an earlier run in DIR,
as long as they are of the same device and the same sources.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_parts.checkout import ROOT, fingerprint, open_checkout
from gpu_parts.section import Section, write_json

__all__ = ["main", "slug"]

VERSION = 1  # of the record
BANNER = "no GPU code ran: a simulated device; nothing in here is a measurement"
SECONDS = 460.0  # in all
GRACE = 10.0  # seconds that a section gets beyond its time before it is ended

# part: its sections, and the share of the whole time that each may take; what one leaves over goes to those after it
PARTS: dict[str, dict[str, float]] = {
    "probe": {"facts": 0.06, "products": 0.09},
    "parity": {"ops float32": 0.09, "ops float64": 0.07, "training": 0.11, "processes": 0.06},
    "measure": {"kernels": 0.12, "steps": 0.44, "predictions": 0.1, "populations": 0.1},
}


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    if options.table:
        print(_tables(options.table))
        return 0
    if options.bits:
        from gpu_parts.parity_processes import bits

        print(json.dumps(bits(_stand(options))))
        return 0
    if options.section:
        section = Section(Path(options.file), options.seconds)
        try:
            _run_section(section, options)
        except Exception:  # the next section runs
            section.fail()
            return 1
        return 0
    return _run(options)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the record goes")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PARTS", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all of it (default: %(default)s)")
    parser.add_argument("--simulated", action="store_true", help="try the script out without a GPU")
    parser.add_argument("--peers", action="store_true", help="with --simulated: PyTorch and JAX too, on the CPU")
    parser.add_argument("--table", type=Path, metavar="FILE_OR_DIR", help="print the tables of a record")
    for hidden in ("--section", "--file"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--bits", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.parts = options.only.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not (options.out or options.table or options.section or options.bits):
        parser.error("--out DIR says where the record goes")
    return options


# ---- the parent ------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    end = time.monotonic() + options.seconds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    options.out.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"bench": "gpu", "version": VERSION, "simulated": options.simulated, "device": None}
    record |= {"sources": fingerprint(), "parts": {}}
    if options.simulated:
        record["banner"] = BANNER
    wanted = {part: PARTS[part] for part in PARTS if part in options.parts}
    shares = sum(sum(sections.values()) for sections in wanted.values())
    for part, sections in wanted.items():
        record["parts"][part] = {}
        for name, share in sections.items():
            left = max(end - time.monotonic(), 0.0)
            # The simulated device may have to be compiled first, by whichever section comes to it.
            seconds = left if options.simulated else left * share / shares
            shares -= share
            print(f"{part}: {name}, at most {seconds:.0f} s", file=sys.stderr)
            content = _process(options, f"{part}/{name}", seconds)
            record["device"] = content.pop("device", None) or record["device"]
            record["parts"][part][name] = content
            _write(options.out, record)
    _finish(options.out, record)
    from gpu_parts.figures import failures
    from gpu_parts.table import summary

    print(summary(record))
    return 1 if failures(record) else 0


def _process(options: argparse.Namespace, section: str, seconds: float) -> dict[str, Any]:
    """Run a section in a process of its own; what it wrote, whatever became of it."""
    with tempfile.TemporaryDirectory(prefix="nnfast-gpu-bench-") as folder:
        file = Path(folder) / "section.json"
        command = [sys.executable, __file__, "--section", section, "--file", str(file), "--seconds", str(seconds)]
        command += [f"--{name}" for name in ("simulated", "peers") if getattr(options, name)]
        begin, words = time.monotonic(), ""
        # A session of its own, so that the contenders' processes end with it.
        process = subprocess.Popen(command, start_new_session=True, stdout=sys.stderr)
        try:
            status = process.wait(timeout=seconds + GRACE)
            words = f"its process ended with status {status}" if status else ""
        except subprocess.TimeoutExpired:
            words = f"ended after {seconds + GRACE:.0f} s"
        finally:
            _end(process)
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"steps": {}}
        content |= {"seconds": round(time.monotonic() - begin, 1), "time": time.strftime("%Y-%m-%d %H:%M")}
        if words:
            content.setdefault("error", words)
        return content


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def slug(device: str | None, simulated: bool = False) -> str:
    """ "NVIDIA H200" → "h200" """
    if simulated:
        return "simulated"
    return re.sub(r"[^a-z0-9]+", "-", (device or "unknown").lower().removeprefix("nvidia ")).strip("-")


def _write(out: Path, record: dict[str, Any]) -> Path:
    """The record, with the parts of an earlier one that go with it."""
    file = out / f"gpu-{slug(record['device'], record['simulated'])}.json"
    merged = dict(record, parts=dict(record["parts"]))
    if file.exists():
        earlier = json.loads(file.read_text(encoding="utf-8"))
        if all(earlier.get(key) == record[key] for key in ("version", "simulated", "device", "sources")):
            merged["parts"] = earlier["parts"] | merged["parts"]
    write_json(file, merged)
    return file


def _finish(out: Path, record: dict[str, Any]) -> None:
    """The table beside the record; of a simulated device, or of none, there is none."""
    file = _write(out, record)
    if record["device"] and not record["simulated"]:
        file.with_suffix(".md").write_text(_tables(file) + "\n", encoding="utf-8")
    print(f"written: {file}", file=sys.stderr)


def _tables(place: Path) -> str:
    from gpu_parts import table

    if place.is_dir():
        return table.of_results(place)
    return table.table(json.loads(place.read_text(encoding="utf-8")))


# ---- a section -------------------------------------------------------------------------------------------------------


def _stand(options: argparse.Namespace) -> Any:
    open_checkout(simulator=options.simulated)
    from gpu_parts.stand import Stand

    return Stand(simulated=options.simulated)


def _run_section(section: Section, options: argparse.Namespace) -> None:
    kind = {"simulated": options.simulated, "peers": options.peers or not options.simulated}
    part, _, name = options.section.partition("/")
    if part == "measure" and name != "kernels":
        open_checkout(simulator=options.simulated)
        from gpu_parts import steps

        timed = {"steps": steps.training, "predictions": steps.predictions, "populations": steps.populations}
        timed[name](section, **kind)
        return
    with tempfile.TemporaryDirectory(prefix="nnfast-gpu-measured-") as folder:
        os.environ["NNFAST_CACHE_DIR"] = folder  # what is measured here must not depend on what was before
        stand = _stand(options)
        section.device(stand.name)
        if name == "facts":
            from gpu_parts.probe import probe

            probe(section, stand)
        elif name == "products":
            from gpu_parts.products import products

            products(section, stand)
        elif name.startswith("ops "):
            from gpu_parts.parity_ops import ops

            ops(section, stand, name.removeprefix("ops "))
        elif name == "training":
            from gpu_parts.parity_training import training_parity

            training_parity(section, stand)
        elif name == "processes":
            from gpu_parts.parity_processes import processes

            processes(section, stand)
        else:
            from gpu_parts.kernels import kernels

            kernels(section, stand)


if __name__ == "__main__":
    assert ROOT.is_dir()
    sys.exit(main())
