"""Battery O: every optimizer against its equations in float64, over a fixed sequence of gradients, and torch.optim.

A loss whose slope is always 1/2 makes the gradient of a dense layer what its inputs say, so that the very same sequence
can be brought by `fit`, by a hook that adds to gradients that are zero, and to the functions of `nnfast.functional`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import nnfast as nn
from batteries import Figure
from batteries.child import usable_backends
from batteries.equations import INPUTS, OUTPUTS, WEIGHTS, all_settings, expected_end, fixed_sequence
from batteries.tally import Tally
from nnfast.testing import assert_parity

__all__ = ["battery"]

FAR = 1e6  # targets out of reach: the mean absolute error falls with slope 1/OUTPUTS on this side of them

# Per step, in float32. A step rounds a parameter by at most 6e-8 where it lies in ±[1, 2), by half of that below 1, and
# a constant change is rounded the same way every time, so that errors may grow with the steps: 5e-5 in 1,000.
BESIDE_EQUATIONS, BETWEEN_BACKENDS = 5e-8, 1e-8
FLOAT64 = 1e-10  # of the parameter

CLASSES = {
    "SGD": nn.SGD,
    "momentum": nn.SGD,
    "Nesterov": lambda *given, **more: nn.SGD(*given, nesterov=True, **more),
    "Adagrad": nn.Adagrad,
    "RMSprop": nn.RMSprop,
    "Adam": nn.Adam,
    "AdamW": nn.AdamW,
    "AdamW on weights": nn.AdamW,
}


def battery(thorough: bool) -> Iterator[Figure]:
    sequence = fixed_sequence(10_000 if thorough else 1_000)
    steps = len(sequence.gradients)
    expected = {setting: expected_end(setting, sequence) for setting in all_settings(sequence)}
    runs = [(s, way, b) for s in expected for way in WAYS for b in usable_backends() if thorough or _chosen(s, way)]
    for dtype in ("float32", "float64"):
        ends, tally = {}, Tally(f"{dtype}, {steps:,} steps, against the equations")
        for setting, way, backend in runs:
            want = expected[setting]
            limit = np.where(want == 0, 0, BESIDE_EQUATIONS * steps) if dtype == "float32" else FLOAT64 * np.abs(want)
            end = ends[setting, way, backend] = WAYS[way](setting, sequence, backend, dtype)
            tally.add(f"{setting.name}, {way}, {backend}", assert_parity, end, want, limit=limit, dtype=dtype)
        yield tally.figure(f"{len(expected)} settings, {len(WAYS)} ways, {' and '.join(usable_backends())}")
        yield _between_backends(ends, steps) if dtype == "float32" else _beside_torch(ends, sequence, thorough)


def _chosen(setting, way) -> bool:
    """The short form brings every setting by `fit`, and the first and the last of each optimizer in all ways."""
    return way == "fit" or setting.variant in ("plain", "all of it")


def _between_backends(ends, steps) -> Figure:
    what = "float32, numba beside numpy"
    if "numba" not in usable_backends():
        return Figure(what, 0, skipped="numba is not there")
    tally = Tally(what)
    for (setting, way, backend), end in ends.items():
        if backend == "numba":
            want = ends[setting, way, "numpy"]
            tally.add(f"{setting.name}, {way}", assert_parity, end, want, limit=BETWEEN_BACKENDS * steps)
    return tally.figure()


def _beside_torch(ends, sequence, thorough) -> Figure:
    what = "float64, beside torch.optim"
    try:
        from batteries.torch_optimizers import EXCLUDED, end_in_torch
    except ImportError as error:
        return Figure(what, 0, skipped=f"PyTorch is not there: {error}")
    tally, known, left_out = Tally(what), {}, set()
    for (setting, way, backend), end in ends.items():
        if (setting.kind, bool(setting.decay)) in EXCLUDED:
            left_out.add(setting)
            continue
        if not thorough and setting.variant in ("L1", "clipped"):  # torch has neither; both are in "all of it"
            continue
        if setting not in known:
            known[setting] = end_in_torch(setting, sequence)
        limit = FLOAT64 * np.abs(known[setting])
        tally.add(f"{setting.name}, {way}, {backend}", assert_parity, end, known[setting], limit=limit)
    return tally.figure(f"{len(left_out)} settings left out: momentum under a rate that decays is another convention")


# ---- three ways to bring the gradients -------------------------------------------------------------------------------


def _model(setting, sequence, backend, dtype) -> nn.Model:
    penalties = {"weight_l1": setting.l1, "weight_l2": setting.l2, "bias_l1": setting.l1, "bias_l2": setting.l2}
    optimizer = CLASSES[setting.kind](setting.rate, setting.decay, clip_norm=setting.clip, **setting.numbers)
    layers = [nn.Dense(INPUTS, OUTPUTS, "zeros", **penalties)]
    model = nn.Model(layers, nn.MeanAbsoluteError(), optimizer, backend=backend, dtype=dtype)
    weights, biases = np.split(sequence.start, [WEIGHTS])
    model.set_weights([weights.reshape(INPUTS, OUTPUTS), biases])
    return model


def _end(model):
    return np.concatenate([array.reshape(-1) for array in model.get_weights()])


def _by_fit(setting, sequence, backend, dtype):
    """One row for each step: its gradient is the row, with the sign of the distance to its target."""
    model = _model(setting, sequence, backend, dtype)
    model.fit(sequence.x, -FAR * sequence.signs, epochs=1, batch_size=1, shuffle=False, verbose=0)
    return _end(model)


def _by_hook(setting, sequence, backend, dtype):
    """Two rows of zeros that pull to both sides have no gradient but the penalties'; the hook adds that of the step."""
    model = _model(setting, sequence, backend, dtype)
    blocks, gradients = model.program.layout.blocks, iter(sequence.gradients)

    def add(flat):
        for block, part in zip(blocks, np.split(next(gradients), [WEIGHTS]), strict=True):
            flat[block.offset : block.offset + block.size] += part.astype(dtype)

    x, targets = np.zeros((2, INPUTS)), np.array([[FAR] * OUTPUTS, [-FAR] * OUTPUTS])
    model.fit(x, targets, epochs=len(sequence.gradients), verbose=0, on_gradients=add)
    assert next(gradients, None) is None, "the hook was not called for every step"
    return _end(model)


def _by_functions(setting, sequence, backend, dtype):
    """A training loop of one's own on flat arrays."""
    p, state = sequence.start.astype(dtype), [np.zeros(len(sequence.start), dtype) for _ in range(2)]
    for t, g in enumerate(sequence.gradients.astype(dtype), 1):
        if setting.l1 or setting.l2:
            g += nn.functional.penalty(p, l1=setting.l1, l2=setting.l2, backend=backend)[1]
        if setting.clip is not None:
            nn.functional.clip_by_global_norm(g, clip_norm=setting.clip, backend=backend)
        rate = setting.rate / (1 + setting.decay * (t - 1))
        _update(setting, p, g, *state, step=t, learning_rate=rate, backend=backend)
    return p


def _update(setting, p, g, a, b, *, step, **common):
    """The function of this optimizer, its state in a, and in b where it has a second array."""
    F, numbers = nn.functional, dict(setting.numbers)
    if setting.kind == "SGD":
        F.sgd_step(p, g, **common)
    elif setting.kind in ("momentum", "Nesterov"):
        F.sgd_step(p, g, a, nesterov=setting.kind == "Nesterov", **numbers, **common)
    elif setting.kind == "Adagrad":
        F.adagrad_step(p, g, a, **numbers, **common)
    elif setting.kind == "RMSprop":
        F.rmsprop_step(p, g, a, **numbers, **common)
    elif numbers.pop("decay_biases", True):
        F.adam_step(p, g, a, b, step=step, **numbers, **common)
    else:
        weights, biases = ([array[part] for array in (p, g, a, b)] for part in (slice(WEIGHTS), slice(WEIGHTS, None)))
        F.adam_step(*weights, step=step, **numbers, **common)
        F.adam_step(*biases, step=step, **numbers | {"weight_decay": 0}, **common)


WAYS = {"fit": _by_fit, "hook": _by_hook, "functions": _by_functions}
