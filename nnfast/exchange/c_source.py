"""A model as one C99 header: no allocation, no dependency but <math.h> where an activation needs it.

The constants have as many decimal digits as a compiler needs to read them back to the bit (C++ has hexadecimal floats
only since C++17). The same model gives the same text. Scratch memory lies on the stack, and the file says how much.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import nnfast
from nnfast.errors import DTypeError, OptionError
from nnfast.exchange.c_functions import functions_for
from nnfast.exchange.chain import Activation, Affine, Array, Scaling, Step, chain_of, folded
from nnfast.model import Model
from nnfast.storage.files import as_path, replacing
from nnfast.validation import flag, working_dtype

__all__ = ["source", "write"]

PER_LINE = 6  # numbers


class Call(NamedTuple):
    """One step as a call: where it reads and writes."""

    step: Step
    source: str
    target: str
    width: int  # of what it writes


def write(model: Model, path: Any, **options: Any) -> None:
    """`Model.to_c`: the text of `source` as a file, in one step."""
    name = as_path(path)
    text = source(model, name=os.path.basename(name), **options)
    with replacing(name) as file:
        file.write(text.encode("ascii"))


def source(
    model: Model,
    *,
    name: str = "net.h",
    prefix: str = "net",
    probabilities: bool = True,
    fold: bool = True,
    dtype: Any = None,
) -> str:
    """The text of the header; `name` is what its first line calls it. Raises as `Model.to_c` does."""
    prefix = _checked_prefix(prefix)
    steps = chain_of(model, "C", probabilities=probabilities, dtype=dtype)
    steps = folded(steps) if flag("fold", fold) else steps
    kind = model.dtype if dtype is None else working_dtype(dtype)
    writer = _Writer(model, steps, prefix, kind)
    return "\n".join(writer.lines(name)) + "\n"


def _checked_prefix(prefix: Any) -> str:
    if not isinstance(prefix, str):
        raise DTypeError(f"prefix is {prefix!r}; expected a word, as in prefix='net'")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix, flags=re.ASCII):
        raise OptionError(f"prefix is {prefix!r}; expected letters, digits and _, beginning with a letter")
    return prefix


class _Writer:
    def __init__(self, model: Model, steps: Sequence[Step], prefix: str, dtype: np.dtype[Any]) -> None:
        self._model, self._prefix, self._dtype = model, prefix, dtype
        self._type = "float" if dtype == np.float32 else "double"
        self._calls, self._scratch = _placed(steps, model.n_inputs)
        self._arrays = [a for step in steps for a in step if isinstance(a, np.ndarray)]

    def lines(self, name: str) -> Iterator[str]:
        guard = f"{self._prefix}_H"  # not in capitals: there may be a network `net` and another `Net`
        yield from self._head(name)
        yield from ["", f"#ifndef {guard}", f"#define {guard}", ""]
        kinds = {_kind(call.step) for call in self._calls}
        needs_math, functions = functions_for(kinds, self._prefix, self._type)
        if needs_math:
            yield from ["#include <math.h>", ""]
        yield from self._macros()
        for i, call in enumerate(self._calls):
            for part, values in _parts(call.step).items():
                yield from ["", *self._array(f"{self._prefix}_{part}{i}", values)]
        for function in functions:
            yield from ["", *function]
        yield from ["", *self._predict(), "", f"#endif /* {guard} */"]

    def _head(self, name: str) -> Iterator[str]:
        upper = self._prefix.upper()
        products = sum(call.step.weights.size for call in self._calls if isinstance(call.step, Affine))
        yield f"/* {_ascii(name)}: a neural network in C99, written by nnfast {nnfast.__version__}; do not edit."
        yield " *"
        yield f" *     void {self._prefix}_predict(const {self._type} *input, {self._type} *output);"
        yield " *"
        yield f" * reads {upper}_INPUTS numbers and writes {upper}_OUTPUTS, which must not overlap. It allocates"
        yield " * nothing, keeps no state and may be called from several threads at once."
        yield " *"
        yield f" * constants       {self._constants():,} bytes, read only"
        yield f" * scratch         {self._stack():,} bytes on the stack, beside a few local variables"
        yield f" * multiply-adds   {products:,} per call"
        yield " *"
        for call in self._calls:
            yield f" * {_words(call)}"
        yield " */"

    def _macros(self) -> Iterator[str]:
        upper = self._prefix.upper()
        yield f"#define {upper}_INPUTS {self._model.n_inputs}"
        yield f"#define {upper}_OUTPUTS {self._model.n_outputs}"
        yield f"#define {upper}_CONSTANT_BYTES {self._constants()}"
        yield f"#define {upper}_STACK_BYTES {self._stack()}"

    def _constants(self) -> int:
        return sum(a.nbytes for a in self._arrays)

    def _stack(self) -> int:
        return sum(self._scratch.values()) * self._dtype.itemsize

    def _array(self, name: str, values: Array) -> Iterator[str]:
        numbers = [_number(v, self._type) for v in values.reshape(-1)]
        yield f"static const {self._type} {name}[{len(numbers)}] = {{"
        for start in range(0, len(numbers), PER_LINE):
            yield "    " + ", ".join(numbers[start : start + PER_LINE]) + ","
        yield "};"

    def _predict(self) -> Iterator[str]:
        prefix, kind = self._prefix, self._type
        yield f"static inline void {prefix}_predict(const {kind} *input, {kind} *output)"
        yield "{"
        for name, size in self._scratch.items():
            yield f"    {kind} {name}[{size}];"
        if self._scratch:
            yield ""
        for i, call in enumerate(self._calls):
            step, ends = call.step, f"{call.source}, {call.target}"
            constants = ", ".join(f"{prefix}_{part}{i}" for part in _parts(step))
            if isinstance(step, Affine):
                rows, columns = step.weights.shape
                yield f"    {prefix}_dense({rows}, {columns}, {constants}, {ends});"
            elif isinstance(step, Scaling):
                yield f"    {prefix}_standardize({call.width}, {constants}, {ends});"
            else:
                alpha = f"{_number(step.alpha, kind)}, " if step.name in ("leaky_relu", "elu") else ""
                yield f"    {prefix}_{step.name}({call.width}, {alpha}{ends});"
        if not self._calls:
            yield f"    int i;\n\n    for (i = 0; i < {self._model.n_inputs}; ++i) output[i] = input[i];"
        yield "}"


def _placed(steps: Sequence[Step], inputs: int) -> tuple[list[Call], dict[str, int]]:
    """Where each step reads and writes: elementwise ones in place, products from one scratch array to the other.

    Whatever comes after the last product lies in the output already. Gives the sizes of the scratch arrays too.
    """
    products = [i for i, step in enumerate(steps) if isinstance(step, Affine)]
    last = products[-1] if products else -1
    calls: list[Call] = []
    scratch: dict[str, int] = {}
    at, width = "input", inputs
    for i, step in enumerate(steps):
        product = isinstance(step, Affine)
        width = step.weights.shape[1] if isinstance(step, Affine) else width
        target = at
        if i >= last:
            target = "output"
        elif product or at == "input":
            target = "b" if at == "a" else "a"
        if target in "ab":
            scratch[target] = max(scratch.get(target, 0), width)
        calls.append(Call(step, at, target, width))
        at = target
    return calls, dict(sorted(scratch.items()))


def _kind(step: Step) -> str:
    if isinstance(step, Activation):
        return step.name
    return "dense" if isinstance(step, Affine) else "standardize"


def _parts(step: Step) -> dict[str, Array]:
    """A step's constants, by what their names begin with."""
    if isinstance(step, Affine):
        return {"weights": step.weights, "biases": step.biases}
    return {"mean": step.mean, "std": step.std} if isinstance(step, Scaling) else {}


def _words(call: Call) -> str:
    step = call.step
    if isinstance(step, Affine):
        return "dense {} -> {}".format(*step.weights.shape)
    alpha = f", alpha {step.alpha:g}" if isinstance(step, Activation) and step.name in ("leaky_relu", "elu") else ""
    return f"{_kind(step)}{alpha}"


def _ascii(name: str) -> str:
    """A file's name as it may stand in a comment."""
    return re.sub(r"[^\w. -]", "_", name, flags=re.ASCII)


def _number(value: Any, kind: str) -> str:
    """A number to the bit: 9 digits tell two floats apart, 17 two doubles."""
    digits, suffix = (9, "f") if kind == "float" else (17, "")
    text = f"{float(np.float32(value) if suffix else value):.{digits}g}"
    return text + (".0" if text.lstrip("-").isdigit() else "") + suffix
