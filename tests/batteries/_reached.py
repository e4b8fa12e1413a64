"""Every public function of the library and every argument of it, found by looking, and which of them need no trial."""

from __future__ import annotations

import inspect
import re
from importlib.util import find_spec

import nnfast as nn
from nnfast import (
    callbacks,
    checkpoint,
    datasets,
    functional,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    plots,
    predictor,
    schedules,
)
from nnfast.compat import _optimizers, nnfs
from nnfast.settings import Number

__all__ = ["EXCEPTIONS", "missed", "public_arguments"]

MODULES = {
    "": (nn, layers, losses, optimizers, callbacks),
    "functional.": (functional,),
    "metrics.": (metrics,),
    "initializers.": (initializers,),
    "schedules.": (schedules,),
    "datasets.": (datasets,),
    "checkpoint.": (checkpoint,),
    "plots.": (plots,),
    "compat.": (nnfs,),
}
if find_spec("sklearn") is not None:
    from nnfast import sklearn

    MODULES["sklearn."] = (sklearn,)
# Classes whose objects people hold, though they seldom write the name.
OTHERS = {
    "": (predictor.Predictor, schedules.StepSchedule, metrics.Metric, initializers.Initializer),
    "compat.": (_optimizers.Optimizer,),
}

# What is not tried, and why: patterns of "Class.method(argument)".
EXCEPTIONS = {
    r"plots\..*|Model\.plot_.*|History\.plot\(.*|.*\.plot\(.*": "drawing; tests/test_plots.py tries its arguments",
    r"Model\.profile\(.*": "measuring takes seconds; tests/test_profiling.py tries its arguments",
    r"from_(torch|keras|onnx)\(.*|Model\.to_(c|onnx|torch)\(.*": "tests/test_exchange_*.py try their arguments",
    r".*(save|load)_weights\((layout|modules)\)": "tests/test_exchange_names.py tries them",
    r"Standardize(\(n_inputs\)|\.(fit|mean|std|trainable)\(.*)": "tests/test_standardize.py tries its arguments",
    r".*\.(on_begin|on_epoch|on_step|on_end|state|check_state|restore)\(.*": "what a callback is called with by fit",
    r"CallbackList.*|Monitoring.*": "behind the callbacks: made by fit, or by callbacks that have their own trials",
    r"(Callback|Optimizer|GradientOptimizer)\(.*": "a base class; its arguments are those of the classes made of it",
    r".*\.(lower|lower_update|structure|n_outputs_for|initial_values|drawn|compute|gradient)\(.*": "told to us",
    r".*\.(check|check_model|value|scalar|learning_rates|improved|merged)\(.*": "called by the library",
    r"Metric\((name|op)\)": "metrics are made by functions and by PythonMetric",
    r"PythonMetric\.__call__\(backend\)": "documented to have no say",
    r"History(\(.*|\.extend\(.*)": "made and filled by fit",
    r"Program.*|Layout.*": "made by the lowering, and read",
    r"OpSpec\.flops\(.*": "called by Program.costs",
    r"(Predictor|DevicePredictor)\(.*": "made by Model.predictor",
    r"compat\..*\(training\)": "as in the book, anything that Python takes for true or false",
    r"compat\.init\(dot_precision_workaround\)": "accepted and without a meaning",
    r"compat\.Layer_Input\..*|compat\.Activation_(ReLU|Linear)\.predictions\(.*": "gives back what it is given",
    r"compat\.(Loss|Accuracy)\.(forward|backward|compare|init)\(.*": "for a class of one's own to define",
    r"compat\.Loss\.(calculate|calculate_accumulated)\(include_regularization\)": "as in the book",
    r"compat\.Loss\.(remember_trainable_layers|regularization_loss)\(.*": "any object that has penalties, or none",
    r"compat\.Optimizer\(.*": "a base class; its arguments are those of the four",
    r"compat\.Model\.(forward|backward)\(.*": "calls the parts one after the other",
}


def public_arguments():
    """All of them, as "functional.dense(x)", "Model.fit(epochs)", "Dense.weights(value)"."""
    found, known = [], set()
    for prefix, modules in MODULES.items():
        things = [
            (name, getattr(module, name))
            for module in modules
            for name in module.__all__
            if module is not nn or _own(name)
        ]
        things += [(thing.__name__, thing) for thing in OTHERS.get(prefix, ())]
        for name, thing in things:
            if id(thing) in known or not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            known.add(id(thing))
            short = prefix if not inspect.isclass(thing) or prefix in ("compat.", "schedules.") else ""
            if thing in (schedules.StepSchedule, initializers.Initializer, metrics.Metric):
                short = ""
            found += [f"{short}{name}{rest}" for rest in (_of_class(thing) if inspect.isclass(thing) else _of(thing))]
    return list(dict.fromkeys(found))


def _own(name):
    return not name.startswith("__") and not inspect.ismodule(getattr(nn, name))


def _of(function):
    """Its arguments, in brackets; those of `**common` are the base class's."""
    parameters = inspect.signature(function).parameters.values()
    kept = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != "self"]
    return [f"({name})" for name in kept]


def _of_class(kind):
    """Its own constructor, methods, and attributes that can be set."""
    found = []
    for name, member in vars(kind).items():
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        settable = isinstance(member, property) and member.fset is not None and not name.startswith("_")
        if isinstance(member, Number) or settable:
            found.append(f".{name}(value)")
        elif inspect.isfunction(member) and name == "__init__":
            found += _of(member)
        elif inspect.isfunction(member) and (not name.startswith("_") or name == "__call__"):
            found += [f".{name}{argument}" for argument in _of(member)]
    return found


def missed(reached):
    """What is neither reached nor an exception; and exceptions and names that stand for nothing."""
    public = public_arguments()
    words = []
    for argument in public:
        if argument not in reached and not any(re.fullmatch(pattern, argument) for pattern in EXCEPTIONS):
            words.append(f"{argument} is never tried")
    for pattern in EXCEPTIONS:
        if not any(re.fullmatch(pattern, argument) for argument in public):
            words.append(f"the exception {pattern!r} is of nothing")
    return words
