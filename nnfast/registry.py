"""Which backends there are, and who computes when nobody says: names, loading on first use, selection.

Backends stand here as strings "module:Class", never as imports, so a backend costs nothing until it is asked for.
Another distribution adds one through an entry point in the group "nnfast.backends", a program with `register_backend`.

Who computes: the argument, else the object's own choice, else the innermost `use_backend`, else the environment
variable NNFAST_BACKEND, else "auto". A backend asked for by name works or raises `BackendUnavailable`; only "auto" may
take the next one.
"""

from __future__ import annotations

import importlib
import inspect
import os
import reprlib
import sys
from _thread import RLock  # what threading.RLock is; threading itself takes 0.6 ms to load
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nnfast.errors import BackendUnavailable, DTypeError, OptionError, UnknownBackend
from nnfast.protocol import API_VERSION, Backend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    Factory: TypeAlias = str | Callable[[], Backend]

__all__ = [
    "AUTO",
    "ENTRY_POINTS",
    "Availability",
    "available_backends",
    "backend_names",
    "device_backend",
    "get_backend",
    "notice",
    "portable",
    "register_backend",
    "use_backend",
]

AUTO = ("numba", "numpy")  # the order in which "auto" tries, never a GPU; a name without a backend is passed over
ENTRY_POINTS = "nnfast.backends"
ENVIRONMENT = "NNFAST_BACKEND"

_factories: dict[str, Factory] = {
    "numpy": "nnfast.kernels.reference:ReferenceBackend",
    "numba": "nnfast.kernels.numba_cpu:NumbaBackend",
    "cupy": "nnfast.kernels.cupy_gpu:CupyBackend",
    "cupy-tf32": "nnfast.kernels.cupy_gpu:CupyTF32Backend",
}
_instances: dict[str, Backend] = {}  # one per name, made on first use; "auto" too
_accepted: dict[int, Backend] = {}  # by id(): objects given as backend= and found good; kept, so that ids stay theirs
_published: dict[str, list[EntryPoint]] | None = None  # entry points by name, read on first use
_noticed: set[str] = set()
_lock = RLock()  # re-entrant: a backend may ask for another one while it is made
_current: ContextVar[Backend | None] = ContextVar("nnfast_backend", default=None)

_MEMBERS = (
    *inspect.get_annotations(Backend),
    *(name for name, member in vars(Backend).items() if inspect.isfunction(member) and not name.startswith("_")),
)


class Availability(str):
    """The word "available", or the reason why a backend cannot be used; true only for the first."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return self == "available"


def get_backend(backend: str | Backend | None = None) -> Backend:
    """The backend of this name (one instance per process), the object itself, or with None the one now selected."""
    if backend is None:
        current = _current.get()
        if current is not None:
            return current
        backend = os.environ.get(ENVIRONMENT) or "auto"
        if backend not in _instances:
            return _from_environment(backend)
    if not isinstance(backend, str):
        return _accept(backend)
    return _instances.get(backend) or _load(backend)


def device_backend(backend: str | Backend | None = None) -> Backend:
    """Who computes on arrays that lie on a GPU: as `get_backend`, but with "cupy" where nobody named a backend."""
    if backend is None:
        backend = _current.get() or os.environ.get(ENVIRONMENT) or "auto"
    return get_backend("cupy" if isinstance(backend, str) and backend == "auto" else backend)


@contextmanager
def use_backend(backend: str | Backend) -> Iterator[Backend]:
    """`with use_backend("numpy"): …`: the backend of everything inside that does not name its own.

    Holds for this thread or task only; a thread that is started inside begins without it.
    """
    chosen = get_backend(backend)
    token = _current.set(chosen)
    try:
        yield chosen
    finally:
        _current.reset(token)


def available_backends() -> dict[str, Availability]:
    """Every known name with "available" or the reason why not. Tries each one, so it loads what can be loaded."""
    found = {}
    for name in backend_names():
        try:
            _instances.get(name) or _load(name)
        except BackendUnavailable as error:
            found[name] = Availability(str(error).removeprefix(f"backend {name!r}: "))
        else:
            found[name] = Availability("available")
    for name, points in _entry_points().items():
        if name in _factories:
            owners = " and ".join(map(_owner, points))
            notice(f"the backend {name!r} of {owners} is left out: the name is taken; it must choose another")
    return found


def backend_names() -> list[str]:
    """Every known name, whether it can be used or not; loads none of them."""
    return list(dict.fromkeys([*_factories, *sorted(_entry_points())]))


def register_backend(name: str, factory: Factory) -> None:
    """Add a backend for this process: "module:Class", or a class or function that gives the Backend when called."""
    if not isinstance(name, str) or not name or name == "auto":
        raise OptionError(f"name is {name!r}; expected a non-empty string other than 'auto'")
    if isinstance(factory, str):
        if not all(part.strip() for part in factory.split(":")) or factory.count(":") != 1:
            raise OptionError(f"factory is {factory!r}; as a string it is 'module:Class'")
    elif not callable(factory):
        raise OptionError(f"factory is {factory!r}; expected 'module:Class' or a callable without arguments")
    with _lock:
        if name in _factories:
            raise OptionError(f"name is {name!r}, which is taken already by {_factories[name]}; choose another")
        _factories[name] = factory
        _instances.pop("auto", None)  # the new one may come first


def notice(text: str) -> None:
    """Tell the user something on stderr, once per process: for what works, but not as he may expect."""
    with _lock:
        if text in _noticed:
            return
        _noticed.add(text)
    print(f"nnfast: {text}", file=sys.stderr)


# ---- loading --------------------------------------------------------------------------------------------------------


def _load(name: str) -> Backend:
    if name == "auto":
        return _choose()
    factory = _factory(name)  # imports outside the lock: a lock held over an import can deadlock with the import lock
    with _lock:
        if name not in _instances:
            _instances[name] = _make(name, factory)
        return _instances[name]


def _choose() -> Backend:
    """The first of AUTO that works; says so once when that is not the first of them that exists."""
    failed: list[str] = []
    for name in (name for name in AUTO if name in _factories):
        try:
            backend = _instances.get(name) or _load(name)
        except BackendUnavailable as error:
            failed.append(str(error))
            continue
        if failed:
            notice(f"computing with backend {name!r}; " + "; ".join(failed))
        _instances["auto"] = backend
        return backend
    raise BackendUnavailable("no backend works here: " + "; ".join(failed))


def _from_environment(name: str) -> Backend:
    try:
        return _load(name)
    except BackendUnavailable as error:
        if name != "auto":
            error.add_note(f"The name comes from the environment variable {ENVIRONMENT}.")
        raise


def _factory(name: str) -> Callable[[], Backend]:
    """What makes the backend of this name: imported, not yet called."""
    target: Any = _factories.get(name)
    if target is None:
        target = _published_target(name)
    if not isinstance(target, str):
        return cast("Callable[[], Backend]", target)
    module, _, attribute = target.partition(":")
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # anything at all may go wrong in somebody else's module
        raise _failure(name, f"cannot import {target}", error) from error
    return cast("Callable[[], Backend]", found)


def _make(name: str, factory: Callable[[], Backend]) -> Backend:
    try:
        backend = factory()
    except Exception as error:
        raise _failure(name, "its constructor failed", error) from error
    return _conforming(backend, f"backend {name!r}")


def _accept(backend: Backend) -> Backend:
    """An object given as `backend=`, checked the first time that it is seen."""
    if _accepted.get(id(backend)) is not backend:
        if isinstance(backend, type):
            raise DTypeError(f"backend is the class {backend.__name__}; give an instance: {backend.__name__}()")
        _accepted[id(backend)] = _conforming(backend, f"backend {reprlib.repr(backend)}")
    return backend


def _conforming(backend: Backend, who: str) -> Backend:
    """The backend, if it has the protocol's members and version and says that it can work."""
    version = getattr(backend, "api_version", API_VERSION)
    if version != API_VERSION:
        raise BackendUnavailable(
            f"{who}: it is written for version {version!r} of the backend protocol, this nnfast has version "
            f"{API_VERSION}; install versions that fit each other"
        )
    missing = [member for member in _MEMBERS if not hasattr(backend, member)]
    if missing:
        raise BackendUnavailable(f"{who}: no Backend, it lacks {', '.join(missing)} (see nnfast.protocol.Backend)")
    try:
        reason = backend.unavailable()
    except Exception as error:
        raise BackendUnavailable(f"{who}: unavailable() failed, a fault of this backend: {_text(error)}") from error
    if reason is not None:
        raise BackendUnavailable(f"{who}: {reason}")
    return backend


def _failure(name: str, what: str, error: Exception) -> BackendUnavailable:
    root = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if root == "nnfast":  # only the installation maps kernels/ to nnfast.kernels
        fix = "this nnfast is not installed, or not whole: run `pip install -e .` in its checkout"
    else:
        others = [other for other in _factories if other != name]
        fix = f"install {root}" if root else "mend that"
        fix += f" or choose another backend: {', '.join(others)}" if others else ""
    return BackendUnavailable(f"backend {name!r}: {what}: {_text(error)}; {fix}")


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# ---- entry points of other distributions ----------------------------------------------------------------------------


def _entry_points() -> dict[str, list[EntryPoint]]:
    global _published
    if _published is None:
        from importlib.metadata import entry_points  # 20 ms or more, so only for a name that is not ours

        published: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=ENTRY_POINTS):
            published.setdefault(point.name, []).append(point)
        _published = published
    return _published


def _published_target(name: str) -> str:
    points = _entry_points().get(name)
    if points is None:
        raise UnknownBackend(name, [*backend_names(), "auto"])
    claims = sorted({f"{_owner(point)} ({point.value})" for point in points})
    if len(claims) > 1:
        raise BackendUnavailable(f"backend {name!r}: claimed by {' and by '.join(claims)}; uninstall all but one")
    return points[0].value


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def portable(backend: Backend) -> str | Backend:
    """What a pickle keeps of a backend: its name where this process would find it by that, else the object."""
    return backend.name if _instances.get(backend.name) is backend else backend
