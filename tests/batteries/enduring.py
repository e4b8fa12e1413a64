"""A process that does the same thing very often, and looks at what it holds before and after.

    python -m batteries.enduring BACKEND STEPS

prints, as JSON and for each activity, how often it was done and how much more is held after that than before.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from small_models import X, Y, classifier

import nnfast as nn
from batteries.measuring import objects, open_files, resident, threads, trim

WARM_UP, FEWEST = 0.5, 2_000  # of the steps, and at least, before anything is measured: pools of memory grow at first
LEAKING = 1_000  # steps; each hundredth opens a file
# Times that a model is saved and loaded at most, which takes as long as hundreds of steps. A thing that each leaves
# behind, however small, is found after far fewer.
SAVES = 10_000


def _fit(model, folder):
    return 10, lambda: model.fit(X, Y, epochs=5, batch_size=60, verbose=0)


def _train_on_batch(model, folder):
    return 1, lambda: model.train_on_batch(X, Y)


def _predict(model, folder):
    return 1, lambda: model.predict(X)


def _predictor(model, folder):
    ask, x = model.predictor(batch=1), X[:1].astype(np.float32)
    return 1, lambda: ask(x)


def _save_and_load(model, folder):
    """The loaded model does a step as well: it has a runner of its own, which has to go with it."""
    path = folder / "model.nnfast"

    def step():
        model.save(path)
        nn.load(path, backend=model.backend).train_on_batch(X, Y)

    return 1, step


def _leak(model, folder):
    """What must not happen: it shows that the measures find it."""
    kept, never = [], threading.Event()

    def step():
        kept.append([np.ones(1_000)])
        if len(kept) % 100 == 0:
            kept.append(open(__file__, "rb"))  # noqa: SIM115
            threading.Thread(target=never.wait, daemon=True).start()

    return 1, step


ACTIVITIES = {
    "fit": _fit,
    "train_on_batch": _train_on_batch,
    "predict": _predict,
    "predictor": _predictor,
    "save and load": _save_and_load,
}


def held():
    """Without what is garbage, and what only waits to be used again: how much that is varies, and there is a most."""
    found = {"objects": objects()}
    trim()
    return found | {"memory": resident(), "threads": threads(), "files": open_files()}


def grown(activity, backend, steps, folder):
    """What is held more after these steps, by kind."""
    each, step = activity(classifier(backend=backend), folder)
    for _ in range(max(int(steps * WARM_UP), FEWEST) // each):
        step()
    held()  # which holds something itself at first
    before = held()
    for _ in range(steps // each):
        step()
    after = held()
    return {kind: after[kind] - before[kind] for kind in after}


def main():
    backend, steps = sys.argv[1], int(sys.argv[2])
    os.fsync = lambda number: None  # so often that the disk would be all that is waited for
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, what in ACTIVITIES.items():
            times = min(steps, SAVES) if what is _save_and_load else steps
            found[name] = {"times": times} | grown(what, backend, times, Path(folder))
        found["leak"] = grown(_leak, backend, LEAKING, Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
