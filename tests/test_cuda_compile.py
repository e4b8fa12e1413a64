"""The CUDA sources through NVIDIA's own compiler, for every architecture and both working types; no GPU is needed.

Registers, spills and local memory are read from what its assembler tells; the layouts of the structs are asserted in
the compilation itself. NVRTC comes from a wheel (`pip install nvidia-cuda-nvrtc`); the variable NNFAST_NVRTC of the
environment may name its library.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from simulator import build
from simulator.build import sources

from nnfast.testing import DTYPES

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
REGISTER_FILE = 65536  # registers of a multiprocessor, on all of them; a block needs its own all at once
MOST_REGISTERS = REGISTER_FILE // 512  # of a thread, so that 512 of them find place at once


def nvrtc_path() -> str | None:
    """The library of the wheel, or the one that NNFAST_NVRTC names."""
    named = os.environ.get("NNFAST_NVRTC")
    if named:
        return named
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for folder in ("cu13", "cu12", "cuda_nvrtc"):
            for path in sorted(Path(root, folder, "lib").glob("libnvrtc.so*"), reverse=True):
                if ".alt" not in path.name:
                    return str(path)
    return None


NVRTC = nvrtc_path()
needs_nvrtc = pytest.mark.skipif(NVRTC is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc")
needs_gxx = pytest.mark.skipif(bool(build.unavailable()), reason=str(build.unavailable()))
each_unit = pytest.mark.parametrize("unit", sources.units())
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


class Usage(NamedTuple):
    """What one kernel takes of a multiprocessor."""

    registers: int
    stack: int  # bytes of local memory
    spills: int  # bytes stored and loaded


class Compiled(NamedTuple):
    ok: bool
    log: str
    size: int  # of the cubin, in bytes

    @property
    def kernels(self) -> dict[str, Usage]:
        return usage(self.log)


# Those that differ little from a neighbour are left out by -m 'not slow' in double, which takes as long as float.
RELATED = ("sm_86", "sm_89", "sm_100")
COMBINATIONS = [
    pytest.param(dtype, architecture, marks=[pytest.mark.slow] * (dtype == "float64" and architecture in RELATED))
    for dtype in DTYPES
    for architecture in ARCHITECTURES
]


def usage(log: str) -> dict[str, Usage]:
    """Every kernel's registers, stack and spills, from what the assembler says with -v."""
    found = {}
    for name, part in re.findall(
        r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", log, re.DOTALL
    ):
        stack, stores, loads = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes", part
        ).groups()
        registers = re.search(r"Used (\d+) registers", part)[1]
        found[name] = Usage(int(registers), int(stack), int(stores) + int(loads))
    return found


@functools.cache
def nvrtc() -> ctypes.CDLL:
    return ctypes.CDLL(NVRTC)


def compile_text(text: str, dtype: str, architecture: str) -> Compiled:
    """As CuPy does it, to machine code."""
    lib = nvrtc()
    options = [*sources.options(dtype), "-ftz=true", f"--gpu-architecture={architecture}", "--ptxas-options=-v"]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"unit.cu", 0, None, None) == 0
    status = lib.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*map(str.encode, options)))
    lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    lib.nvrtcGetProgramLog(program, log)
    size.value = 0
    if status == 0:
        lib.nvrtcGetCUBINSize(program, ctypes.byref(size))
    lib.nvrtcDestroyProgram(ctypes.byref(program))
    return Compiled(status == 0, log.value.decode(), size.value)


def compile_kept(text: str, dtype: str, architecture: str) -> Compiled:
    """The same, kept by content beside the simulator's libraries."""
    version = (ctypes.c_int(), ctypes.c_int())
    nvrtc().nvrtcVersion(*map(ctypes.byref, version))
    key = repr((text, sources.options(dtype), architecture, [v.value for v in version]))
    kept = build.cache() / f"nvrtc-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if kept.exists():
        return Compiled(*json.loads(kept.read_text()))
    compiled = compile_text(text, dtype, architecture)
    part = kept.with_suffix(f".{os.getpid()}.{dtype}")
    part.write_text(json.dumps(compiled))
    part.replace(kept)
    return compiled


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> Iterator[Mapping[tuple[str, str, str], Future[Compiled]]]:
    """What the tests of this run ask for, by unit, type and architecture, compiled side by side; the largest first."""
    params = [getattr(item, "callspec", None) for item in request.session.items]
    asked = [spec.params for spec in params if spec and {"unit", "dtype", "architecture"} <= set(spec.params)]
    wanted = {(p["unit"], p["dtype"], p["architecture"]) for p in asked}
    pool = ThreadPoolExecutor(os.cpu_count())
    yield {
        (unit, dtype, architecture): pool.submit(
            compile_kept, sources.expanded(unit) + assertions(unit, dtype), dtype, architecture
        )
        for unit, dtype, architecture in sorted(wanted, key=lambda key: (-len(sources.expanded(key[0])), key))
    }
    pool.shutdown(cancel_futures=True)


@needs_nvrtc
@each_unit
@pytest.mark.parametrize(("dtype", "architecture"), COMBINATIONS)
def test_unit_compiles_and_fits(
    compiled: Mapping[tuple[str, str, str], Future[Compiled]], unit: str, dtype: str, architecture: str
) -> None:
    """To a cubin, with the structs laid out as NumPy has them; no spills, no local memory, not too many registers."""
    result = compiled[unit, dtype, architecture].result()
    assert result.ok, result.log
    assert result.size > 0
    assert set(result.kernels) == {name for name, source in sources.kernels().items() if source.unit == unit}
    for name, used in result.kernels.items():
        threads = sources.kernels()[name].threads
        assert used.spills == 0, f"{name}: {used}"
        assert used.stack == 0, f"{name}: {used}, in local memory"
        assert -(-used.registers // 8) * 8 * threads <= REGISTER_FILE, f"{name}: {used} in each of {threads} threads"
        assert used.registers <= MOST_REGISTERS, f"{name}: {used}"


@needs_nvrtc
@each_unit
@pytest.mark.parametrize(("dtype", "target"), [("float32", "sm_90"), ("float64", "sm_80")])
def test_kernels_for_many_models_fit_as_well(unit: str, dtype: str, target: str) -> None:
    """A record read from a table takes few more registers than one by value."""
    alone = compile_kept(sources.expanded(unit) + assertions(unit, dtype), dtype, target)
    each = compile_kept(sources.for_each(sources.expanded(unit)) + assertions(unit, dtype), dtype, target)
    assert each.ok, each.log
    assert set(each.kernels) == {name + sources.EACH for name in alone.kernels}
    for name, used in each.kernels.items():
        threads = sources.kernels()[name.removesuffix(sources.EACH)].threads
        # That one is for rows of more than 12,000 classes, which no population has: a few registers go to memory.
        most = 40 if name.startswith("nnf_softmax_xent_wide") else 0
        assert used.stack <= most, f"{name}: {used}"
        assert most or used.spills == 0, f"{name}: {used}"
        assert used.registers <= MOST_REGISTERS, f"{name}: {used}"
        assert -(-used.registers // 8) * 8 * threads <= REGISTER_FILE, f"{name}: {used} in each of {threads} threads"


def test_all_kernels_are_declared_in_the_one_form() -> None:
    """`sources` reads them by a pattern, which would pass over what is written otherwise."""
    for unit in sources.units():
        written = len(re.findall(r"\b__global__\b", re.sub(r"//.*", "", sources.expanded(unit))))
        assert written == sum(source.unit == unit for source in sources.kernels().values()), unit


# What the checks rest on.

SPILLING = """
extern "C" __global__ void __launch_bounds__(1024) {name}(const float* x, float* y) {{
    float v[{n}];
    for (int i = 0; i < {n}; ++i) v[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < {n}; ++i) y[i * 1024 + threadIdx.x] = v[({n} - 1 - i) {index}] * v[i];
}}
"""


@needs_nvrtc
@pytest.mark.parametrize(
    ("n", "index", "spills", "stack"),
    [(4, "", False, False), (128, "", True, True), (20, "* int(threadIdx.x) % 20", False, True)],
    ids=["small", "spilling", "indexed"],
)
def test_spills_and_local_memory_are_seen(n: int, index: str, spills: bool, stack: bool) -> None:
    unrolled = SPILLING.format(name="k", n=n, index=index).replace("for (", "\n#pragma unroll\n    for (")
    result = compile_text(unrolled, "float32", "sm_90")
    assert result.ok, result.log
    used = result.kernels["k"]
    assert (used.spills > 0, used.stack > 0) == (spills, stack), used


@needs_nvrtc
@pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc")
def test_nvcc_tells_the_same(tmp_path: Path) -> None:
    """Of registers only about the same, where the versions differ."""
    unit = "memory.cu"
    # nvcc brings the C library, where `index` and `finite` are functions.
    (tmp_path / "unit.cu").write_text(f'namespace unit {{\n#include "{sources.SRC / unit}"\n}}\n')
    command = ["nvcc", *sources.options("float32"), "-ftz=true", "-arch=sm_90", "-cubin", "-Xptxas", "-v"]
    target = ["-I", str(sources.SRC), "-o", str(tmp_path / "unit.cubin"), str(tmp_path / "unit.cu")]
    done = subprocess.run([*command, *target], capture_output=True, text=True, check=True)
    theirs, ours = usage(done.stderr), compile_text(sources.expanded(unit), "float32", "sm_90").kernels
    assert set(theirs) == set(ours)
    for name, used in theirs.items():
        assert used[1:] == ours[name][1:]
        assert abs(used.registers - ours[name].registers) <= 8


# Layouts.


def assertions(unit: str, dtype: str, shift: int = 0) -> str:
    """Where the compiler must put every field of the structs that a unit's kernels take, if NumPy is to fill them."""
    lines = []
    structs = sorted({source.struct for source in sources.kernels().values() if source.unit == unit})
    for struct in structs:
        layout = sources.struct_dtype(unit, struct, dtype)
        lines.append(f"static_assert(sizeof({struct}) == {layout.itemsize + shift});")
        for path, offset, size in fields(layout):
            place, field = f"__builtin_offsetof({struct}, {path})", f"static_cast<{struct}*>(nullptr)->{path}"
            lines.append(f"static_assert({place} == {offset + shift} && sizeof({field}) == {size});")
    return "\n" + "\n".join(lines) + "\n"


def fields(layout: np.dtype[Any], before: str = "", start: int = 0) -> Iterator[tuple[str, int, int]]:
    """Every field, those of structs inside too: its path, offset and size."""
    for name in layout.names or ():
        kind, offset = layout.fields[name][:2]
        yield before + name, start + offset, kind.itemsize
        yield from fields(kind, f"{before}{name}.", start + offset)


@needs_gxx
@each_unit
@each_dtype
def test_structs_lie_in_memory_as_numpy_has_them(unit: str, dtype: str, tmp_path: Path) -> None:
    """The same assertions, by g++; and they fail where the layout is another."""
    source = tmp_path / "probe.cpp"
    header = f'#include "{build.HERE / "simt.h"}"\nnamespace {{\n#include "{sources.SRC / unit}"\n'
    command = ["g++", "-fsyntax-only", "-w", "-DNNF_HOST", *sources.options(dtype), "-I", str(sources.SRC), str(source)]
    for shift in (0, 4):
        source.write_text(header + assertions(unit, dtype, shift) + "}\n")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (shift == 0), done.stderr[:3000]


@needs_nvrtc
def test_nvrtc_refuses_another_layout() -> None:
    text = sources.expanded("memory.cu")
    assert compile_text(text + assertions("memory.cu", "float32"), "float32", "sm_90").ok
    shifted = compile_text(text + assertions("memory.cu", "float32", 4), "float32", "sm_90")
    assert not shifted.ok
    assert "static assertion failed" in shifted.log
