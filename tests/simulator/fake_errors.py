"""The exceptions of CuPy that the simulated device raises, with CUDA's numbers and texts."""

from __future__ import annotations

__all__ = ["CUDADriverError", "CUDARuntimeError", "CompileException", "OutOfMemoryError"]

_RUNTIME = {
    1: "cudaErrorInvalidValue: invalid argument",
    2: "cudaErrorMemoryAllocation: out of memory",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    400: "cudaErrorInvalidResourceHandle: invalid resource handle",
    401: "cudaErrorIllegalState: the operation cannot be performed in the present state",
    600: "cudaErrorNotReady: device not ready",
    700: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    900: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
    901: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
    902: "cudaErrorStreamCaptureMerge: operation would result in a merge of separate capture sequences",
    903: "cudaErrorStreamCaptureUnmatched: capture was not ended in the same stream as it began",
    904: "cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work",
    905: "cudaErrorStreamCaptureIsolation: dependency created on uncaptured work in another stream",
    906: "cudaErrorStreamCaptureImplicit: operation would make the legacy stream depend on a capturing blocking stream",
    907: "cudaErrorCapturedEvent: operation not permitted on an event last recorded in a capturing stream",
}
_DRIVER = {
    1: "CUDA_ERROR_INVALID_VALUE: invalid argument",
    400: "CUDA_ERROR_INVALID_HANDLE: invalid resource handle",
    500: "CUDA_ERROR_NOT_FOUND: named symbol not found",
    700: "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered",
    701: "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch",
}


class _StatusError(RuntimeError):
    texts: dict[int, str] = {}  # noqa: RUF012

    def __init__(self, status: int, detail: str = "") -> None:
        super().__init__(self.texts[status] + (f" [{detail}]" if detail else ""))
        self.status = status


class CUDARuntimeError(_StatusError):
    texts = _RUNTIME


class CUDADriverError(_StatusError):
    texts = _DRIVER


class CompileException(Exception):
    pass


class OutOfMemoryError(MemoryError):
    pass
