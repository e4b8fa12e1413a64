"""tinygrad on its CPU device: one training step under TinyJit, called from a Python loop, with `nn.optim.Adam`.

In its favour: batches are on the device before the clock starts, labels are int32, no loss is read back, and the calls
that TinyJit needs before it has captured a step are made while the trainer is built. Reshuffled rows are gathered
inside the step, as its own examples do. Its settings are its defaults, as with the other compilers here: no search for
faster kernels. It starts a kernel from Python and on one thread, however many there are.

It needs a C compiler at run time, clang. Where there is none, gcc compiles the same source: `Gcc` spells two things
differently that gcc does not read, and asks for -O3, since gcc's -O2 vectorizes less than clang's. Beside LLVM 22 on an
EPYC that took from 0.8 to 1.5 times as long, so figures for the record want clang.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

os.environ["DEV"] = "CPU"
os.environ["PARALLEL"] = "0"  # no processes for compiling: they would not know of Gcc, and stay for good

import numpy as np
from cases.networks import BETAS, EPSILON, RATE, Case
from tinygrad import Tensor, TinyJit, nn
from tinygrad.helpers import Context
from tinygrad.runtime.support import compiler_cpu

from peers import Trainer

__all__ = ["Jitted", "trainer"]

CALLS_TO_CAPTURE = 3  # one in full, one recorded, one replayed


class Gcc(compiler_cpu.ClangCompiler):
    """gcc in place of clang; its kernels have a place of their own in tinygrad's cache on disk."""

    VECTOR = re.compile(r"typedef (.+?) (\w+) __attribute__\(\(aligned\((\d+)\),ext_vector_type\((\d+)\)\)\);")
    BITS = "#define __builtin_bit_cast(type, value) ((union { __typeof__(value) from; type to; }){value}.to)\n"

    def __init__(self, arch: list[str]) -> None:
        super().__init__(arch, "compile_gcc_o3")

    def compile(self, src: str) -> bytes:
        src = self.VECTOR.sub(r"typedef \1 \2 __attribute__((aligned(\3),vector_size(\4 * sizeof(\1))));", src)
        options = ["-c", "-x", "c", "-O3", "-fPIC", "-ffreestanding", "-fno-math-errno", "-nostdlib", "-fno-ident"]
        with tempfile.TemporaryDirectory() as folder:  # gcc writes no object file to a pipe
            target = Path(folder, "kernel.o")
            command = ["gcc", *options, *self.args, "-", "-o", str(target)]
            subprocess.run(command, input=(self.BITS + src).encode(), check=True)
            return target.read_bytes()


class Jitted(Trainer):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        y = case.y.astype(np.int32 if case.loss == "softmax" else np.float32)
        self.parameters = [Tensor(w).realize().is_param_() for w in case.weights()]
        self.adam = nn.optim.Adam(self.parameters, RATE, *BETAS, EPSILON)
        self.step = TinyJit(self._gathered if case.shuffle else self._step)
        if case.shuffle:
            self.data = Tensor(case.X).realize(), Tensor(y).realize()
            self.batches = self._on_device(np.arange(case.rows, dtype=np.int32))
        else:
            self.batches = list(zip(self._on_device(case.X), self._on_device(y), strict=True))
        self._capture()

    def _on_device(self, a: Any) -> list[Any]:
        size = self.case.batch_size
        return [Tensor(a[start : start + size]).realize() for start in range(0, len(a), size)]

    def _capture(self) -> None:
        """Have TinyJit compile the step, then put back what that has changed."""
        for _ in range(CALLS_TO_CAPTURE):
            self._call(self.batches[0])
        self.again()

    def again(self) -> None:
        """The arrays are those that TinyJit has captured."""
        self._epochs = 0
        starts = [*self.case.weights(), *(np.zeros(p.shape, np.float32) for p in [*self.parameters, *self.parameters])]
        for tensor, start in zip([*self.parameters, *self.adam.m, *self.adam.v], starts, strict=True):
            tensor.assign(Tensor(start)).realize()
        for power in (self.adam.b1_t, self.adam.b2_t):
            power.assign(Tensor.ones(1)).realize()

    def _call(self, batch: Any) -> Any:
        with Context(TRAINING=1):
            return self.step(batch) if self.case.shuffle else self.step(*batch)

    def _step(self, x: Any, y: Any) -> Any:
        self.adam.zero_grad()
        *hidden, w, b = self.parameters
        for k in range(0, len(hidden), 2):
            x = (x @ hidden[k] + hidden[k + 1]).relu()
        x = x @ w + b
        loss = x.sparse_categorical_crossentropy(y) if self.case.loss == "softmax" else (x - y).square().mean()
        return loss.backward().realize(*self.adam.schedule_step())

    def _gathered(self, rows: Any) -> Any:
        X, y = self.data
        return self._step(X[rows], y[rows])

    def prepare(self, epochs: int) -> None:
        super().prepare(epochs)
        if self.orders is not None:
            self.orders = self._on_device(self.orders.astype(np.int32).reshape(-1))

    def run(self, epochs: int) -> None:
        with Context(TRAINING=1):
            if self.orders is None:
                for _ in range(epochs):
                    for x, y in self.batches:
                        loss = self.step(x, y)
            else:
                for rows in self.orders:
                    loss = self.step(rows)
        loss.item()  # waits for it

    def results(self) -> list[Any]:
        return [p.numpy() for p in self.parameters]


def trainer(case: Case) -> Jitted:
    compiler = os.environ.get("CC", "clang")
    if "clang" not in compiler or shutil.which(compiler) is None:
        if shutil.which("gcc") is None:
            raise RuntimeError("tinygrad's CPU device needs clang on the PATH (or gcc, here); neither was found")
        compiler_cpu.ClangCompiler = Gcc
    return Jitted(case)
