"""`Standardize` as a PyTorch module; loaded by `to_torch` when a model has one."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["Standardize"]


class Standardize(torch.nn.Module):  # type: ignore[misc]  # PyTorch is no dependency, so its types are not there
    """y = (x − mean)/std, with buffers `mean` and `std`: state, but nothing that an optimizer sees."""

    def __init__(self, mean: Any, std: Any) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std
