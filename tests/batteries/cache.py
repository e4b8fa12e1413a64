"""The cache of compiled functions under damage: the next process trains to the same bits, with one warning at most.

Each trial has a folder of its own, with the files of a clean run; something happens to them, and a new process trains.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from batteries import Figure
from batteries.cache_damage import DAMAGE, FOLDERS, any_file, exploded, files
from batteries.trainees import PATIENCE, Trainees, answer_of

pytest.importorskip("numba")

AT_ONCE = 2  # trials: a process that compiles keeps one processor busy
NO_HOMES = ("/dev/null", "/proc", "relative")
USELESS = "a file", "a link that leads nowhere"  # folders with which all is compiled; one such will do
BRIEF = [name for name in FOLDERS if name not in USELESS]
VMATH = "kernels/numba_cpu/vmath.py"
COEFFICIENT = "0.500000006199992108", "0.510000006199992108"  # of the exponential function: a helper of activations


PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096  # bytes


def battery(thorough):
    with tempfile.TemporaryDirectory() as folder:
        ground, repeats = Ground(Path(folder)), 8 if thorough else 1
        yield ground.figure("files damaged one at a time", ground.single(repeats))
        yield ground.figure("all files damaged at once", ground.mixed(repeats))
        yield ground.figure("folders damaged or closed", ground.folders(FOLDERS if thorough else BRIEF, repeats))
        yield ground.figure("no home", ground.homes(NO_HOMES if thorough else NO_HOMES[:1]))
        yield ground.figure("full disks", ground.disks(2 * repeats))
        yield ground.figure("a source edited and put back", [partial(edited, ground)])
        yield ground.figure("cold starts of 8 processes", [partial(stampede, ground)] * (25 if thorough else 1))


class Ground:
    """Where trials take place: the files of a clean run, the bits with which it ended, and new folders with copies."""

    def __init__(self, folder):
        self.folder, self.trainees = folder, Trainees(folder / "one")
        self._numbers = itertools.count()
        self.clean = folder / "clean" / "numba"
        first = self.ask(cache=self.clean.parent)
        again = self.ask(cache=self.clean.parent)
        assert not first.trouble + again.trouble, first.trouble + again.trouble
        assert (first.loaded, again.compiled) == (0, 0), "the cache does not work even without damage"
        assert first.value == again.value
        assert not first.warnings + again.warnings, first.warnings + again.warnings
        self.end = first.value
        self.names = sorted(path.name for path in self.clean.iterdir())
        assert len(self.names) == first.compiled

    def figure(self, what, trials):
        """Run the trials; each returns how much it tried and what went wrong."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(lambda trial: trial(), trials))
        failures = tuple(failure for _, wrong in results for failure in wrong)
        return Figure(what, sum(tried for tried, _ in results), failures, f"{len(results)} trials")

    def ask(self, trainees=None, **given):
        """What a process tells that trains, or why it does not."""
        return (trainees or self.trainees).ask("trainee", "small", seconds=PATIENCE, **given)

    def new_folder(self):
        return self.folder / str(next(self._numbers))

    def copy(self):
        """A new folder of the cache, with the files of the clean run."""
        place = self.new_folder() / "numba"
        shutil.copytree(self.clean, place)
        for path in (place.parent, place):
            path.chmod(0o700)
        return place

    # ---- trials -----------------------------------------------------------------------------------------------------

    def single(self, repeats):
        for seed, name in enumerate([*DAMAGE, "one bit flipped", "one bit flipped"] * repeats):
            yield partial(self._damaged, [name], seed, 1)

    def mixed(self, repeats):
        for seed in range(repeats):
            yield partial(self._damaged, [*DAMAGE], seed, len(self.names))

    def _damaged(self, kinds, seed, count):
        draw, place = random.Random(seed), self.copy()
        chosen = {name: draw.choice(kinds) for name in draw.sample(self.names, count)}
        for name, kind in chosen.items():
            DAMAGE[kind](place / name, draw)
        answer = self.ask(cache=place.parent)
        what = f"seed {seed}, {'; '.join(f'{kind}: {name[:8]}' for name, kind in chosen.items())}"
        wrong = self.wrong(what, answer, place) + self.unsound(what, place)
        if not answer.trouble and answer.compiled != count:
            wrong.append(f"{what}: {answer.compiled} functions were compiled, {count} files damaged")
        return count, wrong

    def folders(self, names, repeats):
        for seed, name in enumerate([*names] * repeats):
            yield partial(self._closed, name, seed)

    def _closed(self, name, seed):
        place = self.copy()
        FOLDERS[name](place, random.Random(seed))
        try:
            answer = self.ask(unprivileged=True, cache=place.parent)
        finally:
            if place.is_dir():
                place.chmod(0o700)
        return 1, self.wrong(f"seed {seed}, {name}", answer, place)

    def homes(self, homes):
        """Homes that are none: the cache is then nowhere."""
        for home in homes:
            yield partial(self._homeless, home)

    def _homeless(self, home):
        answer = self.ask(unprivileged=True, HOME=home, XDG_CACHE_HOME="", LOCALAPPDATA="")
        return 1, self.wrong(f"HOME={home}", answer)

    def disks(self, repeats):
        """Files cannot grow beyond some size, or the disk is full: nothing is left behind."""
        for seed in range(repeats):
            if os.name != "nt":
                yield partial(self._limited, seed)
            if can_mount():
                yield partial(self._full, seed)

    def _limited(self, seed):
        draw, place = random.Random(seed), self.copy()
        missing = any_file(place, draw)
        limit = draw.randrange(missing.stat().st_size)
        missing.unlink()
        answer = self.ask(largest_file=limit, cache=place.parent)
        wrong = self.wrong(f"seed {seed}, files of {limit} bytes at most", answer, place)
        return 1, wrong if missing.exists() or answer.warnings else [*wrong, f"seed {seed}: the limit was none"]

    def _full(self, seed):
        """A disk in memory, with room for all files but a part of one; no other process sees it."""
        draw, place = random.Random(seed), self.copy()
        missing = any_file(place, draw)
        free = draw.randrange(-(-missing.stat().st_size // PAGE))  # pages; the file has more
        missing.unlink()
        pages = sum(-(-path.stat().st_size // PAGE) for path in place.iterdir()) + 16
        disk = self.new_folder()
        disk.mkdir()
        script = f"""
            mount -t tmpfs -o size={pages * PAGE},mode=700 none "{disk}" && cp -a "{place}" "{disk}" || exit 1
            dd if=/dev/zero of="{disk}/rest" bs={PAGE} 2>/dev/null
            truncate -s -{free * PAGE} "{disk}/rest" && exec "$@"
        """
        before = ("unshare", "--mount", "sh", "-c", script, "sh")
        answer = self.ask(cache=disk, before=before)
        wrong = self.wrong(f"seed {seed}, a disk with {free} free pages", answer)
        return 1, wrong if answer.warnings else [*wrong, f"seed {seed}: the disk was not full"]

    # ---- what went wrong --------------------------------------------------------------------------------------------

    def wrong(self, what, answer, place=None):
        """What is to be said against a process that trained after some damage."""
        found = answer.wrong(self.end)
        if len(answer.warnings) > 1:
            found.append(f"{len(answer.warnings)} warnings: {answer.warnings}")
        if place is not None and place.is_dir():
            if exploded(place).exists():
                found.append("a pickle was loaded")
            if left := list(place.glob(f"{'[0-9a-f]' * 16}*.tmp")):
                found.append(f"{len(left)} temporary files are left")
        return [f"{what}: {failure}" for failure in found]

    def unsound(self, what, place):
        """The files that were not written anew."""
        for name in self.names:
            path = place / name
            try:
                files.unpack(path.stem, files.read(path))
            except (OSError, ValueError) as error:
                return [f"{what}: {name[:8]} was not written anew: {error}"]
        return []


def can_mount():
    """Whether a process may have file systems of its own: root's may, on Linux."""
    return shutil.which("unshare") is not None and os.system("unshare --mount true 2> /dev/null") == 0


# ---- sources --------------------------------------------------------------------------------------------------------


def edited(ground):
    """Another coefficient in a helper that kernels in other files use: new code, and with the old one the old code."""
    place, other = ground.copy(), Trainees(ground.new_folder())
    source = other.sources / "nnfast" / VMATH
    before = source.read_text(encoding="utf-8")
    assert COEFFICIENT[0] in before
    source.write_text(before.replace(*COEFFICIENT), encoding="utf-8")
    kept, unkept = (ground.ask(other, cache=place.parent, NNFAST_CACHE=on) for on in "10")
    source.write_text(before, encoding="utf-8")
    back = ground.ask(other, cache=place.parent)
    found = ground.wrong("edited", kept._replace(value=ground.end), place) + ground.wrong("put back", back, place)
    if kept.value != unkept.value:
        found.append("the edited source gives other bits with a cache than without")
    if kept.value == ground.end or kept.loaded:
        found.append(f"old code answered for the edited source: {kept.loaded} functions were loaded")
    if back.compiled:
        found.append(f"{back.compiled} functions were compiled again with the source put back")
    return 3, found


# ---- many at once ---------------------------------------------------------------------------------------------------


def stampede(ground, count=8):
    """Processes that find the cache empty at the same moment; what they leave serves the next one."""
    place = ground.new_folder() / "numba"
    given = {"cache": place.parent, "seconds": PATIENCE}
    started = [ground.trainees.start("trainee", "small", {"signalled": True}, **given) for _ in range(count)]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [answer_of(process) for process in started]
    found = [text for answer in answers for text in ground.wrong("one of many", answer, place)]
    if not any(answer.compiled for answer in answers):
        found.append("nothing was compiled: the cache was not cold")
    after = ground.ask(cache=place.parent)
    if after.compiled:
        found.append(f"the next process compiled {after.compiled} functions")
    return count, found + ground.wrong("the next process", after, place) + ground.unsound("afterwards", place)
