"""cupy.ndarray on the simulated device: indexing, views and copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .fake_base import Base, as_dtype
from .fake_memory import MemoryPointer, UnownedMemory

__all__ = ["Array", "as_dtype", "of_interface"]


class Array(Base):
    """cupy.ndarray; `make()` gives each device a subclass of its own."""

    def _basic(self, key: Any) -> tuple[bool, tuple[Any, ...]]:
        keys = key if isinstance(key, tuple) else (key,)
        found, plain = [], True
        for k in keys:
            if isinstance(k, (list, np.ndarray)):
                k = self._cupy.array(np.asarray(k, np.int32) if isinstance(k, list) and not k else k)
            if isinstance(k, Array):
                plain = False
                if k.dtype.kind not in "biu":
                    raise IndexError(f"arrays used as indices must be of integer or boolean type. (actual: {k.dtype})")
            found.append(k)
        return plain, tuple(found)

    def _advanced(self, keys: tuple[Any, ...]) -> tuple[Any, ...]:
        """Index arrays as host memory; masks are read at once, as CuPy does to learn the shape of the result."""
        return tuple((k.get() if k.dtype.kind == "b" else k._host()) if isinstance(k, Array) else k for k in keys)

    def __getitem__(self, key: Any) -> Any:
        plain, keys = self._basic(key)
        if plain:
            return self._like(self._host()[keys if any(k is Ellipsis for k in keys) else (*keys, ...)])
        hosts = self._advanced(keys)
        shapes = tuple(np.zeros_like(k) if isinstance(k, np.ndarray) and k.dtype.kind != "b" else k for k in hosts)
        blank = np.broadcast_to(np.zeros((), self.dtype), tuple(max(n, 1) for n in self.shape))
        shape = blank[shapes].shape if 0 not in self.shape else self._host()[hosts].shape
        out = type(self)(shape, self.dtype)

        source, target = self._host(), out._host()

        def run() -> None:
            target[...] = source[hosts]

        self._do("take", run, out, *(k for k in keys if isinstance(k, Array)))
        return out

    def __setitem__(self, key: Any, value: Any) -> None:
        plain, keys = self._basic(key)
        if isinstance(value, np.ndarray) and value.ndim and plain:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        if not isinstance(value, (Array, np.generic, bool, int, float, complex)):
            value = self._cupy.array(value, self.dtype) if not plain else np.asarray(value).item()
        hosts = self._advanced(keys)
        if isinstance(value, Array):
            shape = self._host()[hosts].shape if plain else None
            if shape is not None and np.broadcast_shapes(shape, value.shape) != shape:
                raise ValueError(f"could not broadcast input array from shape {value.shape} into shape {shape}")

        host = self._host()
        source = value._host() if isinstance(value, Array) else value

        def run() -> None:
            host[hosts] = source.copy() if isinstance(source, np.ndarray) else source

        touched = [a for a in (value, *keys) if isinstance(a, Array)]
        self._do("copy" if isinstance(value, Array) else "fill", run, *touched)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        new = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        host = self._host()
        try:
            return self._like(np.reshape(host, tuple(new), order=order, copy=False))  # type: ignore[arg-type]
        except ValueError:
            return self._reordered(np.reshape(host, tuple(new), order=order).shape, order)  # type: ignore[arg-type]

    def _reordered(self, shape: tuple[int, ...], order: str) -> Any:
        """The same elements in another shape, copied."""
        out = type(self)(shape, self.dtype, order=order)
        source, target = self._host(), out._host()

        def run() -> None:
            target[...] = np.reshape(source, shape, order=order)  # type: ignore[arg-type]

        self._do("copy", run, out)
        return out

    def ravel(self, order: str = "C") -> Any:
        return self.reshape(-1, order=order)

    def flatten(self, order: str = "C") -> Any:
        return self.reshape(-1, order=order).copy()

    def transpose(self, *axes: Any) -> Any:
        return self._like(self._host().transpose(*axes))

    def squeeze(self, axis: Any = None) -> Any:
        return self._like(self._host().squeeze(axis))

    def copy(self, order: str = "C") -> Any:
        return self.astype(self.dtype, order)

    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True) -> Any:
        kind = as_dtype(dtype)
        if not copy and kind == self.dtype and (order in "KA" or self.flags[order]):
            return self
        fortran = order == "F" or (order in "KA" and self.flags.fnc)
        out = type(self)(self.shape, kind, order="F" if fortran else "C")
        source, target = self._host(), out._host()
        self._do("copy", lambda: np.copyto(target, source, casting="unsafe"), out)
        return out

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def __reduce__(self) -> Any:
        raise TypeError("arrays of a simulated device cannot be pickled: they belong to it")

    def view(self, dtype: Any = None, type: Any = None) -> Any:
        host = self._host()
        return self._like(host if dtype is None else host.view(as_dtype(dtype)))

    def fill(self, value: Any) -> None:
        if isinstance(value, np.ndarray):
            if value.shape != ():
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value.item()
        if isinstance(value, Array):
            self[...] = value
        else:
            host = self._host()
            self._do("memset" if value == 0 else "fill", lambda: host.fill(value))

    # DLPack: the capsule is an object that only this module's from_dlpack opens

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        if dl_device not in (None, (2, 0)):
            raise BufferError("only the simulated device itself")
        if stream is not None and stream != -1:
            producer, consumer = self._device.current, self._device.queue(0 if stream in (1, 2) else stream)
            if consumer is not producer:
                consumer._push(lambda: None, ((producer, producer.given), *consumer._implied()))
        return (self.copy() if copy else self, "dltensor")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def of_interface(cls: type[Array], other: Any) -> Array:
    """An array over the memory that an object describes through `__cuda_array_interface__`."""
    about = other.__cuda_array_interface__
    kind, shape = np.dtype(about["typestr"]), tuple(about["shape"])
    size = kind.itemsize * math.prod(shape)
    if about.get("stream") is not None:
        cls._device.queue(0 if about["stream"] in (1, 2) else about["stream"]).synchronize()
    return cls(shape, kind, MemoryPointer(UnownedMemory(about["data"][0], size, other), 0), about.get("strides"))
