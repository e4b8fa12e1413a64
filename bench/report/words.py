"""How figures are written, on the page as in the tables: durations, ratios, shares, limits, and the machine's line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from report.records import Ratio

__all__ = [
    "BUSY",
    "busy",
    "count",
    "duration",
    "durations",
    "interval",
    "limit",
    "machine",
    "number",
    "percent",
    "ratio_text",
    "share",
    "short",
    "times",
    "turned",
    "versions",
]

BUSY = 0.5  # load from which the figures are called into question
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float) -> str:
    """About three digits: `1234.5` -> "1,234", `12.34` -> "12.3", `0.0123` -> "0.012"."""
    size = abs(value)
    if not math.isfinite(value):
        return "∞" if value > 0 else str(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.0995 or value == 0 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """`0.00001234` -> "12.3 µs"."""
    if seconds == 0:
        return "0 s"
    unit, name = _unit(seconds)
    return f"{number(seconds / unit)} {name}"


def durations(low: float, high: float) -> str:
    """`0.00001234, 0.0000156` -> "12.3 to 15.6 µs", in the unit of the longer."""
    unit, name = _unit(high)
    return f"{number(low / unit)} to {number(high / unit)} {name}"


def _unit(seconds: float) -> tuple[float, str]:
    return next(((u, n) for u, n in UNITS if abs(seconds) >= 0.9995 * u), UNITS[-1])


def count(value: float) -> str:
    """`1234567` -> "1,234,567"."""
    return f"{value:,.0f}" if float(value).is_integer() else number(value)


def short(value: float) -> str:
    """For the ends of axes: `10000` -> "10k", `1024` -> "1024"."""
    for size, prefix in PREFIXES:
        if value >= size and math.isclose(value % (size / 10), 0, abs_tol=1e-6 * size):
            return f"{value / size:g}{prefix}"
    return f"{value:g}"


def percent(part: float | None) -> str:
    """`0.123` -> "12 %"; nothing for None."""
    if part is None:
        return ""
    if 0 < part < 0.0005:
        return "< 0.1 %"
    return f"{100 * part:.0f} %" if abs(part) >= 0.0095 else f"{100 * part:.1f} %"


# ---- ratios ---------------------------------------------------------------------------------------------------------


def times(value: float) -> str:
    """A ratio: `0.27` -> "0.27×", `3.14` -> "3.1×", `31.4` -> "31×"."""
    if not math.isfinite(value):
        return "∞×"
    if value >= 9.95:
        return f"{value:,.0f}×"
    return f"{value:.1f}×" if value >= 1.995 else f"{value:.2f}×" if value >= 0.0995 else f"{value:.2g}×"


def interval(ratio: Ratio) -> str:
    return f"{times(ratio.low)[:-1]} to {times(ratio.high)[:-1]}"


def ratio_text(ratio: Ratio) -> str:
    """`Ratio(0.27, 0.25, 0.31)` -> "0.27× (0.25 to 0.31)"."""
    return f"{times(ratio.median)} ({interval(ratio)})"


def turned(ratio: Ratio) -> Ratio:
    """The same the other way up: from ours over theirs to theirs over ours. Whether it is a tie stays as it was."""
    return Ratio(*(1 / value if value else math.inf for value in (ratio.median, ratio.high, ratio.low)))


def share(value: float | None) -> str:
    """A noise: `0.043` -> "±4.3 %"."""
    if value is None:
        return ""
    return f"±{100 * value:.0f} %" if value >= 0.0995 else f"±{100 * value:.1f} %"


# ---- the machine ----------------------------------------------------------------------------------------------------


def limit(name: str, value: float) -> str:
    """A limit with its unit, which is a part of its name."""
    if name.startswith("seconds"):
        return duration(value)
    size, prefix = next(((s, p) for s, p in PREFIXES if value >= s), (1.0, ""))
    unit = "FLOP/s" if "flops" in name else "B/s" if "bytes" in name else ""
    return f"{number(value / size)} {prefix}{unit}".rstrip()


def machine(facts: Mapping[str, Any]) -> str:
    """The machine in one line."""
    parts = [str(facts.get("processor") or "unknown processor")]
    if facts.get("threads") is not None:
        cpus = f" on {facts['cpus']} CPUs" if facts.get("cpus") else ""
        parts.append(f"{facts['threads']} thread{'' if facts['threads'] == 1 else 's'}{cpus}")
    if facts.get("memory"):
        parts.append(f"{facts['memory']} of memory")
    if facts.get("caches"):
        parts.append(f"caches {facts['caches']}")
    if facts.get("platform"):
        parts.append(str(facts["platform"]))
    return "; ".join(parts)


def versions(facts: Mapping[str, Any]) -> str:
    """What ran, with its versions."""
    parts = [f"{label} {facts[name]}".strip() for name, label in _PROGRAMS.items() if facts.get(name)]
    return ", ".join(parts + [f"{name} {version}" for name, version in (facts.get("peers") or {}).items()])


_PROGRAMS = {"nnfast": "nnfast", "python": "", "numpy": "NumPy", "blas": "BLAS"}


def busy(facts: Mapping[str, Any]) -> float | None:
    """The load before the run began, where that was so much that the figures are called into question."""
    load = facts.get("load before")
    return load if load is not None and load > BUSY else None
