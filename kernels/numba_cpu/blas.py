"""Matrix products inside compiled code: SciPy's BLAS, reached by address, on one thread for each executor.

`gemm` calls SciPy's sgemm or dgemm at the address that `gemm_address` gives; the address is an argument, not part of
the compiled code, so that code can be cached on disk. The batch is split over executors here, hence every BLAS must
keep to the thread that calls it: `with single_threaded_blas():` around a run (blas_threads.py).

Matrices are row-major, in arrays of any rank that are C-contiguous, and begin at a flat element offset. `ld` is the
number of elements from one row to the next as the matrix lies there, transposed or not.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .blas_threads import guard_reason, single_threaded_blas
from .modes import CHECKED, PLAIN, jit

__all__ = ["gemm", "gemm_address", "guard_reason", "single_threaded_blas"]

ROUTINES = {"float32": "sgemm", "float64": "dgemm"}


# ---- the address ----------------------------------------------------------------------------------------------------


def gemm_address(dtype: Any) -> int:
    """Where SciPy's gemm for this dtype lies in memory; ImportError where there is none to call."""
    from scipy.linalg import cython_blas  # 0.1 s

    capsule = cython_blas.__pyx_capi__[ROUTINES[np.dtype(dtype).name]]
    name = _capsule("PyCapsule_GetName", ctypes.c_char_p, ctypes.py_object)(capsule)
    # Characters, sizes, alpha, a, lda, b, ldb, beta, c, ldc, all by reference; the sizes are C ints, see `_call`.
    kinds = [part.replace("*", "").split()[-1] for part in name.decode().partition("(")[2].rstrip(")").split(",")]
    if [kind for kind in kinds if kind in ("char", "int")] != ["char"] * 2 + ["int"] * 6 or len(kinds) != 13:
        raise ImportError(f"SciPy's BLAS has another signature than expected: {name.decode()}")
    address = _capsule("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(capsule, name)
    return int(address)


def _capsule(function: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((function, ctypes.pythonapi))


# ---- the product ----------------------------------------------------------------------------------------------------


def _gemm_compiled(
    address: int,
    transpose_a: bool,
    transpose_b: bool,
    m: int,
    n: int,
    k: int,
    alpha: float,
    a: Any,
    a_offset: int,
    lda: int,
    b: Any,
    b_offset: int,
    ldb: int,
    beta: float,
    c: Any,
    c_offset: int,
    ldc: int,
) -> None:
    """C = α·op(A)·op(B) + β·C with op(A) (m, k), op(B) (k, n), C (m, n); β = 0 overwrites C whatever it held.

    Sizes and leading dimensions must be below 2³¹.
    """
    if CHECKED:
        _check_ranges(
            transpose_a, transpose_b, m, n, k, a.size, a_offset, lda, b.size, b_offset, ldb, c.size, c_offset, ldc
        )
    if m <= 0 or n <= 0:
        return
    if beta == 0 and (m == 1 or n == 1):
        # Some BLAS pass such a product on to gemv, of which versions are known that scale C by 0 and so keep its NaN.
        flat = c.reshape(c.size)
        for i in range(m):
            for j in range(n):
                flat[c_offset + i * ldc + j] = 0
    # Read by columns, as Fortran does, the same memory holds the transposes: Cᵀ = op(B)ᵀ·op(A)ᵀ.
    _call(address, transpose_b, transpose_a, n, m, k, alpha, b, b_offset, ldb, a, a_offset, lda, beta, c, c_offset, ldc)


def _gemm_plain(
    address: int,
    transpose_a: bool,
    transpose_b: bool,
    m: int,
    n: int,
    k: int,
    alpha: float,
    a: Any,
    a_offset: int,
    lda: int,
    b: Any,
    b_offset: int,
    ldb: int,
    beta: float,
    c: Any,
    c_offset: int,
    ldc: int,
) -> None:
    """The same in NumPy, without the address."""
    _check_ranges(
        transpose_a, transpose_b, m, n, k, a.size, a_offset, lda, b.size, b_offset, ldb, c.size, c_offset, ldc
    )
    op_a = _matrix(a, a_offset, lda, k, m).T if transpose_a else _matrix(a, a_offset, lda, m, k)
    op_b = _matrix(b, b_offset, ldb, n, k).T if transpose_b else _matrix(b, b_offset, ldb, k, n)
    out = _matrix(c, c_offset, ldc, m, n)
    with np.errstate(all="ignore"):
        product = c.dtype.type(alpha) * (op_a @ op_b)
        out[...] = product if beta == 0 else product + c.dtype.type(beta) * out


def _matrix(a: Any, offset: int, ld: int, rows: int, columns: int) -> Any:
    strides = (ld * a.itemsize, a.itemsize)
    return np.lib.stride_tricks.as_strided(a.reshape(-1)[offset:], (rows, columns), strides)


def _check_range_of(size: int, offset: int, ld: int, rows: int, columns: int) -> None:
    if rows > 0 and columns > 0 and (offset < 0 or ld < columns or offset + (rows - 1) * ld + columns > size):
        raise IndexError("a matrix reaches beyond its array")


def _check_ranges_of(
    transpose_a: bool,
    transpose_b: bool,
    m: int,
    n: int,
    k: int,
    a_size: int,
    a_offset: int,
    lda: int,
    b_size: int,
    b_offset: int,
    ldb: int,
    c_size: int,
    c_offset: int,
    ldc: int,
) -> None:
    _check_range(a_size, a_offset, lda, k if transpose_a else m, m if transpose_a else k)
    _check_range(b_size, b_offset, ldb, n if transpose_b else k, k if transpose_b else n)
    _check_range(c_size, c_offset, ldc, m, n)


_check_range: Any = jit(_check_range_of)
_check_ranges: Any = jit(_check_ranges_of)
gemm: Any = _gemm_plain if PLAIN else jit(_gemm_compiled)


# ---- the call -------------------------------------------------------------------------------------------------------


@intrinsic
def _call(
    context: Any,
    address: Any,
    transpose_a: Any,
    transpose_b: Any,
    m: Any,
    n: Any,
    k: Any,
    alpha: Any,
    a: Any,
    a_offset: Any,
    lda: Any,
    b: Any,
    b_offset: Any,
    ldb: Any,
    beta: Any,
    c: Any,
    c_offset: Any,
    ldc: Any,
) -> Any:
    """Fortran's gemm: everything by reference, sizes as 32-bit integers, matrices by columns."""
    arrays = (a, b, c)
    if not all(isinstance(x, types.Array) and x.layout == "C" and x.dtype == c.dtype for x in arrays):
        raise TypingError(f"gemm takes C-contiguous arrays of one dtype, not {a}, {b} and {c}")
    if c.dtype not in (types.float32, types.float64):
        raise TypingError(f"gemm takes float32 or float64, not {c.dtype}")
    size, flag, number = types.intp, types.boolean, c.dtype
    matrix_a, matrix_b, matrix_c = ((x, size, size) for x in arrays)
    signature = types.void(size, flag, flag, size, size, size, number, *matrix_a, *matrix_b, number, *matrix_c)
    return signature, _build_call


def _build_call(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    address, transpose_a, transpose_b, m, n, k, alpha, a, a_offset, lda, b, b_offset, ldb, beta, c, c_offset, ldc = (
        values
    )

    def reference(value: Any) -> Any:
        return cgutils.alloca_once_value(builder, value)  # in the entry block: a loop around it needs no more stack

    def letter(transpose: Any) -> Any:
        char = ir.IntType(8)
        return reference(builder.select(transpose, char(ord("T")), char(ord("N"))))

    def integer(value: Any, least: int) -> Any:
        enough = builder.icmp_signed(">=", value, value.type(least))
        return reference(builder.trunc(builder.select(enough, value, value.type(least)), ir.IntType(32)))

    def matrix(kind: Any, value: Any, offset: Any) -> Any:
        return builder.gep(context.make_array(kind)(context, builder, value).data, [offset])

    # A leading dimension is at least 1 for BLAS, also of a matrix without columns.
    arguments = [
        letter(transpose_a),
        letter(transpose_b),
        *(integer(value, 0) for value in (m, n, k)),
        reference(alpha),
        matrix(signature.args[7], a, a_offset),
        integer(lda, 1),
        matrix(signature.args[10], b, b_offset),
        integer(ldb, 1),
        reference(beta),
        matrix(signature.args[14], c, c_offset),
        integer(ldc, 1),
    ]
    routine = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(builder.inttoptr(address, routine.as_pointer()), arguments)
    return context.get_dummy_value()
