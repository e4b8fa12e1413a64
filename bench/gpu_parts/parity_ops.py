"""Every op of the backend against nnfast's own contract, `nnfast.testing`, on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gpu_parts.section import Section
from gpu_parts.stand import Stand
from nnfast.registry import get_backend
from nnfast.testing import CASES, Case, contract
from nnfast.testing.limits import Judged

__all__ = ["ops"]

TF32 = 2e-3  # of |A|·|B|: both factors are cut to 10 bits behind the point; the sums are float32
WITH_PRODUCTS = ("dense", "dense_backward")
FEW = ("adam_step", "dense", "softmax_cross_entropy")  # on the simulated device
SMALL = 300  # elements of the largest array there


def ops(section: Section, stand: Stand, dtype: str) -> None:
    """All cases in one dtype; a step for each op says how many calls were held to the rules."""
    for case in CASES.values():
        if not stand.simulated or case.op in FEW:
            section.step(f"{case.op}, {dtype}", check, stand, "fp32", case, dtype)
    if dtype == "float32":
        for case in CASES.values():
            if case.op in WITH_PRODUCTS:
                wider = replace(case, limit=_with_tf32(case))
                section.step(f"{case.op}, float32, TF32 products", check, stand, "tf32", wider, dtype)


def check(stand: Stand, precision: str, case: Case, dtype: str) -> dict[str, Any]:
    """As `nnfast.testing.check_case`, on small calls only where nothing but the script itself is on trial."""
    backend, judge = stand.backend(precision), get_backend("numpy")
    calls = 0
    for call in case.calls(case.rng(dtype), dtype):
        if stand.simulated and max((a.size for _, a in call.args()), default=0) > SMALL:
            continue
        contract.check_parity(backend, judge, case, call)
        contract.check_fills_outputs(backend, call)
        contract.check_guards(backend, call)
        contract.check_inputs_kept(backend, call)
        contract.check_optional(backend, case, call)
        contract.check_weight(backend, call)
        calls += 1
    contract.check_signature(backend.kernel(case.op), case)
    return {"calls": calls}


def _with_tf32(case: Case) -> Callable[[Judged, str], Any]:
    """The case's limit, and what rounding the factors of its products to TF32 adds."""

    def limit(judged: Judged, name: str) -> Any:
        usual = case.limit_of(name)(judged, name)
        before = {key: None if a is None else np.abs(a) for key, a in judged.before.items()}
        if case.op == "dense":
            slope = max(1.0, abs(judged.keywords["alpha"]))
            return usual + TF32 * slope * (before["x"] @ before["w"])
        dz = judged.after["dz"]
        dz = before["dy"] if dz is None else np.abs(dz)
        if name == "dx":
            return usual + TF32 * (dz @ before["w"].T)
        return usual + TF32 * (before["x"].T @ dz) if name == "dw" else usual

    return limit
