"""Does anybody answer at an address?"""

from __future__ import annotations

import socket
import threading

SECONDS = 2.0


def silence(host: str, port: int) -> str:
    """Why nobody answers there, asked for ``SECONDS`` at most; empty where somebody does."""
    why = [f"no answer within {SECONDS:.0f} s"]

    def ask() -> None:
        try:
            socket.create_connection((host, port), timeout=SECONDS).close()
            why[0] = ""
        except OSError as error:
            why[0] = error.strerror or str(error)

    # a thread, because looking a name up heeds no timeout
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return why[0]
