"""Ctrl-C: a training ends between two steps, with everything in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from small_models import X, Y, classifier, fit

import nnfast as nn
from nnfast.training.interrupts import Interrupts

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="os.kill does not send Ctrl-C there"),
    pytest.mark.usefixtures("usual_ctrl_c"),
]


def press():
    os.kill(os.getpid(), signal.SIGINT)


def press_later(seconds):
    timer = threading.Timer(seconds, press)
    timer.start()
    return timer


@pytest.mark.parametrize("batch_size", [None, 32])
def test_ctrl_c_loses_nothing(backend, batch_size):
    """The history is that of an undisturbed training of as many epochs, and so are the weights."""
    model = classifier(backend=backend)
    fit(classifier(backend=backend), epochs=1, batch_size=batch_size)  # what is compiled or loaded is so now
    press_later(1.0)
    with pytest.raises(KeyboardInterrupt):
        fit(model, epochs=10_000_000, batch_size=batch_size)
    done = model.history.epochs
    assert done > 0
    steps = len(X) // 32 + 1 if batch_size else 1
    assert model.optimizer.steps // steps == done
    if model.optimizer.steps % steps == 0:
        twin = classifier(backend=backend)
        assert fit(twin, epochs=done, batch_size=batch_size) == model.history.history
        np.testing.assert_array_equal(twin.parameters, model.parameters)
    fit(model, epochs=2)
    assert np.isfinite(model.evaluate(X, Y)["loss"])


def test_callbacks_end_and_progress_is_left_in_order(capfd):
    ended = []

    class Ends(nn.Callback):
        def on_epoch(self, model, epoch, logs):
            if epoch == 3:
                press()

        def on_end(self, model, history):
            ended.append(history.epochs)

    model = classifier()
    with pytest.raises(KeyboardInterrupt):
        fit(model, epochs=1000, callbacks=[Ends()], verbose=2)
    assert ended == [3]
    assert capfd.readouterr().out.count("epoch") == 3


def test_a_second_one_does_not_wait():
    class Stuck(nn.PythonLayer):
        def compute(self, x, training):
            press()
            press()
            time.sleep(120)
            return x

        def gradient(self, dy):
            return dy

    model = nn.Model([nn.Dense(2, 3), Stuck()], nn.SoftmaxCrossEntropy(), nn.SGD(0.1), backend="numpy", rng=0)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fit(model, epochs=1)
    assert time.monotonic() - begin < 60


def test_a_handler_of_the_program_stays_in_charge():
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        fit(classifier(), epochs=3, callbacks=[lambda model, epoch, logs: press()])
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert len(heard) == 3


def test_pressed_in_the_last_job_it_is_still_heard():
    with pytest.raises(KeyboardInterrupt):
        fit(classifier(), epochs=2, callbacks=[lambda model, epoch, logs: press() if epoch == 2 else None])


def test_training_in_another_thread_leaves_ctrl_c_alone():
    seen = []

    def train():
        fit(classifier(), epochs=2, callbacks=[lambda *_: seen.append(signal.getsignal(signal.SIGINT))])

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler] * 2


def test_an_error_gives_ctrl_c_back():
    def broken(model, epoch, logs):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(classifier(), callbacks=[broken])


def test_nothing_is_heard_that_was_not_pressed():
    interrupts = Interrupts()
    with interrupts.held_back():
        interrupts.heed()
        press()
        for _ in range(100):  # a signal is handled between two steps of Python
            pass
        with pytest.raises(KeyboardInterrupt):
            interrupts.heed()
        interrupts.heed()


PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
from small_models import classifier, fit
model = classifier(backend={backend!r})
fit(model, epochs=1)  # compiles
print("ready", flush=True)
try:
    fit(model, epochs=100_000_000, verbose=1)
except KeyboardInterrupt:
    print("epochs", model.history.epochs, flush=True)
"""


def test_from_a_shell(backend):
    code = PROGRAM.format(tests=os.path.dirname(__file__), backend=backend.name)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(1.5)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert int(out.split()[1]) > 0
