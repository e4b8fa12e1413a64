"""What is read out of a record of `gpu.py`, and the figures that were to be reached.

Every number comes from the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gpu_parts.networks import NETWORKS

__all__ = ["Figure", "Record", "failures", "figures", "found_in", "left_out", "limits_of", "ratios", "trainings"]

Record = dict[str, Any]
HAND = "PyTorch, step captured by hand"
EAGER = "PyTorch, eager"
# A kernel's name, as it begins: the share of a copy's bandwidth that it is to reach.
SHARES = {
    "Adam, 10,000,000 parameters": 0.88,
    "Adam, 100,000,000 parameters": 0.88,
    "softmax cross-entropy with gradient, 4096x1000": 0.85,
    "softmax cross-entropy with gradient, 8192x32000": 0.85,
    "bias + ReLU": 0.8,
    "slopes of ReLU + bias gradient": 0.8,
    "bias gradient": 0.8,
    "dropout,": 0.8,
    "dropout backward": 0.8,
    "squared error with gradient": 0.8,
    "gather": 0.8,
}
SMALL = "784-512-256-10, batch 128"
TIMES = {HAND: 0.6, EAGER: 0.15}  # of a small network's step
LARGE = {"fp32": 1.02, "tf32": 0.95}  # of the step captured by hand, where products count


class Figure(NamedTuple):
    """Something to reach: what, how much it was to be, how much it is (None: not measured)."""

    what: str
    wanted: str
    found: float | None
    reached: bool | None


def found_in(record: Record, part: str, section: str) -> Mapping[str, Any]:
    """What the steps of a section found, by name; those that failed are left out."""
    steps = record["parts"].get(part, {}).get(section, {}).get("steps", {})
    return {name: step["found"] for name, step in steps.items() if "found" in step}


def failures(record: Record) -> list[tuple[str, str]]:
    """Where something went wrong, and the last line of what was said."""
    found = []
    for part, sections in record["parts"].items():
        for name, content in sections.items():
            if "error" in content:
                found.append((f"{part}, {name}", _last_line(content["error"])))
            for step, entry in content["steps"].items():
                words = entry.get("error") or entry.get("skipped")
                if words:
                    found.append((f"{part}, {name}, {step}", _last_line(words)))
    return found


def _last_line(words: str) -> str:
    return words.strip().splitlines()[-1][:300]


def left_out(record: Record) -> list[tuple[str, str]]:
    """Contenders that failed, with the reason, each reason once; and graphs that torch.compile did without."""
    found: dict[tuple[str, str], None] = {}
    for section in ("steps", "predictions", "populations"):
        for step in found_in(record, "measure", section).values():
            for title, entry in step.get("contenders", {}).items():
                if "failed" in entry:
                    found[title, entry["failed"]] = None
                if "reduce-overhead" in title and entry.get("told", {}).get("cudagraph skips"):
                    found[title, "was timed, but captured no graph"] = None
    return list(found)


def limits_of(record: Record) -> Mapping[str, Any]:
    """The device's ceilings."""
    places = (("probe", "facts"), ("measure", "kernels"))
    return next((found["limits"] for place in places if "limits" in (found := found_in(record, *place))), {})


def trainings(record: Record, section: str = "steps") -> Iterator[dict[str, Any]]:
    """The trainings that were timed."""
    for found in found_in(record, "measure", section).values():
        if "contenders" in found:
            yield found


def ratios(found: Mapping[str, Any], other: str, ours: str = "nnfast") -> Any:
    """Our time over the other's, round by round; None where one of them has none."""
    times = [found["contenders"].get(title, {}).get("microseconds") for title in (ours, other)]
    return np.divide(*times) if all(times) else None


def figures(record: Record) -> list[Figure]:
    return [*_of_kernels(record), *_of_trainings(record)]


def _of_kernels(record: Record) -> Iterator[Figure]:
    kernels = found_in(record, "measure", "kernels")
    for start, wanted in SHARES.items():
        step = next((step for name, step in kernels.items() if name.startswith(start)), None)
        share = None if step is None else step["cold"]["of the copy"]["median"]
        what = f"{start.rstrip(',')}: share of a copy's bandwidth"
        yield Figure(what, f"at least {wanted:.2f}", share, None if share is None else share >= wanted)


def _of_trainings(record: Record) -> Iterator[Figure]:
    timed = {(found["network"], found["precision"]): found for found in trainings(record)}
    for name, network in NETWORKS.items():
        for precision, large in LARGE.items():
            wanted = {HAND: large} if network.bound == "products" else {}
            if name == SMALL and precision == "fp32":
                wanted = TIMES
            for other, most in wanted.items():
                by_round = ratios(timed[name, precision], other) if (name, precision) in timed else None
                ratio = None if by_round is None else float(np.median(by_round))
                what = f"{name}, {precision}: time over that of {other}"
                yield Figure(what, f"at most {most:.2f}", ratio, None if ratio is None else ratio <= most)
