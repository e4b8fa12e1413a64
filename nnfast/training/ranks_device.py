"""How ranks add up gradients that lie on GPUs: between these where the backend can, else by way of the host.

A backend that can has three methods beyond the protocol: `gpu_name()`, `draw_group()` and `join_group(number, rank,
size)`, which gives an object with `add_up(array)` and `close()`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast.training.ranks import Ranks

__all__ = ["group_of"]

NUMBER = 128  # bytes of a group's number


def group_of(ranks: Ranks, backend: Any) -> Any:
    """The group of all ranks' GPUs; None where some rank cannot take part, or two of them share a GPU.

    To be called on all ranks at once, whose backends are of one kind.
    """
    if ranks.size == 1 or not hasattr(backend, "gpu_name"):
        return None
    names = ranks.texts(backend.gpu_name())
    if "" in names or len(set(names)) < ranks.size:
        return None
    number = np.zeros(NUMBER, np.int8)
    with ranks.together():
        if ranks.rank == 0:
            number[:] = backend.draw_group()
    ranks.spread(number)
    with ranks.guarded():  # who is alone in failing here is waited for by all
        group = backend.join_group(number, ranks.rank, ranks.size)
    ranks.at_end(group.close)
    return group
