"""Every op of a Program passes through here: the right number of arrays, of fitting shapes, with known attributes.

A wrong width would surface in NumPy as a broadcast error, and in compiled code as a write into somebody else's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnfast.errors import OptionError, ShapeError, UnknownNameError
from nnfast.protocol import OPS, Buffer, Op, OpSpec

__all__ = ["make_op"]


def make_op(
    stage: str,
    name: str,
    args: Sequence[Buffer | None],
    scalar: Callable[[str], str | float],
    attributes: Mapping[str, Any],
) -> Op:
    """The op `name` on these arrays; `scalar(keyword)` says where each of its scalars comes from."""
    spec = OPS.get(name)
    if spec is None:
        raise UnknownNameError("op", name, OPS)
    if len(args) != len(spec.args):
        raise OptionError(f"op {name!r} takes {len(spec.args)} arrays ({spec.signature}), {len(args)} were given")
    if set(attributes) != set(spec.attributes):
        raise OptionError(f"op {name!r} takes the attributes {spec.attributes}, not {tuple(attributes)}")
    _check_shapes(spec, args)
    pairs = tuple((keyword, scalar(keyword)) for keyword in spec.scalars)
    return Op(name, tuple(args), pairs, tuple(attributes.items()), stage)


def _check_shapes(spec: OpSpec, args: Sequence[Buffer | None]) -> None:
    dims: dict[str, int | str] = {}
    for arg, buffer in zip(spec.args, args, strict=True):
        if buffer is None:
            if not arg.optional:
                raise ShapeError(f"op {spec.name!r} ({spec.signature}): {arg.name} must not be None")
            continue
        fits = len(arg.shape) == len(buffer.shape)
        for letter, n in zip(arg.shape, buffer.shape, strict=False):
            fits = fits and (int(letter) if letter.isdigit() else dims.setdefault(letter, n)) == n
        if not fits:
            known = ", ".join(f"{k} = {v}" for k, v in dims.items())
            raise ShapeError(
                f"op {spec.name!r} ({spec.signature}): {arg.name} is {buffer.name} of shape {buffer.shape}; {known}"
            )
