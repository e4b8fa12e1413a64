"""Checkpoints: files that nobody should trust, and saves that fail at every call or are killed at any moment."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from damaged_files import content, trained_model
from failing_saves import failing_in_turn, save_carelessly
from small_models import classifier

import nnfast as nn
from batteries import Figure
from batteries.child import answer_of
from batteries.measuring import MIB
from nnfast import checkpoint
from nnfast.errors import CheckpointError

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
BROKEN = "no whole file is left"


def battery(thorough):
    with tempfile.TemporaryDirectory() as folder:
        yield from _read(folder, 50_000 if thorough else 2_000)
    with tempfile.TemporaryDirectory() as folder:
        yield from _let_down(Path(folder))
    if hasattr(os, "fork"):
        yield from _killed(500 if thorough else 50)


# ---- reading --------------------------------------------------------------------------------------------------------

SORTS = {
    "good": "sound files",
    "damaged": "damaged files",
    "forged": "forged files",
    "headers": "impossible headers",
    "foreign": "files of others",
}


def _read(folder, files):
    """In a process of its own: what watches it cannot be taken off again."""
    found = answer_of("batteries.reading", folder, 0, files, seconds=max(120, files // 4))
    for sort, name in SORTS.items():
        tried = found["sorts"][sort]
        most = f"at most {1000 * tried['seconds']:.0f} ms and {tried['growth'] / MIB:.1f} MiB"
        yield Figure(name, tried["tried"], tuple(tried["failures"]), f"{tried['read']:,} could be read, {most}")
    careless = found["careless"]
    unseen = tuple(f"the watch does not see it: {word}" for word, seen in careless.items() if not seen)
    yield Figure("control: careless readers", len(careless), unseen, "each of them is noticed")


# ---- saves that the system lets down --------------------------------------------------------------------------------


def _whole(path):
    return content(checkpoint.load(path, backend="numpy"))


def _weights(path):
    model = classifier(rng=7)
    model.load_weights(path)
    return model.parameters.tobytes()


def _let_down(folder):
    old, new = classifier(nn.Adam(), rng=9), trained_model()
    for name, save, read in (
        ("model.nnfast", nn.Model.save, _whole),
        ("weights.npz", nn.Model.save_weights, _weights),
        ("weights.safetensors", nn.Model.save_weights, _weights),
    ):
        tried, failures, calls = _each_call(folder / name, old, new, save, read)
        said = f"{len(calls)} kinds of calls, {len(ERRORS)} errors, before and after their work"
        yield Figure(f"failing calls, {name}", tried, tuple(failures), said)
    tried, failures, _ = _each_call(folder / "careless.nnfast", old, new, save_carelessly, _whole)
    broken = [failure for failure in failures if BROKEN in failure]
    harmless = () if broken else ("a writer without care never left a broken file: the calls fail harmlessly",)
    yield Figure("control: failing calls of a careless writer", tried, harmless, f"{len(broken)} left no whole file")


def _each_call(path, old, new, save, read):
    """Tries, what went wrong, and the calls that have failed."""
    save(new, path)
    states = {"new": read(path)}
    save(old, path)
    states["old"] = read(path)
    tried, failures, calls = 0, [], set()
    for number in ERRORS:
        for late in (False, True):
            fault = OSError(number, os.strerror(number))
            for a_try in failing_in_turn(lambda: save(old, path), lambda: save(new, path), fault, late=late):
                where = f"{errno.errorcode[number]} at call {len(a_try.before) + 1}, {a_try.failed}"
                failures += [f"{where}: {words}" for words in _wrong(a_try, path, read, states, number, late)]
                tried += 1
                calls.add(a_try.failed)
    return tried, failures, calls - {None}


def _wrong(a_try, path, read, states, number, late):
    """What is not as it should be after a save."""
    moved = "replace" in a_try.before or (late and a_try.failed == "replace")
    expected = "new" if moved or a_try.error is None else "old"  # zipfile gets over a seek that fails
    try:
        found = read(path)
    except CheckpointError as error:
        return [f"{BROKEN}: {error}"]
    said = [] if found == states[expected] else [f"the {expected} file should be there"]
    if a_try.error is not None and not (isinstance(a_try.error, CheckpointError) and a_try.error.errno == number):
        said.append(f"it raised {a_try.error!r}")
    if a_try.failed is None and a_try.error is not None:
        said.append("no call failed, and it was not saved")
    if left := {p.name for p in path.parent.iterdir() if p.name.startswith(".")}:
        said.append(f"leftovers: {left}")
    return said


# ---- saves that are killed ------------------------------------------------------------------------------------------


def _killed(kills):
    for how, name in (("safe", "saves killed"), ("careless", "control: saves of a careless writer killed")):
        with tempfile.TemporaryDirectory() as folder:
            times = kills if how == "safe" else 12
            found = answer_of("batteries.killed_saves", Path(folder) / "model", times, how, seconds=60 + kills)
        said = f"{found['good']} whole, {found['broken']} broken, {found['different']} different"
        if how == "safe":
            as_hoped = found == {"good": times, "broken": 0, "different": times, "left": 1}
        else:
            as_hoped = found["broken"] > 0
        yield Figure(name, times, () if as_hoped else (f"{found}",), said)
