"""The binding to cublasLt: against NVIDIA's headers, against the real library as far as it goes without a GPU, and
against the stand-in that computes on the CPU.

NNFAST_CUBLAS names a folder with `include/` and `lib/`, …/nvidia/cu13 say; else the packages of this Python are used.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import importlib.util
import itertools
import operator
import os
import re
from pathlib import Path

import numpy as np
import pytest

lt = importlib.import_module("nnfast.kernels.cupy_gpu.cublaslt")
numbers = importlib.import_module("nnfast.kernels.cupy_gpu.lt_constants")
libraries = importlib.import_module("nnfast.kernels.cupy_gpu.lt_library")
emitter = importlib.import_module("nnfast.kernels.cupy_gpu.emitter")
Product, Ref = emitter.Product, emitter.Ref

EPILOGUES = ("", "bias", "relu_bias", "relu_aux_bias", "drelu_bias_grad", "bias_grad")
TRANSPOSES = tuple(itertools.product((False, True), repeat=2))
TYPES = (("f4", "fp32"), ("f4", "tf32"), ("f8", "fp32"))


def folders():
    """Where there may be a cublasLt with its headers."""
    given = os.environ.get("NNFAST_CUBLAS")
    if given:
        return [Path(given)]
    spec = importlib.util.find_spec("nvidia")
    places = spec.submodule_search_locations if spec else None
    return [Path(place, name) for place in places or () for name in ("cu13", "cublas")]


def header(name):
    """A header's text without comments."""
    toolkit = [os.environ.get("CUDA_PATH"), "/usr/local/cuda"] if name == "library_types.h" else []
    runtime = [folder.parent / "cuda_runtime" for folder in folders()]
    for folder in [*folders(), *runtime, *map(Path, filter(None, toolkit))]:
        path = folder / "include" / name
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    pytest.skip(f"{name} is not here: install nvidia-cublas, or let NNFAST_CUBLAS name its folder")


@pytest.fixture(scope="module")
def real():
    """The real library, which makes descriptors without a GPU."""
    for folder in folders():
        for path in sorted(folder.glob("lib/libcublasLt.so.*")) + sorted(folder.glob("bin/**/cublasLt64_*.dll")):
            return lt.open_library(path)
    try:
        return lt.open_library()
    except lt.LibraryMissing as error:
        pytest.skip(str(error))


# --- the headers ---


def enumerators(text):
    """The names of a header's enums and their values: numbers, or others of the names with a `|` in between."""
    values = {}
    for name, formula in re.findall(r"\b(CU(?:BLAS|DA)\w+)\s*=\s*([\w| ()]+?)\s*[,}]", text):
        words = [word.strip(" ()") for word in formula.split("|")]
        if all(word in values or re.fullmatch(r"\d+|0x[\da-f]+", word) for word in words):
            values[name] = functools.reduce(operator.or_, (values.get(w) or int(w, 0) for w in words))
    return values


@pytest.mark.parametrize(
    ("file", "prefix"),
    [
        ("cublas_api.h", r"CUBLAS_(OP|COMPUTE)_"),
        ("cublasLt.h", r"CUBLASLT_"),
        ("library_types.h", r"CUDA_R_"),
    ],
)
def test_numbers_are_those_of_the_headers(file, prefix):
    known = enumerators(header(file))
    ours = {name: value for name, value in vars(numbers).items() if re.match(prefix, name)}
    assert ours
    assert ours == {name: known.get(name) for name in ours}


def test_statuses_are_those_of_the_header():
    known = {name: value for name, value in enumerators(header("cublas_api.h")).items() if "_STATUS_" in name}
    assert {value: name for name, value in known.items()} == numbers.STATUSES


def kind_of(argument):
    """The type by which ctypes is to pass an argument of the header."""
    words = argument.replace("*", " * ").split()
    if {"*", "cudaStream_t"} & set(words) or "[" in argument:
        return ctypes.c_void_p
    if re.match(r"cublasLt(Handle|MatmulDesc|MatrixLayout|MatmulPreference)_t$", words[0]):
        return ctypes.c_void_p
    plain = {"size_t": ctypes.c_size_t, "uint64_t": ctypes.c_uint64, "int64_t": ctypes.c_int64}
    return plain.get(words[0], ctypes.c_int)  # an int, or an enum


@pytest.mark.parametrize("name", numbers.SIGNATURES)
def test_signatures_are_those_of_the_header(name):
    match = re.search(rf"(\w+)\s+CUBLASWINAPI\s+{name}\(([^)]*)\);", header("cublasLt.h"))
    arguments = [argument.strip() for argument in match[2].split(",") if argument.strip() not in ("", "void")]
    assert tuple(map(kind_of, arguments)) == numbers.SIGNATURES[name]
    assert {"cublasStatus_t": ctypes.c_int, "size_t": ctypes.c_size_t}[match[1]] == numbers.RESULTS.get(
        name, ctypes.c_int
    )


def test_structs_are_those_of_the_header():
    text = header("cublasLt.h")
    words = re.search(r"typedef struct \{\s*uint64_t data\[(\d+)\];\s*\} cublasLtMatmulAlgo_t;", text)[1]
    assert int(words) * 8 == numbers.ALGORITHM_BYTES
    body = re.search(r"typedef struct \{([^}]*)\} cublasLtMatmulHeuristicResult_t;", text)[1]
    types = {"cublasLtMatmulAlgo_t": numbers.ALGORITHM_BYTES, "size_t": 8, "cublasStatus_t": 4, "float": 4, "int": 4}
    fields = re.findall(r"(\w+)\s+(\w+)(?:\[(\d+)\])?;", body)
    layout = [(name.lower(), types[kind] * int(count or 1)) for kind, name, count in fields]
    ours = [(name.replace("_", ""), ctypes.sizeof(kind)) for name, kind in numbers.HeuristicResult._fields_]
    assert ours == layout
    assert ctypes.sizeof(numbers.HeuristicResult) == sum(size for _, size in layout) == 96


# --- what the real library is told ---


def attribute(library, kind, descriptor, number, value):
    """An attribute as the library gives it back."""
    get = getattr(library, f"{kind}GetAttribute")
    get.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    written = ctypes.c_size_t()
    status = get(descriptor, number, ctypes.byref(value), ctypes.sizeof(value), ctypes.byref(written))
    assert (status, written.value) == (0, ctypes.sizeof(value))
    return value.value


def layout(library, descriptor):
    return tuple(
        attribute(library, "cublasLtMatrixLayout", descriptor, number, kind())
        for number, kind in (
            (numbers.CUBLASLT_MATRIX_LAYOUT_ROWS, ctypes.c_uint64),
            (numbers.CUBLASLT_MATRIX_LAYOUT_COLS, ctypes.c_uint64),
            (numbers.CUBLASLT_MATRIX_LAYOUT_LD, ctypes.c_int64),
            (numbers.CUBLASLT_MATRIX_LAYOUT_ORDER, ctypes.c_int32),
        )
    )


def batch_of(library, descriptor):
    """Matrices in a batch, and elements from one to the next."""
    return tuple(
        attribute(library, "cublasLtMatrixLayout", descriptor, number, kind())
        for number, kind in (
            (numbers.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, ctypes.c_int32),
            (numbers.CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, ctypes.c_int64),
        )
    )


def operation(library, descriptor, name, kind):
    number = getattr(numbers, f"CUBLASLT_MATMUL_DESC_{name}")
    return attribute(library, "cublasLtMatmulDesc", descriptor, number, kind())


def product(rows, inner, columns, turns=(False, False), epilogue="", dtype="f4", at=4096):
    """A product of this size at made-up addresses."""
    a = Ref(at, (inner, rows) if turns[0] else (rows, inner), dtype)
    b = Ref(2 * at, (columns, inner) if turns[1] else (inner, columns), dtype)
    c = Ref(4 * at, (rows, columns), dtype)
    bias = Ref(8 * at, (columns,), dtype) if epilogue else None
    row = -(-columns // lt.AUX_BITS) * lt.AUX_BITS // 8
    aux = Ref(16 * at, (rows, row), "u1") if epilogue in ("relu_aux_bias", "drelu_bias_grad") else None
    return Product(a, b, c, *turns, epilogue, bias, aux)


@pytest.mark.parametrize(("dtype", "precision"), TYPES)
@pytest.mark.parametrize("turns", TRANSPOSES)
@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_what_the_library_is_told(real, epilogue, turns, dtype, precision):
    matmul = lt.Matmul(lt.CublasLt(real), product(5, 7, 300, turns, epilogue, dtype), precision)
    # Row-major (5, 7)·(7, 300): 300 rows and 5 columns to the library, the second matrix first.
    first, second, result = (layout(real, one) for one in matmul._layouts)
    assert first == ((7, 300, 7, 0) if turns[1] else (300, 7, 300, 0))
    assert second == ((5, 7, 5, 0) if turns[0] else (7, 5, 7, 0))
    assert result == (300, 5, 300, 0)
    for one in matmul._layouts:
        kind = attribute(real, "cublasLtMatrixLayout", one, numbers.CUBLASLT_MATRIX_LAYOUT_TYPE, ctypes.c_uint32())
        assert kind == {"f4": 0, "f8": 1}[dtype]
    told = {
        name: operation(real, matmul._operation, name, kind)
        for name, kind in (
            *(("COMPUTE_TYPE", ctypes.c_int32), ("SCALE_TYPE", ctypes.c_int32), ("TRANSA", ctypes.c_int32)),
            *(("TRANSB", ctypes.c_int32), ("EPILOGUE", ctypes.c_uint32), ("BIAS_POINTER", ctypes.c_void_p)),
            *(("EPILOGUE_AUX_POINTER", ctypes.c_void_p), ("EPILOGUE_AUX_LD", ctypes.c_int64)),
        )
    }
    has_aux = epilogue in ("relu_aux_bias", "drelu_bias_grad")
    assert told == {
        "COMPUTE_TYPE": 70 if dtype == "f8" else {"fp32": 68, "tf32": 77}[precision],
        "SCALE_TYPE": {"f4": 0, "f8": 1}[dtype],
        "TRANSA": int(turns[1]),
        "TRANSB": int(turns[0]),
        "EPILOGUE": dict(zip(EPILOGUES, (1, 4, 6, 134, 152, 256), strict=True))[epilogue],
        "BIAS_POINTER": 8 * 4096 if epilogue else None,
        "EPILOGUE_AUX_POINTER": 16 * 4096 if has_aux else None,
        "EPILOGUE_AUX_LD": 384 if has_aux else 0,
    }


def test_what_the_library_is_told_of_many(real):
    one = product(5, 7, 300, epilogue="relu_aux_bias")
    alone = lt.Matmul(lt.CublasLt(real), one)
    assert [batch_of(real, layout) for layout in alone._layouts] == [(1, 0)] * 3
    many = lt.Matmul(lt.CublasLt(real), one._replace(apart=lt.Apart(9, 0, 8192, 65536, 4096, 1024)))
    assert [batch_of(real, layout) for layout in many._layouts] == [(9, 2048), (9, 0), (9, 16384)]
    assert operation(real, many._operation, "BIAS_BATCH_STRIDE", ctypes.c_int64) == 1024
    assert operation(real, many._operation, "EPILOGUE_AUX_BATCH_STRIDE", ctypes.c_int64) == 8192


@pytest.mark.parametrize(("address", "alignment"), [(0, 256), (4, 4), (8, 8), (48, 16), (1 << 20, 256)])
def test_preferences_tell_the_alignment(real, address, alignment):
    one = product(3, 4, 5)
    matmul = lt.Matmul(lt.CublasLt(real), one._replace(a=one.a._replace(address=address)))
    descriptors = libraries.Descriptors(real)
    preference = matmul._preference(descriptors, 12345)

    def told(name, kind):
        number = getattr(numbers, f"CUBLASLT_MATMUL_PREF_{name}")
        return attribute(real, "cublasLtMatmulPreference", preference, number, kind())

    assert told("MAX_WORKSPACE_BYTES", ctypes.c_uint64) == 12345
    letters = [told(f"MIN_ALIGNMENT_{letter}_BYTES", ctypes.c_uint32) for letter in "ABCD"]
    assert letters == [256, alignment, 256, 256]  # the library's second operand is our first
    descriptors.destroy()


def test_the_real_library_names_its_version(real):
    assert 120000 <= lt.CublasLt(real).version < 150000


def test_without_a_gpu_the_handle_says_so(real):
    library = lt.CublasLt(real)
    try:
        assert library.handle.value
        library.close()
        return
    except lt.CublasLtError:
        pass
    with pytest.raises(
        lt.CublasLtError, match=r"cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED \(no usable GPU"
    ) as raised:
        lt.Matmul(library, product(2, 3, 4)).algorithms()
    assert raised.value.function == "cublasLtCreate"


# --- a library of Python functions: errors, and what is given back ---


class Pretend:
    """A library that counts what it makes, and answers as it is told."""

    def __init__(self, **statuses):
        self.statuses = statuses
        self.alive = {}
        self.calls = []
        self.results = [(b"\1" * 64, 0, 0, 0.5), (b"\2" * 64, 1024, 0, 1.5), (b"\3" * 64, 0, 15, 0.0)]
        for name in numbers.SIGNATURES:
            setattr(self, name, self.function(name))

    def function(self, name):
        def call(*arguments):
            self.calls.append((name, arguments))
            status = self.statuses.get(name, 0)
            if isinstance(status, list):
                status = status.pop(0)
            if status == 0 and name.endswith("Create"):
                pointer = arguments[0]._obj
                pointer.value = 1000 + len(self.calls)
                self.alive[pointer.value] = name
            elif name.endswith("Destroy"):
                del self.alive[arguments[0].value]
            elif name.endswith("GetHeuristic") and status == 0:
                room, found = arguments[8], arguments[9]._obj
                found.value = min(arguments[7], len(self.results))
                for one, (data, workspace, state, waves) in zip(room, self.results, strict=False):
                    one.algo[:], one.workspace_size, one.state, one.waves_count = data, workspace, state, waves
            return status

        return call


def test_all_is_given_back():
    library = Pretend()
    own = lt.CublasLt(lt.open_library(library))
    matmul = lt.Matmul(own, product(2, 3, 4, epilogue="relu_aux_bias"))
    assert sorted(library.alive.values()) == ["cublasLtMatmulDescCreate"] + ["cublasLtMatrixLayoutCreate"] * 3
    matmul.algorithms()
    assert "cublasLtMatmulPreferenceCreate" not in library.alive.values()
    del matmul
    gc.collect()
    assert list(library.alive.values()) == ["cublasLtCreate"]
    own.close()
    own.close()
    assert not library.alive


def test_a_forgotten_handle_is_given_back():
    library = Pretend()
    own = lt.CublasLt(lt.open_library(library))
    assert own.handle.value == own.handle.value
    assert list(library.alive.values()) == ["cublasLtCreate"]
    del own
    gc.collect()
    assert not library.alive


@pytest.mark.parametrize("name", ["cublasLtMatrixLayoutCreate", "cublasLtMatmulDescSetAttribute"])
def test_half_of_a_product_is_given_back(name):
    library = Pretend(**{name: [0, 3]})
    with pytest.raises(lt.CublasLtError, match=f"{name}: CUBLAS_STATUS_ALLOC_FAILED"):
        lt.Matmul(lt.CublasLt(lt.open_library(library)), product(2, 3, 4))
    gc.collect()
    assert not library.alive


def test_algorithms_that_can_be_used():
    library = Pretend()
    matmul = lt.Matmul(lt.CublasLt(lt.open_library(library)), product(2, 3, 4))
    assert matmul.algorithms() == [lt.Algorithm(b"\1" * 64, 0, 0.5), lt.Algorithm(b"\2" * 64, 1024, 1.5)]
    assert matmul.algorithms(limit=1) == [lt.Algorithm(b"\1" * 64, 0, 0.5)]
    assert matmul.algorithms(limit=0) == []
    assert matmul.algorithms(workspace=1000) == [lt.Algorithm(b"\1" * 64, 0, 0.5)]


@pytest.mark.parametrize(("epilogue", "status"), [("", 15), ("bias", 15), ("bias", 8), ("bias", 7)])
def test_what_cannot_be_done_has_no_algorithm(epilogue, status):
    library = lt.open_library(Pretend(cublasLtMatmulAlgoGetHeuristic=status))
    assert lt.Matmul(lt.CublasLt(library), product(2, 3, 4, epilogue=epilogue)).algorithms() == []


@pytest.mark.parametrize(("epilogue", "status", "name"), [("", 7, "INVALID_VALUE"), ("bias", 14, "INTERNAL_ERROR")])
def test_what_must_not_happen_is_an_error(epilogue, status, name):
    library = lt.open_library(Pretend(cublasLtMatmulAlgoGetHeuristic=status))
    with pytest.raises(lt.CublasLtError, match=f"^cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_{name}"):
        lt.Matmul(lt.CublasLt(library), product(2, 3, 4, epilogue=epilogue)).algorithms()


def test_a_status_that_nobody_knows():
    library = lt.open_library(Pretend(cublasLtMatmul=99))
    matmul = lt.Matmul(lt.CublasLt(library), product(2, 3, 4))
    with pytest.raises(lt.CublasLtError, match=r"^cublasLtMatmul: status 99 \(f4 fp32 NN 2x3x4 - 256,256,256\)$"):
        matmul.run(matmul.algorithms()[0], 0, 0)


def test_the_library_must_be_one(tmp_path):
    with pytest.raises(lt.LibraryMissing, match=r"cannot be loaded.*pip install"):
        lt.open_library(tmp_path / "no.so")
    with pytest.raises(lt.LibraryMissing, match=r"cublasLtGetVersion.*pip install"):
        lt.open_library(object())


def test_a_missing_library_says_why(monkeypatch):
    def found(name):
        raise RuntimeError("no such wheel\nand a long story")

    pathfinder = type("pathfinder", (), {"load_nvidia_dynamic_lib": staticmethod(found)})
    monkeypatch.setattr(libraries.importlib, "import_module", lambda name: pathfinder)
    monkeypatch.setattr(libraries, "_NAMES", ("libnnfast-none.so.13",))
    with pytest.raises(lt.LibraryMissing, match=r"not there \(RuntimeError: no such wheel; .*none.so.13.*pip install"):
        lt.open_library()


def test_without_the_finder_names_are_tried(monkeypatch):
    tried = []

    def load(name):
        tried.append(name)
        if name != "libcublasLt.so.12":
            raise OSError(name)
        return Pretend()

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(libraries.importlib, "import_module", missing)
    monkeypatch.setattr(libraries.ctypes, "CDLL", load)
    assert isinstance(lt.open_library(), Pretend)
    assert tried == ["libcublasLt.so.13", "libcublasLt.so.12"]


WHOLE = product(2, 3, 4, epilogue="relu_aux_bias")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (product(2, 0, 4), "inner size of 0"),
        (product(0, 3, 4), "empty"),
        (product(2, 3, 4)._replace(transpose_a=True), "do not go together"),
        (product(2, 3, 4)._replace(c=Ref(4096, (4, 2), "f4")), r"shape \(2, 4\), not \(4, 2\)"),
        (product(2, 3, 4)._replace(epilogue="bias"), "bias"),
        (WHOLE._replace(bias=Ref(4096, (2,), "f4")), "bias"),
        (WHOLE._replace(bias=Ref(4096, (4,), "f8")), "types"),
        (WHOLE._replace(aux=None), "aux"),
        (WHOLE._replace(aux=Ref(4096, (2, 8), "u1")), "64 bits"),
        (WHOLE._replace(aux=Ref(4096, (1, 16), "u1")), "shape"),
        (WHOLE._replace(epilogue="bias"), "aux"),
        (product(2, 3, 4, dtype="f2"), "types"),
    ],
)
def test_products_that_must_not_reach_the_library(wrong, words):
    with pytest.raises(AssertionError, match=words):
        lt.Matmul(lt.CublasLt(lt.open_library(Pretend())), wrong)


def test_keys_tell_apart_what_runs_differently():
    one = product(128, 784, 512, epilogue="relu_aux_bias")
    assert lt.product_key(one, "tf32") == "f4 tf32 NN 128x784x512 relu_aux_bias 256,256,256,256,256"
    turned = product(784, 128, 512, (True, False), dtype="float64", at=4)
    assert lt.product_key(turned, "tf32") == "f8 fp64 TN 784x128x512 - 4,8,16"
    moved = one._replace(a=one.a._replace(address=one.a.address + 256))
    assert lt.product_key(moved, "tf32") == lt.product_key(one, "tf32")
    assert lt.Matmul(lt.CublasLt(Pretend()), one, "tf32").key == lt.product_key(one, "tf32")


# --- the stand-in: all that is asked for is computed ---


class Host:
    """Memory of this process, where the stand-in computes."""

    put = staticmethod(np.copy)
    get = staticmethod(np.asarray)
    address = staticmethod(lambda array: array.ctypes.data)


class Gpu:
    """Memory of the GPU."""

    def __init__(self, cupy):
        self.put, self.get = cupy.asarray, cupy.asnumpy
        self.address = lambda array: array.data.ptr


def expected(a, b, bias, mask, epilogue):
    """What a product gives and leaves in `bias`, in float64."""
    c = a @ b
    if epilogue in ("bias", "relu_bias", "relu_aux_bias"):
        c = c + bias
    if epilogue in ("relu_bias", "relu_aux_bias"):
        c = np.maximum(c, 0)
    if epilogue == "drelu_bias_grad":
        c = np.where(mask, c, 0)
        bias = c.sum(axis=0)
    return c, b.sum(axis=0) if epilogue == "bias_grad" else bias


def check_product(library, machine, rng, sizes, turns, epilogue, dtype="f4", shift=0, precision="fp32"):
    """Compute a product of random numbers by each algorithm, compare with NumPy, and say how many there are.

    The arrays begin `shift` elements behind an aligned address.
    """
    rows, inner, columns = sizes
    shapes = ((rows, inner)[:: -1 if turns[0] else 1], (inner, columns)[:: -1 if turns[1] else 1], (rows, columns))
    a, b, c, bias = (rng.standard_normal(shape).astype(dtype) for shape in (*shapes, columns))
    mask = rng.integers(0, 2, (rows, columns)).astype(bool)
    aux = np.zeros((rows, -(-columns // 128) * 16), np.uint8)
    aux[:, : -(-columns // 8)] = np.packbits(mask, axis=1, bitorder="little")

    def put(array):
        whole = machine.put(np.concatenate([np.zeros(shift, array.dtype), array.ravel()]))
        return whole[shift:].reshape(array.shape), Ref(
            machine.address(whole) + shift * array.itemsize, array.shape, array.dtype.str[1:]
        )

    (_keep_a, at_a), (_keep_b, at_b), (out, at_c), (vector, at_bias) = map(put, (a, b, c, bias))
    bits = machine.put(aux)
    at_aux = Ref(machine.address(bits), aux.shape, "u1") if epilogue in ("relu_aux_bias", "drelu_bias_grad") else None
    one = Product(at_a, at_b, at_c, *turns, epilogue, at_bias if epilogue else None, at_aux)
    matmul = lt.Matmul(library, one, precision)
    algorithms = matmul.algorithms()
    workspace = machine.put(np.empty(max(1, *(one.workspace for one in algorithms), 0), np.uint8))
    wide = [(array.T if turned else array).astype("f8") for array, turned in zip((a, b), turns, strict=True)]
    wanted, wanted_bias = expected(*wide, bias.astype("f8"), mask, epilogue)
    tolerance = 4 * inner**0.5 * (1e-15 if dtype == "f8" else 1e-3 if precision == "tf32" else 1e-6)
    for algorithm in algorithms:
        out[...], vector[...] = np.nan, machine.put(bias)
        matmul.run(algorithm, machine.address(workspace), 0)
        found = machine.get(out)
        np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=tolerance, err_msg=matmul.key)
        np.testing.assert_allclose(machine.get(vector), wanted_bias, atol=10 * tolerance, rtol=tolerance)
        if epilogue == "relu_aux_bias":
            kept = np.unpackbits(machine.get(bits), axis=1, count=columns, bitorder="little").astype(bool)
            np.testing.assert_array_equal(kept, found > 0, err_msg=matmul.key)
    return len(algorithms)


SIZES = [(1, 1, 1), (5, 7, 3), (4, 16, 130), (33, 2, 129), (2, 31, 1)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("turns", TRANSPOSES)
@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_the_stand_in_computes_what_numpy_does(stand_in, rng, shift, epilogue, turns, sizes):
    assert check_product(stand_in, Host, rng, sizes, turns, epilogue, shift=shift)
    if epilogue == "":
        assert check_product(stand_in, Host, rng, sizes, turns, epilogue, "f8", shift)


def test_the_gpu_computes_what_numpy_does(rng, capsys):
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    if not cupy.cuda.is_available():
        pytest.skip("there is no GPU")
    library = lt.CublasLt(lt.open_library())
    found = {}
    for dtype, precision in TYPES:
        for turns, epilogue in itertools.product(TRANSPOSES, EPILOGUES):
            for sizes, shift in itertools.product((*SIZES, (256, 784, 512)), (0, 1)):
                count = check_product(library, Gpu(cupy), rng, sizes, turns, epilogue, dtype, shift, precision)
                assert count or epilogue, f"no algorithm for {dtype} {precision} {turns} {sizes}"
                found.setdefault((dtype, precision, epilogue), []).append(count)
    with capsys.disabled():
        for key, counts in found.items():
            print("\ncublasLt", library.version, *key, f"{np.count_nonzero(counts)} of {len(counts)}", end="")
    library.close()


def test_tf32_rounds_the_operands(stand_in):
    a, b, c = np.full((1, 1), 1 + 2.0**-12, np.float32), np.ones((1, 1), np.float32), np.ones((1, 1), np.float32)
    one = Product(*(Ref(array.ctypes.data, (1, 1), "f4") for array in (a, b, c)))
    for precision, wanted in (("tf32", 1.0), ("fp32", a[0, 0])):
        matmul = lt.Matmul(stand_in, one, precision)
        matmul.run(matmul.algorithms(workspace=0)[0], 0, 0)
        assert c[0, 0] == wanted


def test_rows_of_aux_may_be_longer_than_they_must(stand_in):
    a, b = np.ones((2, 1), np.float32), np.array([[1, -1, 1]], np.float32)
    c, bias, aux = np.empty((2, 3), np.float32), np.zeros(3, np.float32), np.zeros((2, 8), np.uint64)
    refs = [Ref(array.ctypes.data, array.shape, array.dtype.str) for array in (a, b, c, bias, aux)]
    matmul = lt.Matmul(stand_in, Product(*refs[:3], False, False, "relu_aux_bias", *refs[3:]))
    matmul.run(matmul.algorithms(workspace=0)[0], 0, 0)
    np.testing.assert_array_equal(aux, [[5, *[0] * 7]] * 2)


def test_a_closed_handle_is_an_error(stand_in):
    library = lt.CublasLt(stand_in.library)
    a, b, c = np.ones((3, 2, 2), np.float32)
    one = Product(*(Ref(array.ctypes.data, (2, 2), "f4") for array in (a, b, c)))
    matmul = lt.Matmul(library, one)
    first = matmul.algorithms()[0]
    workspace = np.empty(max(1, first.workspace), np.uint8)
    matmul.run(first, workspace.ctypes.data, 0)
    np.testing.assert_array_equal(c, 2)
    library.close()
    with pytest.raises(lt.CublasLtError, match="cublasLtMatmul"):
        matmul.run(first, workspace.ctypes.data, 0)
