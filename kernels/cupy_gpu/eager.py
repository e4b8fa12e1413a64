"""Ops called by hand: the same launches as in a step, one op at a time on the caller's stream."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from nnfast.protocol import OPS, Kernel, OpSpec

from . import table
from .binding import Binder, ref_of
from .emitter import Emitter

if TYPE_CHECKING:
    from .device import Device

__all__ = ["make_kernel", "signature_of"]


def make_kernel(op: str, device: Device) -> Kernel:
    """The op as a function on device arrays: by position in the order of its signature, its numbers by keyword."""
    spec, emit = OPS[op], table.OPS[op]
    working = next(i for i, arg in enumerate(spec.args) if arg.dtype == "T")

    def kernel(*arrays: Any, **numbers: Any) -> None:
        with device.current():
            emitter = Emitter(arrays[working].dtype, most_shared=device.most_shared)
            emit(emitter, *[None if a is None else ref_of(a) for a in arrays], **numbers)
            with device.by_hand() as memory:
                for call in Binder(device, memory, emitter, tune=False).bind(emitter.calls):
                    call()

    kernel.__signature__ = signature_of(spec)  # type: ignore[attr-defined]
    functools.update_wrapper(kernel, emit, assigned=("__doc__", "__module__", "__name__", "__qualname__"))
    del kernel.__wrapped__  # type: ignore[attr-defined]  # its signature is another one
    return kernel


def signature_of(spec: OpSpec) -> inspect.Signature:
    """An op's arrays by position, then its scalars and attributes by keyword."""
    kinds = inspect.Parameter
    return inspect.Signature(
        [
            *(kinds(arg.name, kinds.POSITIONAL_OR_KEYWORD) for arg in spec.args),
            *(kinds(name, kinds.KEYWORD_ONLY) for name in (*spec.scalars, *spec.attributes)),
        ]
    )
