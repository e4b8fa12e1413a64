"""Matrix products by cublasLt of CUDA 12 or 13, called through ctypes: whatever it launches may be captured in a graph.

    lt = CublasLt(open_library())                    # of the current device
    matmul = Matmul(lt, product, "tf32")             # descriptors; no GPU is needed so far
    first, *others = matmul.algorithms()             # the library's proposals, the best guess first
    matmul.run(first, workspace, stream)

The library thinks in columns. A row-major matrix is the transposed one to it, and so c = op(a)·op(b) is asked for as

    cᵀ = op(b)ᵀ·op(a)ᵀ      m = columns of c, n = rows of c; first operand b, second a

with op(b)ᵀ = b as it lies, unless b is transposed here. What an epilogue does along the rows of its result, a bias say,
it then does along the columns of c; and the sums over k of its first operand are the column sums of op(b).

A product for many models (`Product.apart`) is one call: a batch, as the library has it, whose matrices lie equally far
apart.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

from . import lt_constants as lt
from .emitter import ALONE, Apart, Product, Ref
from .lt_library import CublasLt, CublasLtError, Descriptors, LibraryMissing, check, open_library

__all__ = [
    "ALONE",
    "AUX_BITS",
    "PRECISIONS",
    "WORKSPACE",
    "Algorithm",
    "Apart",
    "CublasLt",
    "CublasLtError",
    "LibraryMissing",
    "Matmul",
    "open_library",
    "product_key",
]

WORKSPACE = 32 << 20  # bytes; what cuBLAS itself takes on Hopper
AUX_BITS = 128  # a row of the bits that "relu_aux_bias" keeps is a multiple of it
ALIGNMENT = 256  # bytes: more makes no difference to the library

PRECISIONS = {"fp32": lt.CUBLAS_COMPUTE_32F, "tf32": lt.CUBLAS_COMPUTE_32F_FAST_TF32}  # of float32

_EPILOGUES = {
    "": lt.CUBLASLT_EPILOGUE_DEFAULT,
    "bias": lt.CUBLASLT_EPILOGUE_BIAS,
    "relu_bias": lt.CUBLASLT_EPILOGUE_RELU_BIAS,
    "relu_aux_bias": lt.CUBLASLT_EPILOGUE_RELU_AUX_BIAS,
    "drelu_bias_grad": lt.CUBLASLT_EPILOGUE_DRELU_BGRAD,
    "bias_grad": lt.CUBLASLT_EPILOGUE_BGRADA,
}
_WITH_AUX = ("relu_aux_bias", "drelu_bias_grad")


class Algorithm(NamedTuple):
    """One way to compute a product: the library's own description, bytes of workspace, how often it fills the GPU."""

    data: bytes
    workspace: int
    waves: float


class Matmul:
    """A product and all that the library wants to know of it, in one precision: "fp32" or "tf32", where it is float32.

    The arrays are not touched before `run`, but their addresses must be final: alignment decides on what is possible.
    """

    def __init__(self, library: CublasLt, product: Product, precision: str = "fp32") -> None:
        _check(product)
        self.product = product
        self.key = product_key(product, precision)
        self._lt = library
        self._descriptors = Descriptors(library.library)
        a, b, c = product.a, product.b, product.c
        double = np.dtype(c.dtype).itemsize == 8
        number = ctypes.c_double if double else ctypes.c_float
        kind = lt.CUDA_R_64F if double else lt.CUDA_R_32F
        self._alpha, self._beta = number(1), number(0)
        self._operation = self._operate(lt.CUBLAS_COMPUTE_64F if double else PRECISIONS[precision], kind)
        distances = (product.apart.b, product.apart.a, product.apart.c)
        self._layouts = [self._layout(kind, ref, apart) for ref, apart in zip((b, a, c), distances, strict=True)]
        first, second, result = self._layouts
        at = [ctypes.c_void_p(ref.address) for ref in (b, a, c)]
        self._matmul = library.library.cublasLtMatmul
        self._arguments: tuple[Any, ...] = ()
        self._operands = (
            *(self._operation, ctypes.byref(self._alpha), at[0], first, at[1], second),
            *(ctypes.byref(self._beta), at[2], result, at[2], result),
        )

    def algorithms(self, limit: int = 8, workspace: int = WORKSPACE) -> list[Algorithm]:
        """What the library proposes, at most so many; nothing where it cannot do this, as may be with an epilogue."""
        if limit < 1:
            return []
        results, found = (lt.HeuristicResult * limit)(), ctypes.c_int()
        first, second, result = self._layouts
        descriptors = Descriptors(self._lt.library)
        try:
            preference = self._preference(descriptors, workspace)
            status = self._lt.library.cublasLtMatmulAlgoGetHeuristic(
                *(self._lt.handle, self._operation, first, second, result, result, preference),
                *(limit, results, ctypes.byref(found)),
            )
        finally:
            descriptors.destroy()
        # An epilogue that does not go with the types or transposes is an invalid value to some versions.
        refusals = ("NOT_SUPPORTED", "ARCH_MISMATCH", *(["INVALID_VALUE"] if self.product.epilogue else []))
        if status and lt.STATUSES.get(status, "").endswith(refusals):
            return []
        check("cublasLtMatmulAlgoGetHeuristic", status)
        return [
            Algorithm(bytes(one.algo), one.workspace_size, one.waves_count)
            for one in results[: found.value]
            if one.state == 0 and one.workspace_size <= workspace
        ]

    def fits(self, algorithm: Algorithm, workspace: int = WORKSPACE) -> Algorithm | None:
        """An algorithm of the same product for one model, as this one wants it; None where the library refuses."""
        result = lt.HeuristicResult()
        first, second, third = self._layouts
        status = self._lt.library.cublasLtMatmulAlgoCheck(
            *(self._lt.handle, self._operation, first, second, third, third, algorithm.data, ctypes.byref(result))
        )
        if status or result.state or result.workspace_size > workspace:
            return None
        return algorithm._replace(workspace=int(result.workspace_size))

    def run(self, algorithm: Algorithm, workspace: int, stream: int) -> None:
        """Give the product to a stream. `workspace` is the address of as many bytes as the algorithm needs."""
        arguments = self._arguments
        if not arguments:
            arguments = self._arguments = (self._lt.handle, *self._operands)
        status = self._matmul(*arguments, algorithm.data, workspace, algorithm.workspace, stream)
        if status:
            raise CublasLtError("cublasLtMatmul", status, self.key)

    def _operate(self, compute: int, kind: int) -> ctypes.c_void_p:
        """The descriptor of the operation: precision, transposes and epilogue."""
        product, kind_of = self.product, "cublasLtMatmulDesc"
        operation = self._descriptors.create(kind_of, compute, kind)

        def say(attribute: int, value: Any) -> None:
            self._descriptors.set(kind_of, operation, attribute, value)

        say(lt.CUBLASLT_MATMUL_DESC_TRANSA, ctypes.c_int32(product.transpose_b))  # CUBLAS_OP_N or CUBLAS_OP_T
        say(lt.CUBLASLT_MATMUL_DESC_TRANSB, ctypes.c_int32(product.transpose_a))
        say(lt.CUBLASLT_MATMUL_DESC_EPILOGUE, ctypes.c_uint32(_EPILOGUES[product.epilogue]))
        if product.bias is not None:
            say(lt.CUBLASLT_MATMUL_DESC_BIAS_POINTER, ctypes.c_void_p(product.bias.address))
        if product.aux is not None:
            say(lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, ctypes.c_void_p(product.aux.address))
            say(lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ctypes.c_int64(_aux_row(product.aux, product.c)))
        if product.apart.bias and product.bias is not None:
            say(
                lt.CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE,
                ctypes.c_int64(product.apart.bias // np.dtype(product.bias.dtype).itemsize),
            )
        if product.apart.aux:
            say(lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, ctypes.c_int64(8 * product.apart.aux))  # bits
        return operation

    def _layout(self, kind: int, ref: Ref, apart: int) -> ctypes.c_void_p:
        """The descriptor of a matrix as it lies: our rows are columns to the library."""
        rows, columns = ref.shape
        layout = self._descriptors.create("cublasLtMatrixLayout", kind, columns, rows, columns)
        if self.product.apart.models > 1:
            for attribute, value in (
                (lt.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, ctypes.c_int32(self.product.apart.models)),
                (lt.CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, ctypes.c_int64(apart // np.dtype(ref.dtype).itemsize)),
            ):
                self._descriptors.set("cublasLtMatrixLayout", layout, attribute, value)
        return layout

    def _preference(self, descriptors: Descriptors, workspace: int) -> ctypes.c_void_p:
        """How much workspace there is, and on what addresses algorithms may rely."""
        product, apart = self.product, self.product.apart
        a = _alignment(product.a.address | apart.a, ALIGNMENT)
        b = _alignment(product.b.address | apart.b, ALIGNMENT)
        c = _alignment(product.c.address | apart.c, ALIGNMENT)
        kind = "cublasLtMatmulPreference"
        preference = descriptors.create(kind)
        for attribute, value in (
            (lt.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, ctypes.c_uint64(workspace)),
            (lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, ctypes.c_uint32(b)),
            (lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, ctypes.c_uint32(a)),
            (lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, ctypes.c_uint32(c)),
            (lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, ctypes.c_uint32(c)),
        ):
            descriptors.set(kind, preference, attribute, value)
        return preference


def product_key(product: Product, precision: str) -> str:
    """All that a product's speed depends on, the addresses but for their alignment left out."""
    a, b, c = product.a, product.b, product.c
    itemsize = np.dtype(c.dtype).itemsize
    inner = a.shape[0] if product.transpose_a else a.shape[1]
    turned = f"{'NT'[product.transpose_a]}{'NT'[product.transpose_b]}"
    aligned = ",".join(
        str(_alignment(ref.address | apart, ALIGNMENT))
        for ref, apart in zip((a, b, c, product.bias, product.aux), product.apart[1:], strict=True)
        if ref is not None
    )
    sizes = f"{c.shape[0]}x{inner}x{c.shape[1]}" + (f" of {product.apart.models}" if product.apart != ALONE else "")
    return f"f{itemsize} {precision if itemsize == 4 else 'fp64'} {turned} {sizes} {product.epilogue or '-'} {aligned}"


def _alignment(address: int, most: int) -> int:
    """The largest power of two, up to `most`, that divides the address."""
    return min(address & -address, most) or most


def _aux_row(aux: Ref, c: Ref) -> int:
    """Bits from one row of `aux` to the next."""
    row = -(-c.shape[1] // AUX_BITS) * AUX_BITS
    return aux.shape[1] * np.dtype(aux.dtype).itemsize * 8 if len(aux.shape) == 2 else row


def _check(product: Product) -> None:
    """Whoever emits a product sees to all this; to the library it would be memory out of bounds."""
    a, b, c, turned_a, turned_b, epilogue, bias, aux, apart = product
    (rows, inner), (inner_b, columns) = a.shape[:: -1 if turned_a else 1], b.shape[:: -1 if turned_b else 1]
    assert inner == inner_b, f"{a.shape} and {b.shape} do not go together"
    assert c.shape == (rows, columns), f"the product has the shape {(rows, columns)}, not {c.shape}"
    assert inner > 0, "an inner size of 0 gives zeros, which the library does not write"
    assert c.size > 0, "an empty product is not to be computed"
    types = {np.dtype(ref.dtype).str[1:] for ref in (a, b, c, bias) if ref is not None}
    assert types in ({"f4"}, {"f8"}), f"the types {types} do not go together"
    assert (bias is not None) == (epilogue != ""), f"epilogue {epilogue!r} with bias {bias}"
    assert bias is None or bias.size == columns, f"a bias of {bias} for {columns} columns"
    assert (aux is not None) == (epilogue in _WITH_AUX), f"epilogue {epilogue!r} with aux {aux}"
    if aux is not None:
        row = _aux_row(aux, c)
        assert row % AUX_BITS == 0, f"rows of aux have {row} bits, which is no multiple of {AUX_BITS}"
        assert row >= columns, f"rows of aux have {row} bits for {columns} columns"
        assert aux.size * np.dtype(aux.dtype).itemsize * 8 >= row * rows, f"aux has the shape {aux.shape}"
        assert apart.aux * 8 % AUX_BITS == 0, f"what models have of aux lies {apart.aux} bytes apart"
    itemsize, distances = np.dtype(c.dtype).itemsize, apart[1:5]
    assert all(d % itemsize == 0 for d in distances), f"models lie {distances} bytes apart, numbers have {itemsize}"
    assert apart.models == 1 or apart.c >= c.size * itemsize, "the results of two models lie one upon the other"
