"""How wide a vector is here: a register of the processor that Numba compiles for."""

from __future__ import annotations

import os
import platform

from . import settings

__all__ = ["HAS_FMA", "VECTOR_BYTES"]


def _features() -> frozenset[str]:
    """What the processor can do, as LLVM's names."""
    _, text = settings.processor()
    return frozenset(word[1:] for word in text.split(",") if word.startswith("+"))


def _vector_bytes(features: frozenset[str]) -> int:
    """64 with AVX-512, 32 with AVX, else 16 (SSE, NEON); `NNFAST_VECTOR_BYTES` overrides, so that tests reach all."""
    forced = os.environ.get("NNFAST_VECTOR_BYTES")
    if forced is not None:
        if forced not in ("16", "32", "64"):
            raise ValueError(f"NNFAST_VECTOR_BYTES is {forced!r}; it can be 16, 32 or 64")
        return int(forced)
    return 64 if "avx512f" in features else 32 if "avx" in features else 16


_FEATURES = _features()
VECTOR_BYTES = _vector_bytes(_FEATURES)
HAS_FMA = bool(_FEATURES & {"fma", "fma4"}) or platform.machine().lower() in ("aarch64", "arm64")
