"""Every op of the protocol at three sizes, from the table that the parity tests use: `nnfast.testing.CASES`.

An op with a row there is timed; nothing is to be added here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["SIZES", "KernelCase", "kernel_cases", "moved"]

DTYPE = "float32"
# Dimensions by the letters of an op's signature. A kernel's own overhead shows in the small ones, the caches in the
# medium ones, main memory or the peak of the processor in the large ones.
SIZES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "NIO": {"small": (32, 16, 16), "medium": (256, 128, 128), "large": (1024, 1024, 1024)},
    "NI": {"small": (32, 16), "medium": (256, 256), "large": (2048, 1024)},
    "NO": {"small": (32, 10), "medium": (256, 256), "large": (2048, 1000)},
    "P": {"small": (1_000,), "medium": (100_000,), "large": (4_000_000,)},
    "PS": {"small": (1_000, 4), "medium": (100_000, 4), "large": (4_000_000, 4)},
}


@dataclass(frozen=True)
class KernelCase:
    """One op at one size: its first form of data, and its first keywords that give it something to do."""

    op: str
    size: str
    dims: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        return f"{self.op}, {'×'.join(f'{n:,}' for _, n in self.dims)}"

    def call(self, dtype: Any = DTYPE) -> Any:
        """The arguments, a `nnfast.testing.Call`, the same in every process; outputs are full of NaN."""
        from nnfast.testing import CASES

        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        case = CASES[self.op]
        return case.make(rng, dtype, dict(self.dims), next(filter(_gives_work, case.keywords), case.keywords[0]))

    @property
    def flops(self) -> int:
        from nnfast.protocol import OPS

        return OPS[self.op].flops(dict(self.dims))


def _gives_work(keywords: Mapping[str, Any]) -> bool:
    strengths = [keywords[name] for name in ("l1", "l2") if name in keywords]
    return any(strengths or keywords.values())


def moved(call: Any) -> int:
    """Bytes read and written at least; what is updated in place counts twice."""
    return sum(a.nbytes * (2 if arg.role == "inout" else 1) for arg, a in call.args())


def kernel_cases(sizes: tuple[str, ...] = ("small", "medium", "large")) -> Iterator[KernelCase]:
    from nnfast.testing import CASES

    for op, case in CASES.items():
        letters = "".join(case.shapes[0])
        for size in sizes:
            yield KernelCase(op, size, tuple(zip(letters, SIZES[letters][size], strict=True)))
