"""The process that reads files which nobody should trust, while all that it does is watched.

    python -m batteries.reading FOLDER FIRST END

tries the files of these numbers and prints, as JSON, what became of each sort, and whether the watch would notice
what careless readers do.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from pathlib import Path

from damaged_files import content, go_on, untrained_model

from batteries.attempts import ANYTHING, Attempts
from batteries.watching import Watch, noticed
from nnfast import checkpoint
from nnfast.errors import CheckpointError

USES = {  # how a file is read, and what is to be compared then
    "load": (lambda model, path: checkpoint.load(path, backend="numpy"), lambda model, made: content(made)),
    "restore": (checkpoint.restore, lambda model, made: content(model)),
    "read_run": (lambda model, path: checkpoint.read_run(path), lambda model, made: repr(made)),
    "load_weights": (checkpoint.load_weights, lambda model, made: model.parameters.tobytes()),
    "resume": (go_on, lambda model, made: content(model)),
    "examine": (lambda model, path: checkpoint.examine(path), lambda model, made: made[1]),
}


class Reader:
    """Reads one file after the other in every way."""

    def __init__(self, path):
        self.path = path
        self.watch = Watch(path)
        self.most = {"seconds": 0, "growth": 0}  # of the last file

    def read(self, attempt):
        """What went wrong, and whether anything could be read."""
        self.path.write_bytes(attempt.raw)
        model = untrained_model()
        self.most = dict.fromkeys(self.most, 0)
        wrong, taken = [], False
        for name, (use, answer) in USES.items():
            before = content(model)
            made, failed, seen = self.watch(lambda use=use: use(model, self.path))
            self.most = {n: max(most, getattr(seen, n)) for n, most in self.most.items()}
            said = seen.complaints(len(attempt.raw))
            if failed is None:
                said += self._of_answer(attempt, name, answer(model, made))
                said += self._of_model(made) if name == "load" else []
                taken = taken or name != "examine"
            else:
                said += self._of_refusal(failed, changed=content(model) != before)
            wrong += [f"{name}: {words}" for words in said]
        return wrong, taken

    def _of_answer(self, attempt, name, answer):
        if name not in attempt.allowed:
            return ["it was not refused"]
        expected = attempt.allowed[name]
        return [] if expected is ANYTHING or answer == expected else ["it gave something else than was written"]

    def _of_refusal(self, failed, *, changed):
        said = ["it was refused, and the model has changed"] if changed else []
        if not isinstance(failed, CheckpointError):
            return [*said, f"it raised {type(failed).__name__}: {failed!s:.300}"]
        return said if str(self.path) in str(failed) else [*said, f"the error does not name the file: {failed!s:.300}"]

    def _of_model(self, model):
        """What could be loaded can be saved again."""
        beside = self.path.with_name("again")
        try:
            checkpoint.save(model, beside)
            again = checkpoint.load(beside, backend="numpy")
        except Exception as failed:
            return [f"what was loaded cannot be saved and loaded: {type(failed).__name__}: {failed!s:.300}"]
        return [] if content(again) == content(model) else ["what was loaded, saved and loaded has changed"]


def main():
    folder, numbers = Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3]))
    attempts = Attempts(folder)
    reader = Reader(folder / "file")
    importlib.import_module("difflib")  # with which nnfast's errors find a name that is like a wrong one
    for attempt in attempts.good():
        reader.read(attempt)  # brings what reading needs
    warnings.simplefilter("error")
    os.fsync = lambda number: None  # a thousand files are saved again, and no power is cut
    sorts = {}
    for attempt in attempts.good():
        _note(sorts, attempt, "a good file", reader)
    for number in numbers:
        _note(sorts, attempts(number), f"file {number}", reader)
    print(json.dumps({"sorts": sorts, "careless": noticed(reader.watch, reader.path)}))


def _note(sorts, attempt, name, reader):
    wrong, taken = reader.read(attempt)
    if attempt.sort == "good" and not taken:
        wrong = [*wrong, "it could not be read"]
    entry = sorts.setdefault(attempt.sort, {"tried": 0, "read": 0, "seconds": 0, "growth": 0, "failures": []})
    entry["tried"] += 1
    entry["read"] += taken
    entry["seconds"], entry["growth"] = (max(entry[n], reader.most[n]) for n in ("seconds", "growth"))
    entry["failures"] += [f"{name}, {words}" for words in wrong]


if __name__ == "__main__":
    main()
