"""Ctrl-C during a training: heard between jobs, so that no step is half done and no sum is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """Says when Ctrl-C was pressed. A second one, before the first was heard, interrupts at once."""

    def __init__(self) -> None:
        self._pressed = False

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Within: Ctrl-C only makes a note, unless the program has a handler of its own. Other threads hear of none."""
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.heed()  # pressed after the last job

    def heed(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self._pressed:
            self._pressed = False
            raise KeyboardInterrupt

    def _note(self, number: int, frame: Any) -> None:
        if self._pressed:
            signal.default_int_handler(number, frame)
        self._pressed = True
