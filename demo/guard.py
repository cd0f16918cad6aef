"""
End sessions of processes, also when the process that started them was killed.

Run as a program, this module is told on its standard input which sessions exist (``+ID`` and ``-ID``, one a line). End
of input means that whoever started it is gone, however that happened; the sessions that are left are ended then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["end_sessions", "session_members"]

DEFAULT_GRACE = 6.0  # seconds between asking and killing
_ORPHAN_GRACE = 0.5  # seconds for what outlives the first process of its session


def session_members(sessions: Collection[int]) -> list[psutil.Process]:
    """
    Return the living processes of some sessions.

    Sessions rather than process groups: Airflow puts every task into a process group of its own, but it leaves the
    session of the component alone.

    :param sessions: Session ids, which are the process ids of their first processes.
    """
    return [process for _, process in _members(sessions)]


def _members(sessions: Collection[int]) -> list[tuple[int, psutil.Process]]:
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):  # it ended meanwhile, or is not ours
            session = os.getsid(pid) if pid else 0
            if session in sessions:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    members.append((session, process))
    return members


def end_sessions(sessions: Collection[int], *, grace: float = DEFAULT_GRACE) -> None:
    """
    End every process of some sessions: ask the first process group of each, and kill what is left after a while.

    :param sessions: Session ids.
    :param grace: Seconds to wait before killing; 0 kills at once.
    """
    if grace > 0:
        for session in sessions:
            _signal_group(session, signal.SIGTERM)
    deadlines = dict.fromkeys(sessions, time.monotonic() + grace)
    while members := _members(sessions):
        now = time.monotonic()
        alive = {process.pid for _, process in members}
        for session, process in members:
            if session not in alive:  # the first process is gone; nobody will see to the others
                deadlines[session] = min(deadlines[session], now + _ORPHAN_GRACE)
            if now >= deadlines[session]:
                _kill(process)
        time.sleep(0.05)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):  # nobody left in it
        os.killpg(group, number)


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):  # it ended meanwhile
        process.kill()


def main() -> None:
    """Follow the instructions on standard input until it ends, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        session = int(line[1:])
        (sessions.add if line[0] == "+" else sessions.discard)(session)
    end_sessions(sessions)


if __name__ == "__main__":
    main()
