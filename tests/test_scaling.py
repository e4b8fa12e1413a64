"""The cost model of docs/scaling.py: its formulas at sizes where the answer is known."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

model = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "scaling.py"))
network = model["Network"]("slow", 1e-5, 1e-9)


def test_one_rank_exchanges_nothing():
    assert model["all_reduce"](1, 1000, network) == 0


def test_few_bytes_are_doubled_and_many_are_halved():
    few, many = model["all_reduce"](8, 8, network), model["all_reduce"](8, 10**8, network)
    assert few == pytest.approx(3 * (1e-5 + 8e-9))
    assert many == pytest.approx(6e-5 + 2 * 7 / 8 * 0.1)


def test_a_network_is_found_again_from_its_times():
    sizes = model["SIZES"]
    found = model["fitted"](sizes, [1e-5 + size * 1e-9 for size in sizes])
    assert found.alpha == pytest.approx(1e-5, rel=1e-3)
    assert found.beta == pytest.approx(1e-9, rel=1e-2)


def test_compute_lies_on_a_line_between_what_was_measured():
    assert model["compute"](20, {10: 1.0, 40: 4.0}) == pytest.approx(2.0)
    assert model["compute"](4, {10: 1.0, 40: 4.0}) == pytest.approx(1.0)  # below, the fixed costs stay


def test_ranks_beyond_the_cores_take_turns():
    batch = model["BATCH"]
    measured = {batch // 4: 0.25, batch: 1.0}
    free = model["predicted"]("small", 4, measured, network, weak=False)
    turns = model["predicted"]("small", 4, measured, network, weak=False, cores=2)
    assert turns - free == pytest.approx(0.25)
    assert model["predicted"]("small", 4, measured, network, weak=True) == pytest.approx(free + 0.75)
