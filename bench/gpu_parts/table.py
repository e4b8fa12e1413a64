"""From a record of `gpu.py` to what is read: Markdown tables, and the figures that were to be reached.

Every number comes from the record. A record of the simulated device has no table: nothing in it is a measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpu_parts.figures import Record, failures, figures, found_in, left_out, limits_of, ratios, trainings

__all__ = ["of_results", "summary", "table"]

Rows = list[list[str]]
Part = tuple[str, Sequence[str], Sequence[int], Rows]  # title, head, columns flush right, rows

# ---- Markdown --------------------------------------------------------------------------------------------------------


def table(record: Record) -> str:
    """All tables of a record."""
    if record["simulated"]:
        raise SystemExit(f"there is no table of this record: {record['banner']}")
    parts = [_stands_on(record)]
    makers = (_figure_rows, _training_rows, _population_rows, _kernel_rows, _prediction_rows)
    for maker in (*makers, _epilogue_rows, _layout_rows, _split_rows, _call_rows, _parity_rows):
        title, head, right, rows = maker(record)
        if rows:
            parts.append(f"### {title}\n\n{_markdown(head, right, rows)}")
    failed = failures(record)
    if failed:
        parts.append("### What failed\n\n" + "\n".join(f"- {where}: `{words}`" for where, words in failed))
    out = left_out(record)
    if out:
        parts.append("### Who was left out\n\n" + "\n".join(f"- {who}: {why}" for who, why in out))
    return "\n\n".join(parts)


def of_results(folder: Path) -> str:
    """The tables of all records in a folder, for a README; where there is none, what is to be reached."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("gpu-*.json"))]
    tables = [table(record) for record in records if record["device"] and not record["simulated"]]
    if tables:
        return "\n\n".join(tables)
    _, head, right, rows = _figure_rows({"parts": {}})
    return f"Not measured yet. What is to be reached on an H200:\n\n{_markdown(head, right, rows)}"


def _stands_on(record: Record) -> str:
    facts = found_in(record, "probe", "facts").get("facts", {})
    names = ("CUDA driver", "CUDA runtime", "cublasLt", "CuPy", "torch", "jax", "numpy", "python")
    words = [f"{name} {facts[name]}" for name in names if facts.get(name)]
    smi = facts.get("nvidia-smi") or {}
    words += [f"driver {smi['driver_version']}"] if "driver_version" in smi else []
    limits = limits_of(record)
    lines = [f"Measured on {record['device']}" + (f" ({', '.join(words)}; {facts['time']})." if facts else ".")]
    if limits:
        rates = [f"{limits[p]['best'] / 1e12:.1f} TFLOP/s in products in {p}" for p in ("fp32", "tf32") if p in limits]
        lines.append(f"Limits measured with it: {limits['copy']['best'] / 1e12:.2f} TB/s copied, {', '.join(rates)}.")
    return " ".join(lines) + f" Sources {record['sources']}."


def _figure_rows(record: Record) -> Part:
    words = {True: "reached", False: "missed", None: "not measured"}
    rows = [[f.what, f.wanted, "" if f.found is None else f"{f.found:.2f}", words[f.reached]] for f in figures(record)]
    return "Figures to reach", ("what", "wanted", "measured", ""), (1, 2), rows


def _training_rows(record: Record) -> Part:
    return _timed_rows(record, "A training step", trainings(record))


def _population_rows(record: Record) -> Part:
    return _timed_rows(record, "A training step of all models of a population", trainings(record, "populations"))


def _timed_rows(record: Record, title: str, steps: Iterable[dict[str, Any]]) -> Part:
    head = ("network", "precision", "who", "µs/step", "quartiles", "nnfast/it", "floor/time", "losses apart")
    rows: Rows = []
    for step in steps:
        floor = _floor(record, step)
        for who, entry in step["contenders"].items():
            network = [step["network"], step["precision"]] if not rows or who == "nnfast" else ["", ""]
            if "microseconds" not in entry:
                rows.append([*network, who, "failed", "", "", "", ""])
                continue
            q1, median, q3 = np.quantile(entry["microseconds"], [0.25, 0.5, 0.75])
            over = "" if entry["ours"] else _quartiles(ratios(step, who))
            share = "" if floor is None else f"{floor / median:.0%}"
            apart = f"{entry['losses apart']:.1e}"
            rows.append([*network, who, _number(median), f"{_number(q1)} to {_number(q3)}", over, share, apart])
    return title, head, (3, 5, 6, 7), rows


def _quartiles(by_round: Any) -> str:
    if by_round is None:
        return ""
    q1, median, q3 = np.quantile(by_round, [0.25, 0.5, 0.75])
    return f"{median:.2f} ({q1:.2f} to {q3:.2f})"


def _floor(record: Record, step: Mapping[str, Any]) -> float | None:
    """Microseconds at least: each op at the limit of its FLOPs or bytes, whichever is larger."""
    costs, limits = step["contenders"].get("nnfast", {}).get("told"), limits_of(record)
    if not costs or not limits:
        return None
    flops, copy = limits[step["precision"]]["best"], limits["copy"]["best"]
    return 1e6 * sum(max(f / flops, b / copy) for f, b in zip(costs["flops"], costs["bytes"], strict=True))


def _kernel_rows(record: Record) -> Part:
    head = ("kernel", "MB", "µs", "quartiles", "of a copy's bandwidth", "µs, from the cache")
    rows: Rows = []
    for name, step in found_in(record, "measure", "kernels").items():
        if name == "limits":
            continue
        cold, warm = step["cold"]["microseconds"], step["warm"]["microseconds"]
        share = step["cold"]["of the copy"]["median"]
        size = _number(step["bytes"] / 1e6)
        quartiles = f"{_number(cold['q1'])} to {_number(cold['q3'])}"
        rows.append([name, size, _number(cold["median"]), quartiles, f"{share:.0%}", _number(warm["median"])])
    return "Kernels", head, (1, 2, 4, 5), rows


def _prediction_rows(record: Record) -> Part:
    rows: Rows = []
    for name, step in found_in(record, "measure", "predictions").items():
        for i, (title, entry) in enumerate(step["contenders"].items()):
            if "microseconds" not in entry:
                rows.append(["" if i else name, title, "failed", "", ""])
                continue
            over = "" if entry["ours"] else _quartiles(ratios(step, title))
            q1, median, q3 = np.quantile(entry["microseconds"], [0.25, 0.5, 0.75])
            quartiles = f"{_number(q1)} to {_number(q3)}"
            rows.append(["" if i else name, title, _number(median), quartiles, over])
    return "Predictions", ("what", "who", "µs", "quartiles", "nnfast/it"), (2, 4), rows


def _epilogue_rows(record: Record) -> Part:
    """Of each shape what the epilogues cost and what they save, in microseconds."""
    head = (
        "rows×inputs×outputs",
        "product",
        "with relu_aux_bias",
        "product + our kernel",
        "dx",
        "with drelu_bias_grad",
    )
    rows: Rows = []
    for name, step in found_in(record, "probe", "products").items():
        if not name.startswith("epilogues"):
            continue
        both = [_sum(step["forward"], step["our bias + ReLU"]), _sum(step["dx"], step["our slopes + bias gradient"])]
        cells = [
            step["forward"],
            step["forward, relu_aux_bias"],
            both[0],
            step["dx"],
            step["dx, drelu_bias_grad"],
            both[1],
        ]
        rows.append([name.removeprefix("epilogues, "), *map(_cell, cells)])
    return "Epilogues, µs", (*head, "dx + our kernel"), range(1, 7), rows


def _layout_rows(record: Record) -> Part:
    """The same product lying in other ways, and the products of a narrow last layer."""
    products = found_in(record, "probe", "products")
    rows: Rows = []
    for kind in ("layouts", "narrow outputs"):
        of = [products.get(f"{kind}, {precision}", {}) for precision in ("fp32", "tf32")]
        for name in dict.fromkeys([*of[0], *of[1]]):
            rows.append([f"{kind}, {name}", *(_cell(step.get(name, "")) for step in of)])
    return "Layouts and widths, µs", ("product", "fp32", "tf32"), (1, 2), rows


def _split_rows(record: Record) -> Part:
    step = found_in(record, "probe", "products").get("three TF32 products for one", {})
    rows = [
        [name, _cell(one["microseconds"]), f"{one['largest error']:.1e}", f"{one['typical error']:.1e}"]
        for name, one in step.items()
    ]
    head = ("product", "µs", "largest error / \\|A\\|\\|B\\|", "typical")
    return "Three TF32 products for one in float32", head, (1, 2, 3), rows


def _call_rows(record: Record) -> Part:
    steps = found_in(record, "probe", "facts")
    calls = steps.get("launches", {})
    rows = [[name, _number(call["median"]) if isinstance(call, dict) else "failed"] for name, call in calls.items()]
    if "graph nodes" in steps:
        rows.append(["a node of a graph, on the device", _number(steps["graph nodes"]["microseconds per node"])])
    return "What a call costs the host", ("call", "µs"), (1,), rows


def _parity_rows(record: Record) -> Part:
    rows: Rows = []
    for name, content in record["parts"].get("parity", {}).items():
        steps = content["steps"].values()
        passed = sum("found" in step for step in steps)
        rows.append([name, str(len(steps)), str(passed), f"{content['seconds']:.0f}"])
    return "Correctness", ("what", "checks", "passed", "s"), (1, 2, 3), rows


def _cell(value: float | str) -> str:
    return _number(value) if isinstance(value, float) else "none"


def _sum(*values: float | str) -> float | str:
    numbers = [value for value in values if isinstance(value, float)]
    return sum(numbers) if len(numbers) == len(values) else "none"


def _number(value: float) -> str:
    """About three digits."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _markdown(head: Sequence[str], right: Sequence[int], rows: Rows) -> str:
    rule = "|".join("--:" if c in right else "---" for c in range(len(head)))
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)])


# ---- for a terminal --------------------------------------------------------------------------------------------------


def summary(record: Record) -> str:
    """A few lines: how far it came, what failed, and what was reached."""
    lines = [record["banner"]] if record["simulated"] else []
    for part, sections in record["parts"].items():
        for name, content in sections.items():
            steps = content["steps"].values()
            passed = sum("found" in step for step in steps)
            lines.append(f"{part + ': ' + name:24} {passed:3} of {len(steps):3} steps in {content['seconds']:5.0f} s")
    lines += [f"failed: {where}: {words}" for where, words in failures(record)]
    if not record["simulated"]:
        for f in figures(record):
            what = "not measured" if f.found is None else f"{f.found:.2f}, {'reached' if f.reached else 'missed'}"
            lines.append(f"{f.what}: {f.wanted}: {what}")
    return "\n".join(lines)
