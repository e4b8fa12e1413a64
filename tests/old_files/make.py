"""Writes a file of the present format's version beside this one: once for each version, then it is never changed.

python tests/old_files/make.py

The file says itself what its model answers, at once and after two more epochs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import nnfast as nn
from nnfast import checkpoint
from nnfast.storage.stored import VERSION


def network():
    return nn.Model(
        [nn.Dense(2, 8, "he_normal", weight_l2=1e-4), nn.ReLU(), nn.Dropout(0.1), nn.Dense(8, 3)],
        loss=nn.SoftmaxCrossEntropy(label_smoothing=0.1),
        optimizer=nn.Adam(nn.schedules.CosineDecay(0.05, 100, warmup=5), clip_norm=1.0),
        metrics=["accuracy", nn.metrics.top_k(2)],
        backend="numpy",
        dtype="float64",
        rng=0,
    )


def main() -> None:
    path = Path(__file__).parent / f"version-{VERSION}.nnfast"
    if path.exists():
        raise SystemExit(f"{path.name} is there, and stays as it is")
    X, y = nn.datasets.spiral(10, 3, 0)
    model = network()
    model.fit(X, y, epochs=5, batch_size=8, verbose=0)
    later = model.to()
    later.fit(X, y, epochs=2, batch_size=8, verbose=0)
    said = {"X": X, "y": y.astype(np.int64), "answer": model.predict(X), "later": later.predict(X)}
    checkpoint.save(model, path, run=said)


if __name__ == "__main__":
    main()
