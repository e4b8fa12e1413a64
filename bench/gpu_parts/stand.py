"""Who computes: CuPy and the backend on the GPU, or the simulated device that the tests use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["PRECISIONS", "Stand"]

PRECISIONS = ("fp32", "tf32")


class Stand:
    """A device with nnfast's backends on it, one per precision. `simulated`: no GPU, no GPU code, no figures."""

    def __init__(self, *, simulated: bool = False) -> None:
        self.simulated = simulated
        self._package = importlib.import_module("nnfast.kernels.cupy_gpu")
        self._extra: dict[str, Any] = {}
        if simulated:
            fake = importlib.import_module("simulator.fake_cupy").make()
            self._extra = {"cupy": fake, "cublaslt": fake.cublaslt}
        self._backends: dict[str, Any] = {}
        first = self.backend("fp32")
        reason = first.unavailable()
        if reason is not None:
            raise RuntimeError(f"the GPU backend cannot work here: {reason}")
        self.cupy: Any = first._cupy

    def backend(self, precision: str) -> Any:
        if precision not in self._backends:
            kind = {"fp32": "CupyBackend", "tf32": "CupyTF32Backend"}[precision]
            self._backends[precision] = getattr(self._package, kind)(**self._extra)
        return self._backends[precision]

    def part(self, name: str) -> Any:
        """A module of the backend."""
        return importlib.import_module(f"nnfast.kernels.cupy_gpu.{name}")

    @property
    def name(self) -> str:
        return str(self.backend("fp32").gpu.name)

    @contextmanager
    def stream(self) -> Iterator[Any]:
        """A stream that may be captured, for all inside."""
        stream = self.cupy.cuda.Stream(non_blocking=True)
        with stream:
            yield stream
            stream.synchronize()

    def synchronize(self) -> None:
        self.cupy.cuda.Device().synchronize()

    # ---- single pieces of work, ready to be called ------------------------------------------------------------------

    def launches(self, op: str, arrays: Sequence[Any], **numbers: Any) -> Callable[[], None]:
        """The kernels that an op needs beside its products, on these arrays."""
        emitting, binding = self.part("emitter"), self.part("binding")
        refs = [None if a is None else binding.ref_of(a) for a in arrays]
        first = next(a for a in arrays if a is not None)
        emitter = emitting.Emitter(first.dtype)
        self.part("table").OPS[op](emitter, *refs, **numbers)
        own = [call for call in emitter.calls if isinstance(call, emitting.Launch)]
        return self._bound(emitter, own, arrays)

    def launch(self, kernel: str, blocks: int, dtype: str = "float32", **fields: Any) -> tuple[Any, Callable[[], None]]:
        """One launch by the name of its kernel: its description, and what launches it."""
        emitter = self.part("emitter").Emitter(dtype)
        emitter.launch(kernel, blocks, **fields)
        return emitter.calls[0], self._bound(emitter, emitter.calls, ())

    def _bound(self, emitter: Any, calls: Sequence[Any], kept: Sequence[Any]) -> Callable[[], None]:
        gpu = self.backend("fp32").gpu
        binder = self.part("binding").Binder(gpu, self.part("memory").Memory(self.cupy), emitter, tune=False)
        bound = binder.bind(calls)

        def work(kept: Any = (binder, kept)) -> None:  # a call holds addresses; somebody has to hold the memory
            for call in bound:
                call()

        return work

    def matmul(self, precision: str, a: Any, b: Any, c: Any, **how: Any) -> Any:
        """The library's view of a product of device arrays."""
        binding, emitting, lt = self.part("binding"), self.part("emitter"), self.part("cublaslt")
        refs = {name: binding.ref_of(how.pop(name)) for name in ("bias", "aux") if how.get(name) is not None}
        product = emitting.Product(*map(binding.ref_of, (a, b, c)), **how, **refs)
        return lt.Matmul(self.backend(precision).gpu.lt, product, precision)

    def runs(self, matmul: Any, most: int) -> list[Callable[[], None]]:
        """What runs a product with each of the library's first proposals, on the current stream."""
        stream = int(self.cupy.cuda.get_current_stream().ptr)
        found = []
        for algorithm in matmul.algorithms(most):
            workspace = self.cupy.empty(max(algorithm.workspace, 1), "u1")

            def work(algorithm: Any = algorithm, workspace: Any = workspace) -> None:
                matmul.run(algorithm, int(workspace.data.ptr), stream)

            found.append(work)
        return found
