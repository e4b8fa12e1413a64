"""Rows that early stopping sets aside: as many as scikit-learn, drawn as it draws them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from nnfast.errors import DataError

__all__ = ["set_aside"]


def set_aside(arrays: list[Any], fraction: float, random: np.random.RandomState, labels: Any) -> tuple[Any, Any]:
    """Each array's rows to train on, and each one's rows to score; where there are `labels`, with a share of each."""
    rows = len(arrays[0])
    held = math.ceil(fraction * rows)
    least = 1
    if labels is not None:
        counts = np.unique(labels, return_counts=True)[1]
        least = len(counts)
        if counts.min() < 2:
            raise DataError("early_stopping sets rows of each class aside, and a class of y has 1 row; it needs 2")
    if held < 2 or rows - held < least:
        raise DataError(
            f"validation_fraction={fraction} sets {held} of {rows} rows aside; early stopping needs at least 2, "
            f"and training at least {least}"
        )
    parts = train_test_split(*arrays, random_state=random, test_size=fraction, stratify=labels)
    return parts[::2], parts[1::2]
