"""The simulator of CUDA kernels: each intrinsic against its definition, and each kind of fault, planted and mended."""

from __future__ import annotations

import ctypes
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulator import build, sanitized
from simulator.build import ORDERS, Library, SimulatorError, sources

pytestmark = pytest.mark.skipif(bool(build.unavailable()), reason=str(build.unavailable()))

HERE = Path(build.__file__).parent
INTRINSICS, FAULTS = str(HERE / "intrinsics.cu"), str(HERE / "faults.cu")
LANES = np.arange(64)

each_order = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture
def lib(dtype: Any) -> Library:
    return library(dtype)


def library(dtype: Any) -> Library:
    return build.library(np.dtype(dtype).name, extra_sources=(INTRINSICS, FAULTS))


def launch(
    lib: Library, kernel: str, blocks: Any = 1, *, order: str = "forward", shared: int = 0, **fields: Any
) -> None:
    args = np.zeros((), lib.layout(kernel))
    for name, value in fields.items():
        args[name] = value.ctypes.data if isinstance(value, np.ndarray) else value
    lib.launch(kernel, blocks, args, shared, order)


# Shuffles and votes.

SHUFFLES: dict[str, Callable[[int, int, int], int]] = {  # (lane, argument, width) -> the lane that is read
    "from": lambda lane, a, width: lane // width * width + a % width,
    "xor": lambda lane, a, width: lane ^ a if (lane ^ a) < lane // width * width + width else lane,
    "up": lambda lane, a, width: lane - a if lane % width >= a else lane,
    "down": lambda lane, a, width: lane + a if lane % width + a < width else lane,
}


@each_order
@pytest.mark.parametrize("kind", ["int", "unsigned", "index", "float", "double"])
@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_shuffle(shuffle: str, kind: str, order: str) -> None:
    lib = library("float32")
    values = np.arange(64) * 1009.0 + (2.0**40 if kind in ("index", "double") else 0)
    values *= -1 if kind in ("int", "index") else 1
    values += 0.25 if kind in ("float", "double") else 0
    for width in (1, 4, 32):
        for argument in (0, 1, 3, 5, 16, 31):
            out = np.zeros(64)
            fields = {"low_mask": -1, "argument": argument, "width": width}
            fields["type"] = sources.constants(INTRINSICS, "Type")[kind]
            fields["shuffle"] = sources.constants(INTRINSICS, "Shuffle")[shuffle]
            launch(lib, "s_shuffle", values=values, out=out, order=order, **fields)
            source = [t - t % 32 + SHUFFLES[shuffle](t % 32, argument, width) for t in range(64)]
            np.testing.assert_array_equal(out, values[source], f"width {width}, argument {argument}")


def test_nothing_is_promised_of_a_lane_outside_the_mask() -> None:
    values, out = np.arange(64.0), np.zeros(64)
    fields = {"low_mask": 0x0000FFFF, "argument": 16, "width": 32, "type": 4, "shuffle": 1}
    launch(library("float32"), "s_shuffle", values=values, out=out, **fields)
    assert np.isnan(out).all()
    fields["argument"] = 8
    launch(library("float32"), "s_shuffle", values=values, out=out, **fields)
    np.testing.assert_array_equal(out, values[LANES ^ 8])


@each_order
@pytest.mark.parametrize("mask", [0xFFFFFFFF, 0x0F0F00FF])
def test_votes(mask: int, order: str) -> None:
    rng = np.random.default_rng(5)
    for votes in (rng.integers(0, 2, 64), np.zeros(64), np.ones(64), np.arange(64) == 40):
        votes, out = votes.astype(np.int32), np.zeros((64, 3), np.uint32)
        launch(library("float32"), "s_vote", votes=votes, out=out, mask=signed(mask, 32), order=order)
        for t in range(64):
            mine = mask if mask >> t % 32 & 1 else ~mask & 0xFFFFFFFF
            ballot = sum(1 << lane for lane in range(32) if mine >> lane & 1 and votes[t // 32 * 32 + lane])
            assert tuple(out[t]) == (ballot, ballot != 0, ballot == mine)


# Atomics, bits and functions.

ATOMICS: dict[str, Callable[[int, int], int]] = {  # (old, value) -> new
    "add": lambda old, v: old + v,
    "sub": lambda old, v: old - v,
    "exch": lambda old, v: v,
    "max": max,
    "min": min,
    "and": lambda old, v: old & v,
    "or": lambda old, v: old | v,
    "xor_bits": lambda old, v: old ^ v,
    "inc": lambda old, v: 0 if old >= v else old + 1,
    "dec": lambda old, v: v if old == 0 or old > v else old - 1,
    "cas": lambda old, v: v if old == 7 else old,
}


@pytest.mark.parametrize("order", ["forward", "reversed"])
@pytest.mark.parametrize("atomic", ATOMICS)
def test_atomic(atomic: str, order: str) -> None:
    # 7 comes back now and then for CAS; the largest numbers wrap around.
    values = np.random.default_rng(3).integers(0, 20, 64).astype(np.uint32)
    values[[5, 50]] = [2**32 - 3, 2**31 + 1] if atomic in ("add", "sub", "or", "max") else 7
    cell, signed, wide, before = np.array([7], "u4"), np.zeros(1, "i4"), np.zeros(1, "u8"), np.zeros(64, "u4")
    kind = sources.constants(INTRINSICS, "Atomic")[atomic]
    places = {"cell": cell, "signed_cell": signed, "wide_cell": wide, "before": before}
    launch(library("float32"), "s_atomic", values=values, atomic=kind, order=order, **places)
    state = 7
    for t in range(64)[:: 1 if order == "forward" else -1]:
        assert before[t] == state
        state = ATOMICS[atomic](state, int(values[t])) % 2**32
    assert cell[0] == state
    negative = [-int(v) for v in values.astype(np.int32)]
    if atomic == "add":
        assert signed[0] == (sum(negative) + 2**31) % 2**32 - 2**31
        assert wide[0] == sum(int(v) << 32 for v in values) % 2**64
    if atomic == "max":
        assert signed[0] == max(0, *negative)
        assert wide[0] == int(values.max()) << 32
    if atomic == "min":
        assert signed[0] == min(0, *negative)


def test_bits() -> None:
    rng = np.random.default_rng(7)
    edges = [0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 0x3FF0000000000000]
    x = np.array([*edges, *rng.integers(0, 2**64, 60, np.uint64)], np.uint64)
    y = np.array([*reversed(edges), *rng.integers(0, 2**64, 60, np.uint64)], np.uint64)
    out = np.zeros((len(x), 14), np.uint64)
    launch(library("float32"), "s_bits", x=x, y=y, out=out, n=len(x))
    for row, a, b in zip(out.tolist(), x.tolist(), y.tolist(), strict=True):
        low, other = a % 2**32, b % 2**32
        want = [
            low.bit_count(),
            a.bit_count(),
            (low & -low).bit_length(),
            (a & -a).bit_length(),
            32 - low.bit_length(),
            64 - a.bit_length(),
            low * other >> 32,
            (signed(low, 32) * signed(other, 32) >> 32) % 2**64,
            a * b >> 64,
            (signed(a, 64) * signed(b, 64) >> 64) % 2**64,
            low,
            a,
            a,
            a,
        ]
        assert row == want, (hex(a), hex(b))


def signed(x: int, bits: int) -> int:
    return x - (x >> bits - 1 << bits)


def turns(f: Callable[[float], float]) -> Any:
    """f(πx) with the whole turns taken off before, so that it is exact where the angle is a multiple of π/2."""
    return np.vectorize(lambda x: f(math.pi * math.remainder(x, 2)) if math.isfinite(x) else math.nan)


FUNCTIONS: dict[str, Any] = {
    "exp": np.exp, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "tanh": np.tanh, "sqrt": np.sqrt,
    "erf": np.vectorize(math.erf), "erfc": np.vectorize(math.erfc), "fabs": np.abs, "abs": np.abs, "sin": np.sin,
    "cos": np.cos, "exp2": np.exp2, "log2": np.log2, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc,
    "rint": np.rint, "rsqrt": lambda x: 1 / np.sqrt(x), "sinpi": turns(math.sin), "cospi": turns(math.cos),
    "sincospi_sine": turns(math.sin), "sincospi_cosine": turns(math.cos), "isnan": np.isnan, "isinf": np.isinf,
    "isfinite": np.isfinite,
    "fmax": np.fmax, "fmin": np.fmin, "maximum": np.fmax, "minimum": np.fmin, "pow": np.power, "fmod": np.fmod,
    "copysign": np.copysign, "fma": lambda x, y: x * y + 1,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(lib: Library, dtype: Any, name: str) -> None:
    rng = np.random.default_rng(11)
    special = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 2.0, 3.0, 7.25, -9.75, np.inf, -np.inf, np.nan, 1e30, -1e-30]
    x = np.array([*special, *(rng.standard_normal(200) * 8)], dtype)
    y = np.array([*special[::-1], *(rng.standard_normal(200) * 2)], dtype)
    x = np.abs(x) if name == "pow" else np.where(np.abs(x) > 100, 1, x) if name in ("sin", "cos", "fma") else x
    out = np.zeros_like(x)
    launch(lib, "s_compute", x=x, y=y, out=out, n=len(x), function=sources.constants(INTRINSICS, "Function")[name])
    function = FUNCTIONS[name]
    arguments = (x, y) if list(FUNCTIONS).index(name) >= list(FUNCTIONS).index("fmax") else (x,)
    assert set(FUNCTIONS) == set(sources.constants(INTRINSICS, "Function"))
    with np.errstate(all="ignore"):
        want = function(*(a.astype(np.float64) for a in arguments)).astype(np.float64)
        rounded = want.astype(dtype)
        # Twice the last place of the result; near a zero of fma and of the turns, of their terms.
        limit = 2 * np.spacing(np.abs(rounded)) + 2 * np.finfo(dtype).eps * (name in ("fma", *list(FUNCTIONS)[19:23]))
        limit = limit * (4 if name == "fma" else 1) + np.finfo(dtype).tiny
    np.testing.assert_array_equal(np.isnan(out), np.isnan(rounded))
    np.testing.assert_array_equal(out[np.isinf(rounded)], rounded[np.isinf(rounded)])
    fine = np.isfinite(rounded)
    assert (np.abs(out[fine] - want[fine]) <= limit[fine]).all(), (x[fine], out[fine], want[fine])


# Order, and where a thread is.


def test_every_thread_runs_once_in_the_order_asked_for() -> None:
    lib = library("float32")
    seen = {}
    for order in ORDERS:
        out, counter = np.zeros((96 * 6, 5), np.uint32), np.zeros(1, np.uint32)
        launch(lib, "s_place", (3, 2), out=out, counter=counter, order=order)
        assert counter[0] == 96 * 6
        assert (out[:, 3] == 96).all()
        assert (out[:, 4] == 3 + 1000 * 2).all()
        seen[order] = [(y, x, t) for t, x, y in out[:, :3].tolist()]
    ordered = [(y, x, t) for y in range(2) for x in range(3) for t in range(96)]
    assert seen["forward"] == ordered
    assert seen["reversed"] == ordered[::-1]
    assert sorted(seen["shuffled"]) == ordered
    assert seen["shuffled"] not in (ordered, ordered[::-1])


def test_a_seed_shuffles_the_same_way_again() -> None:
    lib = library("float32")
    results = []
    for seed in (1, 1, 2):
        out, counter = np.zeros((96 * 6, 5), np.uint32), np.zeros(1, np.uint32)
        args = np.zeros((), lib.layout("s_place"))
        args["out"], args["counter"] = out.ctypes.data, counter.ctypes.data
        lib.launch("s_place", (3, 2), args, order="shuffled", seed=seed)
        results.append(out.tolist())
    assert results[0] == results[1] != results[2]


# Faults. Each kernel is right without `wrong`.

FAULT_TEXTS = {
    "f_exits_before_barrier": r"waits at __syncthreads \(faults.cu:\d+\), but thread 7 has exited",
    "f_two_barriers": r"thread 7 waits at __syncthreads \(faults.cu:\d+\), thread \d+ at another \(faults.cu:\d+\)"
    r"|thread \d+ waits at __syncthreads \(faults.cu:\d+\), thread 7 at another",
    "f_barrier_or_shuffle": r"__shfl_sync .* for thread 7, which waits at __syncthreads",
    "f_mask_names_exited_lane": r"waits at __shfl_xor_sync .* mask 0xffffffff names lane 7, but that has exited",
    "f_mask_leaves_itself_out": r"thread (7|39) calls __any_sync .* with mask 0xffffff7f, which leaves it out",
    "f_two_shuffles": r"waits at __shfl_sync .* of its warp at __shfl_sync",
    "f_odd_width": r"width of a shuffle",
    "f_misaligned": r"address 0x\w+ is not a multiple of 16 \(faults.cu:\d+\)",
    "f_null": r"null pointer \(faults.cu:\d+\)|thread \d+: no access to address 0x",
    "f_far_away": r"thread \d+: no access to address 0x",
    "f_beyond_addresses": r"thread \d+: no access to (address 0x|an address outside of the address space)",
    "f_shared_index": r"index 32 lies outside of the array \(faults.cu:\d+\)",
    "f_division": r"division by zero \(faults.cu:\d+\)",
}


@each_order
@pytest.mark.parametrize("kernel", FAULT_TEXTS)
def test_a_fault_is_reported(lib: Library, kernel: str, order: str) -> None:
    out, x = np.zeros(64), np.zeros(16, lib.dtype)
    arguments = {"out": out, "x": x, "order": order}
    launch(lib, kernel, 2, wrong=0, **arguments)
    with pytest.raises(SimulatorError, match=rf"^{kernel}, block \([01], 0\): ") as caught:
        launch(lib, kernel, 2, wrong=1, **arguments)
    assert re.search(FAULT_TEXTS[kernel], str(caught.value)), caught.value
    launch(lib, kernel, 2, wrong=0, **arguments)  # nothing is left of the fault


@pytest.mark.parametrize("kernel", ["f_missing_barrier", "f_missing_warp_barrier", "f_missing_second_barrier"])
def test_a_missing_barrier_shows_in_the_order_of_threads(lib: Library, kernel: str) -> None:
    x = np.arange(64).astype(lib.dtype)

    def results(wrong: int) -> set[bytes]:
        found = set()
        for order in ORDERS:
            out = np.zeros(64)
            launch(lib, kernel, out=out, x=x, wrong=wrong, order=order)
            found.add(out.tobytes())
        return found

    assert len(results(0)) == 1
    assert len(results(1)) > 1


def test_unset_shared_memory_is_nan(lib: Library) -> None:
    for blocks in (1, 3):  # what one block leaves behind is not there for the next
        out = np.zeros((3, 64))
        launch(lib, "f_unset_shared", blocks, out=out, wrong=1, shared=64 * 8)
        assert np.isnan(out).all(axis=1).tolist() == [True] * 3
    launch(lib, "f_unset_shared", out=out, wrong=0, shared=64 * 8)
    assert (out == 0).all()


def test_subnormal_numbers_are_zero_in_float_only() -> None:
    for dtype, kept in (("float32", False), ("float64", True)):
        x = np.array([np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal], dtype)
        out = np.zeros(2)
        launch(library(dtype), "f_subnormal", out=out, x=x)
        assert out.astype(bool).tolist() == [kept, kept], dtype
        assert x[0] * x.dtype.type(0.5) > 0  # and the caller's arithmetic is as before


def test_a_fault_gives_the_callers_arithmetic_back() -> None:
    x = np.array([np.finfo("f4").tiny], "f4")
    with pytest.raises(SimulatorError):
        launch(library("float32"), "f_null", wrong=1)
    assert x[0] * np.float32(0.5) > 0


# Sanitizers.

no_sanitizer = sanitized.unavailable_here()
needs_sanitizer = pytest.mark.skipif(bool(no_sanitizer), reason=str(no_sanitizer))

PLANTS = {
    "f_global_write": ("planted: global", "heap-buffer-overflow"),
    "f_static_write": ("planted: static", "runtime error: |global-buffer-overflow"),
    "f_dynamic_write": ("planted: dynamic", "heap-buffer-overflow"),
    "f_shift": ("planted: shift", "runtime error: shift"),
}


@needs_sanitizer
@pytest.mark.parametrize("kernel", PLANTS)
def test_sanitizers_name_the_line_of_a_planted_fault(kernel: str) -> None:
    mark, message = PLANTS[kernel]
    line = 1 + next(i for i, text in enumerate(Path(FAULTS).read_text().splitlines()) if mark in text)
    right, wrong = (30, 40) if kernel == "f_shift" else (32, 33)
    done = sanitized.run("-c", PLANTED, FAULTS, kernel, str(right), timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "nothing found")
    done = sanitized.run("-c", PLANTED, FAULTS, kernel, str(wrong), timeout=120)
    assert done.returncode != 0
    assert re.search(message, done.stdout), done.stdout
    assert f"faults.cu:{line}" in done.stdout, done.stdout


PLANTED = """
import sys
import numpy as np
from simulator.build import library

lib = library("float32", True, (sys.argv[1],))
out = np.zeros(32)
args = np.zeros((), lib.layout(sys.argv[2]))
args["out"], args["n"] = out.ctypes.data, int(sys.argv[3])
for order in ("forward", "reversed", "shuffled"):
    lib.launch(sys.argv[2], 2, args, 32 * 8, order)
print("nothing found")
"""


@needs_sanitizer
@pytest.mark.slow
def test_the_cases_run_clean_under_sanitizers() -> None:
    done = sanitized.run("-m", "simulator.sanitized", timeout=300)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "nothing found" in done.stdout


# The build.


def test_a_unit_that_does_not_compile_fails_its_own_kernels_only(tmp_path: Path) -> None:
    units = {}
    for name, body in (("t_good", ""), ("t_bad", "no_such_function();")):
        units[name] = tmp_path / f"{name}.cu"
        signature = f'extern "C" __global__ void __launch_bounds__(32) {name}(const Nothing a)'
        units[name].write_text(f"struct Nothing {{\n    int n;\n}};\n\n{signature} {{ {body} }}\n")
    lib = build.library("float32", extra_sources=tuple(map(str, units.values())))
    lib.launch("t_good", 1, np.zeros((), lib.layout("t_good")))
    with pytest.raises(SimulatorError, match="no_such_function"):
        lib.launch("t_bad", 1, np.zeros((), lib.layout("t_bad")))


def test_a_record_of_another_size_is_refused() -> None:
    lib = library("float32")
    launcher = lib._launcher("f_null")
    other = (ctypes.c_char * 8)()
    assert b"another size" in launcher(1, 1, 1, 0, 0, 0, ctypes.addressof(other), 8)


def test_a_block_with_ten_barriers_takes_well_below_a_millisecond() -> None:
    """The figure to keep is 0.1 ms; the limit leaves room for a crowded machine."""
    lib = library("float32")
    out, x = np.zeros(64), np.zeros(64, np.float32)
    launch(lib, "f_missing_second_barrier", out=out, x=x)
    begin = time.process_time()
    launch(lib, "f_missing_second_barrier", 400, out=out, x=x)  # 64 threads, 8 barriers each
    assert (time.process_time() - begin) / 400 * (256 / 64) * (10 / 8) < 1e-3
