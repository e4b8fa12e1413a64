"""A process that has others killed while they save, and looks at what they leave.

python -m batteries.killed_saves PATH KILLS safe|careless
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

import numpy as np
from failing_saves import save_carelessly

import nnfast as nn
from nnfast import checkpoint
from nnfast.errors import CheckpointError


def save_for_ever(model, path, careless, kill):
    """Each time with another number in all places."""
    for i in range(100_000):
        model.parameters = np.full(model.parameters.shape, 1000.0 * kill + i % 1000)
        if careless:
            save_carelessly(model, path)
        else:
            model.save(path)


def killed_at_some_moment(model, path, careless, kill, chance):
    """A child that has saved at least once, and is in the middle of something."""
    before = os.stat(path).st_mtime_ns
    child = os.fork()
    if not child:
        try:
            save_for_ever(model, path, careless, kill)
        finally:
            os._exit(1)
    while os.stat(path).st_mtime_ns == before:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), status


def main():
    path, kills, careless = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "careless"
    model = nn.Model([nn.Dense(500, 500)], backend="numpy", rng=0)
    model.save(path)
    good, broken, numbers, chance = 0, 0, set(), random.Random(1)
    for kill in range(kills):
        killed_at_some_moment(model, path, careless, kill, chance)
        try:
            found = np.unique(checkpoint.load(path, backend="numpy").get_weights()[0])
        except CheckpointError:
            broken += 1
            model.save(path)
            continue
        good += len(found) == 1
        numbers.add(float(found[0]))
    model.save(path)
    left = len(os.listdir(os.path.dirname(path)))
    print(json.dumps({"good": good, "broken": broken, "different": len(numbers), "left": left}))


if __name__ == "__main__":
    main()
