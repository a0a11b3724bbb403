"""The thread of the driver that a tracker writes in: in order, and in the way of no trial."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Action = Callable[[], None]


def describe(error: Exception) -> str:
    """An error in one line, of any service."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


class Writer:
    """Runs actions one after the other; what they raise is kept as a line.

    Args:
        name: of the service that is written to; each line begins with it.
        last: is run when all others are done.

    Attributes:
        errors: what went wrong, each line once.
        done: counts what was done, so that somebody who waits sees whether anything is.
    """

    def __init__(self, name: str, last: Action) -> None:
        self.name, self.last = name, last
        self.errors: list[str] = []
        self.done = 0
        self._actions: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"{name}-writer", daemon=True)
        self._thread.start()

    def put(self, action: Action) -> None:
        """Run it when those before it are done."""
        self._actions.put(action)

    def say(self, text: str) -> None:
        """Keep a line."""
        text = f"{self.name}: {text}"
        if text not in self.errors:
            self.errors.append(text)

    def guarded(self, action: Action) -> None:
        """Run it now, in the thread."""
        try:
            action()
        except Exception as error:  # losing a tracker never costs a trial
            self.say(describe(error))
        self.done += 1

    def close(self, patience: float) -> list[str]:
        """Run what is left, and wait as long as anything is done within ``patience`` seconds."""
        self._actions.put(None)
        before = -1
        while self._thread.is_alive() and self.done != before:
            before = self.done
            self._thread.join(patience)
        if self._thread.is_alive():
            self.say(f"it did not finish within {patience:.0f} s")
        return self.errors

    def _work(self) -> None:
        while (action := self._actions.get()) is not None:
            self.guarded(action)
        self.guarded(self.last)
