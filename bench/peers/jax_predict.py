"""JAX's predictions: a jitted function of the rows, and its result as a NumPy array, which is where a user needs it.

In its favour: the weights are constants of the compiled program, and the rows are on the device already.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from cases.ops import OpCase

from peers.jax_loop import _outputs
from peers.timing import Predictor, given

__all__ = ["subject"]


class Predict(Predictor):
    def __init__(self, widths: tuple[int, ...], batch: int) -> None:
        weights, x = given(widths, batch)
        self.compiled = jax.jit(partial(_outputs, jax.device_put(weights)))
        self.x = jax.device_put(x)
        self.call = self.predict

    def predict(self) -> Any:
        return np.asarray(self.compiled(self.x))


def subject(case: OpCase, batch: int = 1) -> Predict:
    assert case.kind == "predict_one"
    return Predict(case.sizes, batch)
