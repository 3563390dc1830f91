"""A stop that somebody asks for: Ctrl-C, or the SIGTERM of a machine that wants its place back.

Python turns Ctrl-C into an exception wherever it happens to be. Inside a compilation or a callback of JAX that is lost, or
ends in a crash. So the first request only sets a flag, for the work to look at where it can stop cleanly; the second ends
the process at once, which a journal survives as it survives anything.

Signals are heard by a thread, through a socket that Python's handler in C writes to (``signal.set_wakeup_fd``): also
while the main thread is deep inside a compiled program.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = 130  # the exit code, as shells have it


class Stopped(BaseException):
    """The work ended where it was asked to; says how to go on. (Not an error, and no KeyboardInterrupt, which command lines swallow.)"""


@contextmanager
def heard(advice: Callable[[], str]) -> Iterator[threading.Event]:
    """An event that the first request sets, with a line that says so; ``advice`` tells how to go on later.

    Outside the main thread nothing can be heard, and the event is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def listen() -> None:
        while number := ours.recv(1):
            if number[0] not in SIGNALS:
                continue
            if asked.is_set():
                print(f"stopped at once{advice()}", file=sys.stderr, flush=True)
                os._exit(STOPPED)
            asked.set()
            print("stopping as soon as what is at work is done and kept; once more: at once", file=sys.stderr, flush=True)

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    other = signal.set_wakeup_fd(theirs.fileno())
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        signal.set_wakeup_fd(other)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        theirs.close()
        thread.join()
        ours.close()
