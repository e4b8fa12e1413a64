"""Schedules, initializers, metrics, datasets, callbacks; backends, own ops and threads."""

from __future__ import annotations

import numpy as np

import nnfast as nn
from batteries._bad_arrays import labels, real, targets, weights
from batteries._bad_settings import BACKEND, FLAG, RNG, TARGET, callable_like, number, objects, whole, word
from batteries._kinds import Kind, always, one_of
from batteries._targets import Target, method, plain
from nnfast import callbacks, datasets, initializers, metrics, schedules

__all__ = ["TARGETS"]

RATE = number(0)
SHARE = number(0, 1, low_open=True)
MODE = word("auto", "min", "max")


def _schedules():
    yield plain("schedules.InverseTimeDecay", schedules.InverseTimeDecay, learning_rate=RATE, decay=number(0))
    yield plain("schedules.StepDecay", schedules.StepDecay, learning_rate=RATE, every=whole(1), factor=SHARE)
    yield plain(
        "schedules.ExponentialDecay", schedules.ExponentialDecay, learning_rate=RATE, rate=SHARE, every=whole(1)
    )
    warmup = whole(0, right=2).but(as_long_as_all=always(9))
    cosine = {"learning_rate": RATE, "steps": whole(1, right=9), "final": number(0), "warmup": warmup}
    yield plain("schedules.CosineDecay", schedules.CosineDecay, **cosine)
    cycle = {"max_rate": RATE, "steps": whole(1), "rise": number(0, 1, low_open=True, high_open=True)}
    divisors = {"start_divisor": number(1), "final_divisor": number(1)}
    yield plain("schedules.OneCycle", schedules.OneCycle, **cycle, **divisors)
    steps = {"boundaries": _list([2, 5], whole(1), falling=[5, 2], twice_the_same=[2, 2], one_more=[2, 5, 7])}
    values = {"values": _list([0.1, 0.2, 0.3], RATE, one_less=[0.1, 0.2], one_more=[0.1] * 4, none_at_all=[])}
    yield plain("schedules.PiecewiseConstant", schedules.PiecewiseConstant, **steps, **values)
    yield method("StepSchedule.rates", "schedule", first=whole(0), count=whole(0))
    yield method("StepSchedule.__call__", "schedule", step=whole(0))


def _list(right, kind, **more):
    """A list of numbers: no list, one wrong number in it, or what `more` says."""
    faults = {"a number": one_of(3, 0.5), "text": always("123"), "bytes": always(b"12"), "None": always(None)}
    faults |= {"an object": lambda draw, x: object(), "a function": always(len)}
    for what, fault in kind.wrong.items():
        faults[f"{what} in it"] = lambda draw, x, fault=fault: [*x[:-1], fault(draw, x[-1])]
    faults |= {what.replace("_", " "): always(value) for what, value in more.items()}
    return Kind(lambda draw: list(right), faults)


def _initializers():
    yield plain("initializers.normal", initializers.normal, scale=number(0))
    rules = ("normal", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "zeros")
    yield plain("initializers.resolve", initializers.resolve, initializer=word(*rules).but("a class"))
    yield Target("Initializer", _initializer, {"name": word("normal"), "options": _options()})
    shape = _list([3, 2], whole(1), three=[3, 2, 2], one=[3], none_at_all=[])
    yield Target("Initializer.__call__", _draw_weights, {"shape": shape, "rng": RNG})
    for name in rules:
        sizes = _list([3, 2], whole(0, right=3))
        yield Target("Initializer.__call__", lambda world, shape, name=name: _rule(name)(shape, 0), {"shape": sizes})


def _initializer(world, name, options):
    return initializers.Initializer(name, **(options or {}))


def _options():
    faults = {
        f"a scale: {what}": (lambda draw, x, fault=fault: {"scale": fault(draw, 0.1)})
        for what, fault in number(0).wrong.items()
    }
    return Kind(
        always({"scale": 0.5}), faults | {"an option that it has not": always({"gain": 1.0}), "none": always({})}
    )


def _rule(name):
    return getattr(initializers, name)()


def _draw_weights(world, shape, rng):
    return initializers.glorot_uniform()(shape, rng)


def _metrics():
    output, classes = real("N", "O", fixed="NO"), real("N", "O", fixed="N")
    common = {"sample_weight": weights(), "backend": BACKEND}
    yield plain("Metric.__call__", metrics.accuracy, output=classes, y=labels(), **common)
    yield plain("Metric.__call__", metrics.top_k(2), output=classes, y=labels(), **common)
    unit = targets("N", "O", low=0, high=1)
    yield plain("Metric.__call__", metrics.binary_accuracy, output=output, y=unit, **common)
    for metric in (metrics.r2, metrics.mean_absolute_error, metrics.regression_accuracy(0.1)):
        yield plain("Metric.__call__", metric, output=output, y=targets("N", "O"), **common)
    # By hand it computes where the output lies, whatever `backend` is.
    own = {"output": output, "y": targets("N", "O"), "sample_weight": weights()}
    yield Target("PythonMetric.__call__", lambda world, **given: world["near"](**given), own, ("near",))
    yield plain("metrics.top_k", metrics.top_k, k=whole(1))
    yield Target("metrics.regression_accuracy", _with_metric, {"precision": number(0), "name": _metric_name()})
    yield Target("PythonMetric", _with_own_metric, {"name": _metric_name()})
    known = word("accuracy", "binary_accuracy", "r2", "mean_absolute_error")
    yield plain(
        "metrics.resolve", metrics.resolve, metric=known.but(needs_a_number=one_of("top_k", "regression_accuracy"))
    )
    k = whole(1, right=11).but(too_few=always(1)).may_be_left_out()
    normalize = word("true", "pred", "all").may_be_left_out()
    kinds = {"output": classes, "y": labels(), "n_classes": k, "normalize": normalize, "threshold": number()}
    yield plain("metrics.confusion_matrix", metrics.confusion_matrix, **kinds)
    numbers = Kind(lambda draw: np.arange(draw.dims["N"]) % 2, _class_numbers())
    yield plain("metrics.confusion_matrix", metrics.confusion_matrix, output=numbers, y=numbers)


def _class_numbers():
    return {
        "floats": lambda draw, a: a.astype(float),
        "negative": lambda draw, a: a - 1,
        "far too large": lambda draw, a: a + 2**40,
        "beyond int64": lambda draw, a: a.astype(np.uint64) + np.uint64(2**63),
        "one more": lambda draw, a: np.append(a, 0),
        "none": lambda draw, a: a[:0],
        "three dimensions": lambda draw, a: a[None, None],
        "text": lambda draw, a: a.astype(str),
        "None": always(None),
    }


def _metric_name():
    faults = {"a number": one_of(3, 0.5), "a list": lambda draw, x: ["a"], "an object": lambda draw, x: object()}
    faults |= {"empty": always(""), "one of the history's": one_of("loss", "penalty", "data_loss", "val_loss", "a.b")}
    faults |= {"bytes": always(b"a"), "an array": lambda draw, x: np.array([1.0, 2.0]), "a truth value": always(True)}
    return Kind(one_of("within", "close"), faults)


def _with_metric(world, precision, name):
    """The name is looked at by the model: a metric by hand needs none."""
    metric = metrics.regression_accuracy(precision, name)
    return nn.Model([nn.Dense(2, 2)], nn.MeanSquaredError(), metrics=[metric], backend=world.backend)


def _with_own_metric(world, name):
    metric = type("Own", (nn.PythonMetric,), {"compute": lambda self, output, y: output[:, 0]})(name)
    return nn.Model([nn.Dense(2, 2)], nn.MeanSquaredError(), metrics=[metric], backend=world.backend)


def _datasets():
    classes = whole(1, 256)
    for name in ("spiral", "case_study_spiral", "vertical"):
        yield plain(f"datasets.{name}", getattr(datasets, name), samples=whole(1), classes=classes, rng=RNG)
    yield plain("datasets.sine", datasets.sine, samples=whole(1))


def _callbacks():
    monitor = word("loss").may_be_left_out().but("misspelt", "in capitals", "with a blank", "empty")
    watching = {"monitor": monitor, "mode": MODE, "every": whole(1)}
    patience = {"patience": whole(1), "min_delta": number(0)}
    yield plain("EarlyStopping", callbacks.EarlyStopping, **watching, **patience, restore_best=FLAG)
    plateau = {"factor": number(0, 1, low_open=True, high_open=True), "cooldown": whole(0), "min_rate": number(0)}
    yield plain("ReduceLROnPlateau", callbacks.ReduceLROnPlateau, **watching, **patience, **plateau)
    path = TARGET.but("an array")
    steps = {"every_steps": whole(1).may_be_left_out(), "keep_best": FLAG}
    yield plain("ModelCheckpoint", callbacks.ModelCheckpoint, path=path, **watching, **steps)
    separator = word(";", ",", "\t").but("misspelt", "in capitals", a_digit=always("1"), a_sign=one_of("+", ".", "\n"))
    yield plain("CSVLogger", callbacks.CSVLogger, path=path, separator=separator, append=FLAG, every=whole(1))
    yield plain("TensorBoard", callbacks.TensorBoard, folder=path, every=whole(1))
    yield plain("ProgressBar", callbacks.ProgressBar, every=whole(1).may_be_left_out())
    yield plain("TerminateOnNaN", callbacks.TerminateOnNaN, every=whole(1))
    rule = callable_like(always(lambda epoch: 0.1)).but(
        a_class=always(schedules.OneCycle), no_arguments=always(lambda: 0.1), three=always(lambda a, b, c: 0.1)
    )
    yield plain("LearningRateSchedule", callbacks.LearningRateSchedule, schedule=rule, every=whole(1))


def _backends():
    yield plain("get_backend", nn.get_backend, backend=BACKEND)
    yield Target("use_backend", _use, {"backend": BACKEND.but(None_in_the_environment=always("nowhere"))})
    name = word("mine").but(
        "misspelt", "in capitals", "with a blank", "a class", taken=one_of("numpy", "numba", "auto")
    )
    factory = objects(always(None), none=False, no_module=one_of("a", "a:", ":b", "a:b:c")).but("a class")
    yield Target("register_backend", _register_backend, {"name": name, "factory": factory})
    yield Target(
        "set_num_threads",
        lambda world, n: n is None or nn.set_num_threads(n),
        {
            "n": whole(1, right=None).but(
                "None",
                "a float",
                "a float of NumPy",
                "a half",
                "a list",
                "a dictionary",
                "a tuple",
                "a 0-d array",
                "an array",
                floats=one_of(2.0, np.float32(2), 2.5, [2], (2,), {2: 2}),
                arrays=lambda draw, n: np.array(2),
            )
        },
    )


def _use(world, backend):
    with nn.use_backend(backend):
        pass


def _register_backend(world, name, factory):
    """Only what is refused is called: what is taken would stay for good."""
    named = isinstance(name, str) and name == "mine"
    if not named or factory is not None:
        nn.register_backend(name, "module:Class" if factory is None else factory)


TARGETS = [
    *_schedules(),
    *_initializers(),
    *_metrics(),
    *_datasets(),
    *_callbacks(),
    *_backends(),
]
