"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from segsweep.errors import EXIT_INTERRUPTED


class Interrupt:
    """While entered, notes a signal instead of raising in the middle of a write.

    The second signal is heard by a thread of its own, since the main thread may hang in Ray or
    in a disk: every process below this one is killed, and then this one. The ledger is on the
    disk line by line, so that nothing but what just ran is lost.

    Attributes:
        requested: a signal has come; runners look at it between two steps.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._wakeup = -1

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._before[number] = signal.signal(number, self._note)
            self._ends = socket.socketpair()
            for end in self._ends:
                end.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._ends[1].fileno(), warn_on_full_buffer=False)
            self._ends[0].setblocking(True)
            name = "segsweep-interrupt"
            threading.Thread(
                target=self._watch, args=self._ends[:1], name=name, daemon=True
            ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ends is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        for end in self._ends[::-1]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends = None

    def again(self) -> None:
        """Take the signals back from a library that has put a handler of its own there."""
        if self._ends is not None:
            for number in self.SIGNALS:
                signal.signal(number, self._note)

    def check(self) -> None:
        """Raise where a signal has come.

        Raises:
            KeyboardInterrupt: one has.
        """
        if self.requested:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def _watch(self, end: socket.socket) -> None:
        """Count signals; the second one is the last."""
        heard = 0
        with contextlib.suppress(OSError):
            while arrived := end.recv(16):
                heard += sum(number in self.SIGNALS for number in arrived)
                if heard > 1:
                    end_at_once()


def end_at_once() -> None:
    """Kill every process below this one, and end this one with the exit code of an interrupt."""
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # the live display hides the cursor
    text = f"{shown}\ninterrupted twice: ended at once; launch again to go on\n"
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
    for pid in below(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os._exit(EXIT_INTERRUPTED)


def below(root: int) -> list[int]:
    """Every process that ``root`` has started, and that those have; a parent before its children.

    Killed in this order, none is left to start another.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(entry.name))
    found = list(children.get(root, []))
    for pid in found:  # grows meanwhile
        found += children.get(pid, [])
    return found
