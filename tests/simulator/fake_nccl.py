"""cupy.cuda.nccl of the simulated device, over the ranks of an MPI job: sums are made when a stream comes to them."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from .fake_device import Device, view

__all__ = ["Nccl"]

NUMBER = 128


class Nccl:
    """The module, for the ranks of a communicator of mpi4py."""

    available = True
    NCCL_SUM, NCCL_FLOAT32, NCCL_FLOAT64 = 0, 7, 8

    def __init__(self, device: Device, comm: Any) -> None:
        self.comm, self.device = comm, device
        self.sums = self.open = 0
        self.NcclCommunicator = functools.partial(Communicator, self)

    def get_unique_id(self) -> tuple[int, ...]:
        return tuple(np.frombuffer(os.urandom(NUMBER), np.int8).tolist())


class Communicator:
    def __init__(self, library: Nccl, size: int, number: tuple[int, ...], rank: int) -> None:
        assert type(number) is tuple
        assert (len(number), {type(n) for n in number}) == (NUMBER, {int})
        self._library, self._comm = library, library.comm.Dup()
        assert (size, rank) == (self._comm.Get_size(), self._comm.Get_rank())
        assert len(set(self._comm.allgather(number))) == 1
        library.open += 1

    def allReduce(self, source: int, target: int, count: int, kind: int, op: int, stream: int) -> None:
        library = self._library
        dtype = np.dtype({library.NCCL_FLOAT32: np.float32, library.NCCL_FLOAT64: np.float64}[kind])
        assert op == library.NCCL_SUM
        for address in (source, target):
            if said := library.device.fault(address, count * dtype.itemsize):
                raise AssertionError(said)

        def work() -> None:
            mine = view(source, (count,), dtype, (dtype.itemsize,)).copy()
            self._comm.Allreduce(mine, view(target, (count,), dtype, (dtype.itemsize,)))
            library.sums += 1

        library.device.queue(stream).push("ncclAllReduce", work)

    def destroy(self) -> None:
        self._library.open -= 1
        self._comm.Free()
