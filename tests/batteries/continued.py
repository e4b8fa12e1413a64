"""Trainings that one process begins and another goes on with.

    python -m batteries.continued begin|go_on FOLDER short|thorough BACKEND ...

prints, as JSON and for each configuration, what it came to. The second process finds the files of the first.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from damaged_files import content
from resuming import OPTIMIZERS, interrupted
from small_models import WIDE_X, WIDE_Y

import nnfast as nn

NAMES = ("sgd", "adagrad", "rmsprop", "adam")
EPOCHS = 6
BATCH = 40
MIDDLE = 14  # of four steps an epoch, the last a short one; else after half of the epochs


class Configuration(NamedTuple):
    """How a training is set up, and where it is cut."""

    backend: str
    optimizer: str
    dropout: bool
    shuffle: bool
    in_the_middle: bool
    threads: int

    def __str__(self):
        words = [self.backend, self.optimizer, "dropout" * self.dropout, "shuffled" * self.shuffle]
        return ", ".join(filter(None, [*words, "mid-epoch" * self.in_the_middle, f"{self.threads} threads"]))

    def model(self, rng):
        """So large that four threads have something to share."""
        layers = [nn.Dense(64, 96, weight_l2=1e-4), nn.ReLU(), nn.Dropout(0.2), nn.Dense(96, 10)]
        if not self.dropout:
            del layers[2]
        parts = nn.SoftmaxCrossEntropy(), OPTIMIZERS[self.optimizer](), ["accuracy"]
        return nn.Model(layers, *parts, backend=self.backend, rng=rng)

    def fit(self, model, epochs=EPOCHS, **options):
        return model.fit(WIDE_X, WIDE_Y, epochs=epochs, verbose=0, **self.batches(), **options)

    def batches(self):
        return {"batch_size": BATCH, "shuffle": self.shuffle}


def configurations(backends, thorough):
    """All of them, or those sixteen in which any two settings still meet in every way."""
    for backend, (i, name) in itertools.product(backends, enumerate(NAMES)):
        for dropout, shuffle, middle, many in itertools.product((False, True), repeat=4):
            if thorough or (middle == i % 2 ^ dropout ^ shuffle and many == i // 2 ^ dropout):
                yield Configuration(backend, name, dropout, shuffle, middle, 4 if many else 1)


def bits(model):
    """All that a training leaves, as one number; and its parameters alone."""
    whole = repr((content(model), model.history.history)).encode()
    return [hashlib.sha256(raw).hexdigest() for raw in (whole, model.parameters.tobytes())]


def begin(configuration, path):
    """What an uninterrupted training comes to; another one is written down on the way."""
    whole, first = configuration.model(rng=0), configuration.model(rng=0)
    configuration.fit(whole)
    if configuration.in_the_middle:
        interrupted(first, path, MIDDLE, WIDE_X, WIDE_Y, epochs=EPOCHS, **configuration.batches())
    else:
        configuration.fit(first, EPOCHS // 2, callbacks=[nn.ModelCheckpoint(path)])
    return bits(whole)


def go_on(configuration, path):
    """What it comes to when gone on with: in a model of other weights, in that of the file, and without care."""
    anew, loaded = configuration.model(rng=5), nn.load(path, backend=configuration.backend)
    careless = configuration.model(rng=5)
    for model in (anew, loaded):
        configuration.fit(model, resume=path)
    careless.load_weights(path)
    configuration.fit(careless, EPOCHS - EPOCHS // 2)
    return {"anew": bits(anew), "loaded": bits(loaded), "careless": bits(careless)}


def main():
    role, folder, thorough = {"begin": begin, "go_on": go_on}[sys.argv[1]], Path(sys.argv[2]), sys.argv[3] == "thorough"
    os.fsync = lambda number: None  # a checkpoint at every step, and no power is cut
    found = {}
    for number, configuration in enumerate(configurations(sys.argv[4:], thorough)):
        nn.set_num_threads(configuration.threads)
        found[str(configuration)] = role(configuration, folder / f"{number}.nnfast")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
