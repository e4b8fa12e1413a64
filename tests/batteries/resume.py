"""Trainings that are cut and gone on with in another process: the bits of those that were left alone."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from resuming import same, trained_in_spite_of

from batteries import Figure
from batteries.child import answer_of, usable_backends

KILLS = 50


def battery(thorough):
    backends = usable_backends()
    with tempfile.TemporaryDirectory() as folder:
        size = "thorough" if thorough else "short"
        whole, gone_on = (
            answer_of("batteries.continued", role, folder, size, *backends) for role in ("begin", "go_on")
        )
    for name in backends:
        yield _compared(name, {key: bits for key, bits in whole.items() if key.startswith(name)}, gone_on)
    alike = sum(gone_on[key]["careless"][1] == bits[1] for key, bits in whole.items())
    told = () if alike < len(whole) else ("going on from weights alone gives the same bits: nothing was tried",)
    yield Figure("control: from weights alone", len(whole), told, f"{len(whole) - alike} end elsewhere")
    if thorough and sys.platform != "win32":
        yield from (_killed(name) for name in backends)


def _compared(backend, whole, gone_on):
    failures = [
        f"{key}, {how}: other {'parameters' if gone_on[key][how][1] != bits[1] else 'state'}"
        for key, bits in whole.items()
        for how in ("anew", "loaded")
        if gone_on[key][how] != bits
    ]
    said = f"{len({bits[1] for bits in whole.values()})} different trainings, each in a new model and in a loaded one"
    return Figure(f"{backend}: cut, and gone on with elsewhere", 2 * len(whole), tuple(failures), said)


def _killed(backend):
    with tempfile.TemporaryDirectory() as folder:
        killed, model, whole = trained_in_spite_of(KILLS, Path(folder) / "run.nnfast", backend)
    failures = [] if killed > KILLS // 2 else [f"only {killed} of {KILLS} were killed before they were done"]
    try:
        same(whole, model)
    except AssertionError as error:
        failures.append(str(error))
    return Figure(f"{backend}: killed again and again", KILLS, tuple(failures), f"{killed} killed on the way")
