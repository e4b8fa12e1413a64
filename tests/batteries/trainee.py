"""What the processes of two batteries run: small trainings, and one word for the end of each.

    python -c "from batteries.trainee import main; main()" SECONDS MODULE FUNCTION ARGUMENTS

`main` calls the function of that module here with the arguments, a JSON object, under a watchdog: after so many seconds
it writes the stack of each thread to stderr and ends the process. `trainees.py` starts such processes.
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import importlib
import json
import os
import sys
import warnings

from small_models import TARGETS, WIDE_X, WIDE_Y, X, fit, wide

import nnfast as nn

STEPS = {"epochs": 50, "batch_size": 40}  # 4 batches of the 150 rows, the last one short: 200 steps


def main():
    module, function, arguments = sys.argv[2:]
    watch()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        value = getattr(importlib.import_module(f"batteries.{module}"), function)(**json.loads(arguments))
    loaded, compiled = importlib.import_module("nnfast.kernels.numba_cpu.cache").statistics()[:2]
    said = [f"{warning.category.__name__}: {warning.message}" for warning in seen]
    print(json.dumps({"value": value, "warnings": said, "loaded": loaded, "compiled": compiled}))


def watch():
    faulthandler.dump_traceback_later(float(sys.argv[1]), exit=True)


def end_of(model, history, rows):
    """A word each for parameters, history and predictions, to the last bit."""
    parts = {"parameters": model.parameters.tobytes(), "outputs": model.predict(rows).tobytes()}
    parts |= {name: repr(column).encode() for name, column in history.items()}
    return ", ".join(f"{name} {hashlib.sha256(part).hexdigest()[:16]}" for name, part in parts.items())


def trained(seed):
    """The end of 200 steps of a model that is wide enough for a team."""
    return trained_end(wide(rng=seed))


def trained_end(model):
    return end_of(model, fit(model, WIDE_X, WIDE_Y, **STEPS), WIDE_X)


def small(*, unprivileged=False, largest_file=None, signalled=False):
    """The end of a short training with few kernels; `signalled` is to say "ready" and wait for a line before it."""
    if unprivileged:
        obey_modes()
    if largest_file is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    model = nn.Model([nn.Dense(2, 1), nn.Sigmoid()], nn.MeanSquaredError(), nn.SGD(0.5), backend="numba", rng=0)
    if signalled:
        print("ready", flush=True)
        sys.stdin.readline()
    return end_of(model, fit(model, X, TARGETS), X)


def obey_modes():
    """Let the modes of files and folders bind this process as they bind anybody, also where it is root's."""
    if os.geteuid() == 0:
        version, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None).capset(version, nothing):
            raise OSError("capabilities cannot be given up")
