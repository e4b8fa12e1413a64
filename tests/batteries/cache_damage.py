"""What can have happened to a file of the cache, or to its folder, since it was written."""

from __future__ import annotations

import importlib
import os
import pickle
import shutil
from pathlib import Path

files = importlib.import_module("nnfast.kernels.numba_cpu.cache_files")


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def exploded(place):
    return place.parent / "exploded"


def cut(share):
    return lambda content, path, draw: content[: int(len(content) * share)]


def one_bit_flipped(content, path, draw):
    i = draw.randrange(len(content))
    return content[:i] + bytes([content[i] ^ 1 << draw.randrange(8)]) + content[i + 1 :]


def of_an_older_format(content, path, draw):
    return content.replace(b"kernel 1\n", b"kernel 0\n", 1)


def of_another_function(content, path, draw):
    """A sound file, under the wrong name."""
    others = [other for other in sorted(path.parent.glob(f"*{files.SUFFIX}")) if other != path and other.is_file()]
    return draw.choice(others).read_bytes()


def with_a_symbol_that_is_gone(content, path, draw):
    """As an older version of Numba may have had it; sound otherwise."""
    entry, symbols, code = files.unpack(path.stem, content)
    return files.pack(path.stem, entry, [*symbols, "nnfast_no_such_symbol"], code)


def a_foreign_pickle(content, path, draw):
    return pickle.dumps(Bomb(exploded(path.parent)))


def a_pickle_for_code(content, path, draw):
    """With the right checksum."""
    return files.pack(path.stem, "entry", [], pickle.dumps(Bomb(exploded(path.parent))))


def rewritten(make):
    """The damage that puts what `make` returns in the place of the content."""

    def damage(path, draw):
        path.write_bytes(make(path.read_bytes(), path, draw))

    return damage


def deleted(path, draw):
    path.unlink()


def a_folder(path, draw):
    path.unlink()
    path.mkdir(0o700)


def a_link_to_a_sound_file(path, draw):
    elsewhere = path.parent.parent / path.name
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def a_link_to_nothing(path, draw):
    path.unlink()
    path.symlink_to(path.parent.parent / "nothing")


def a_pipe(path, draw):
    path.unlink()
    os.mkfifo(path, 0o600)


def open_to_others(path, draw):
    path.chmod(draw.choice([0o602, 0o620, 0o666]))


def of_another_user(path, draw):
    os.chown(path, os.geteuid() + 1, -1)


# By what is said of it; each takes the path of a sound file and a `random.Random`.
DAMAGE = {
    "empty": rewritten(cut(0)),
    "cut at a quarter": rewritten(cut(0.25)),
    "cut in the middle": rewritten(cut(0.5)),
    "cut at three quarters": rewritten(cut(0.75)),
    "one bit flipped": rewritten(one_bit_flipped),
    "of an older format": rewritten(of_an_older_format),
    "of another function": rewritten(of_another_function),
    "with a symbol that is gone": rewritten(with_a_symbol_that_is_gone),
    "a foreign pickle": rewritten(a_foreign_pickle),
    "a pickle for code": rewritten(a_pickle_for_code),
    "deleted": deleted,
    "a folder": a_folder,
}
if os.name != "nt":
    DAMAGE |= {
        "a link to a sound file": a_link_to_a_sound_file,
        "a link to nothing": a_link_to_nothing,
        "a pipe": a_pipe,
        "open to others": open_to_others,
    }
    if os.geteuid() == 0:
        DAMAGE["of another user"] = of_another_user


# ---- folders --------------------------------------------------------------------------------------------------------


def read_only(place, draw):
    place.chmod(0o500)


def read_only_and_one_deleted(place, draw):
    any_file(place, draw).unlink()
    place.chmod(0o500)


def read_only_and_one_damaged(place, draw):
    DAMAGE["cut in the middle"](any_file(place, draw), draw)
    place.chmod(0o500)


def unreadable(place, draw):
    place.chmod(0)


def written_by_others(place, draw):
    place.chmod(draw.choice([0o770, 0o777, 0o1777]))


def a_file(place, draw):
    shutil.rmtree(place)
    place.write_bytes(b"")


def a_link_that_leads_nowhere(place, draw):
    shutil.rmtree(place)
    place.symlink_to(place.parent / "nowhere")


def full_of_litter(place, draw):
    """What interrupted writers and other versions leave behind."""
    for i in range(200):
        (place / f"{i}.tmp").write_bytes(draw.randbytes(100))
        (place / f"{draw.randbytes(32).hex()}{files.SUFFIX}").write_bytes(draw.randbytes(100))


def any_file(place, draw):
    return draw.choice(sorted(place.glob(f"*{files.SUFFIX}")))


# Each takes the folder of sound files. The trainee obeys the modes, also where root runs all this.
FOLDERS = {
    "full of litter": full_of_litter,
    "a file": a_file,
}
if os.name != "nt":
    FOLDERS |= {
        "read-only": read_only,
        "read-only and one file deleted": read_only_and_one_deleted,
        "read-only and one file damaged": read_only_and_one_damaged,
        "unreadable": unreadable,
        "written by others": written_by_others,
        "a link that leads nowhere": a_link_that_leads_nowhere,
    }
