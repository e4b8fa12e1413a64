"""Ops of one's own: what an `OpSpec` says, and `register_op`. Only what must be refused is registered."""

from __future__ import annotations

import nnfast as nn
from batteries._bad_settings import FLAG, callable_like, objects, word
from batteries._kinds import Kind, always, one_of
from batteries._targets import Target, plain

__all__ = ["TARGETS"]

SPEC = nn.OpSpec("battery_cube", "x[N,I] -> y[N,I]", "y = scale·x³", scalars=["scale"])


def _reference(x, y, *, scale):
    y[...] = scale * x**3


def _no_function(x, y):
    y[...] = x


def _register(world, **given):
    """With all that is right, nothing is called: what is registered would stay for good."""
    right = {"spec": SPEC, "reference": _reference, "numba": None, "cuda": None}
    if any(given[name] is not right[name] for name in right):
        nn.register_op(given.pop("spec"), **given)


def _others():
    return {
        "another signature": always(_no_function),
        "other names": always(lambda a, b, *, scale: None),
        "a class of kernels": always(dict),
    }


def _specs():
    kind = objects(always(SPEC), a_signature=always("x[N,I] -> y[N,I]"))
    named = nn.OpSpec("relu", "x[N,I] -> y[N,I]", scalars=["scale"])
    flat = nn.OpSpec("battery_flat", "x[N] y[N]:label -> total[]!:f8", scalars=["scale"])
    half = nn.OpSpec("battery_half", "x[N,I]:f2 -> y[N,I]", scalars=["scale"])
    return kind._replace(
        wrong=kind.wrong
        | {"a dtype that is none": always(half), "a name that is taken": always(named), "flat labels": always(flat)}
    )


def _spec_targets():
    name = word("cube").but("misspelt", "in capitals", "with a blank")
    signature = word("x[N,I] -> y[N,I]").but("in capitals", "with a blank", "misspelt", **_signatures())
    words = _words()
    flops = objects(always(3), none=True).but("a number", "a class", "a truth value", negative=one_of(-1, 2.5, True))
    kinds = {
        "name": name,
        "signature": signature,
        "equation": word("y = x").but("misspelt", "in capitals", "with a blank", "empty"),
    }
    yield plain("OpSpec", nn.OpSpec, **kinds, scalars=words, attributes=words, flops=flops, by_rows=FLAG)


def _signatures():
    return {
        "no_brackets": always("x -> y"),
        "no_end": always("x[N,I -> y[N,I]"),
        "no_name": always("[N,I] -> y[N,I]"),
        "no_arrays": one_of("->", " "),
        "a_name_twice": always("x[N,I] x[N,I] -> y[N,I]"),
    }


def _words():
    faults = {"text": always("scale"), "a number": one_of(3, 0.5), "None": always(None), "numbers": always([1, 2])}
    faults |= {"no names": always(["a b"]), "one twice": always(["a", "a"]), "an object": lambda draw, x: object()}
    return Kind(always(()), faults)


def _targets():
    yield from _spec_targets()
    kernel = callable_like(always(_reference))
    numba = callable_like(always(None), none=False, another_number=always(_no_function), no_signature=always(max))
    cuda = callable_like(always(None), none=False)
    kinds = {"spec": _specs(), "reference": kernel._replace(wrong=kernel.wrong | _others()), "numba": numba}
    yield Target("register_op", _register, kinds | {"cuda": cuda._replace(wrong=cuda.wrong | _others())})


TARGETS = [*_targets()]
