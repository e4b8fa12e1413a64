"""Trainings that are interrupted, or killed again and again, and go on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_models import X, Y, classifier

import nnfast as nn

OPTIMIZERS = {
    "sgd": lambda: nn.SGD(0.5, decay=1e-2, momentum=0.9, clip_norm=0.3),
    "adagrad": lambda: nn.Adagrad(0.1),
    "rmsprop": lambda: nn.RMSprop(0.01),
    "adam": lambda: nn.Adam(0.02, decay=1e-3),
    "adamw": lambda: nn.AdamW(0.02, weight_decay=0.1),
    "schedule": lambda: nn.Adam(nn.schedules.CosineDecay(0.05, 30, warmup=5)),
}


class Stop(nn.Callback):
    """Ends a training after so many steps, as a power cut would: by an error."""

    def __init__(self, step):
        self.every_steps = step

    def on_step(self, model, step):
        raise InterruptedError


def interrupted(model, path, step, *args, **options):
    """Train `model` up to a step, writing checkpoints every step, then fail."""
    saver = nn.ModelCheckpoint(path, every_steps=1)
    callbacks = [*options.pop("callbacks", ()), Stop(step), saver]
    with pytest.raises(InterruptedError):
        model.fit(*args, callbacks=callbacks, verbose=0, **options)


def same(one, two):
    np.testing.assert_array_equal(one.parameters, two.parameters)
    assert one._buffers.slots.keys() == two._buffers.slots.keys()
    for name, slot in one._buffers.slots.items():
        np.testing.assert_array_equal(slot, two._buffers.slots[name])
    assert one.optimizer.steps == two.optimizer.steps
    assert one._epochs == two._epochs
    assert one.history.history == two.history.history
    assert one.history.validated == two.history.validated


# ---- kill -9 --------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import nnfast as nn
from small_models import X, Y, classifier
model = classifier(backend={backend!r})
print("ready", flush=True)
watch = [nn.EarlyStopping(patience=1000), nn.ModelCheckpoint({path!r}, every=3, every_steps=7)]
model.fit(X, Y, epochs={epochs}, batch_size=32, verbose=0, callbacks=watch, resume={path!r})
print("done", flush=True)
"""


def trained_in_spite_of(kills, path, backend):
    """How often a training could be killed before it was done; the model that it ends with, and one left alone."""
    settings = {"epochs": 40 * kills, "batch_size": 32, "verbose": 0}
    whole, chance, killed = classifier(backend=backend), random.Random(kills), 0
    whole.fit(X, Y, callbacks=[nn.EarlyStopping(patience=1000)], **settings)
    here = os.path.dirname(__file__)
    code = PROGRAM.format(tests=here, backend=backend, path=str(path), epochs=settings["epochs"])
    for _ in range(kills):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(0.25 ** chance.uniform(1, 5))  # early and late ones, however fast the machine is
            child.send_signal(signal.SIGKILL)
            killed += b"done" not in child.stdout.read()
        if path.exists():
            nn.load(path, backend=backend)
    model = classifier(backend=backend)
    model.fit(X, Y, callbacks=[nn.EarlyStopping(patience=1000)], resume=path, **settings)
    return killed, model, whole
