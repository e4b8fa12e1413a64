"""The same thing very often: memory, threads, open files and objects stay what they were."""

from __future__ import annotations

from batteries import Figure
from batteries.child import answer_of, usable_backends
from batteries.measuring import MIB

OBJECTS = 50  # a few come and go; one left by each step would be a thousand


def battery(thorough):
    steps, limit = (100_000, 5 * MIB) if thorough else (1_000, MIB)
    for backend in usable_backends():
        found = answer_of("batteries.enduring", backend, steps, seconds=max(300, steps // 10))
        leak = found.pop("leak")
        for activity, grown in found.items():
            yield Figure(f"{backend}: {activity}", grown.pop("times"), tuple(_complaints(grown, limit)), _said(grown))
        unseen = set(leak) - {said.partition(" ")[0] for said in _complaints(leak, limit)}
        failures = tuple(f"a leak of {kind} is not found" for kind in sorted(unseen))
        yield Figure(f"control, {backend}: a leak of everything", len(leak), failures, _said(leak))


def _complaints(grown, limit):
    allowed = {"memory": limit, "objects": OBJECTS, "threads": 0, "files": 0}
    return [f"{kind} grew by {grown[kind]:,}" for kind, most in allowed.items() if grown[kind] > most]


def _said(grown):
    """The growth of memory, and of anything else that grew."""
    others = [f"{grown[kind]:+,} {kind}" for kind in ("objects", "threads", "files") if grown[kind] > 0]
    return ", ".join([f"{grown['memory'] / 1024:+,.0f} KiB", *others])
