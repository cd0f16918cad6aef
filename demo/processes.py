"""Start processes in sessions of their own, and leave none behind."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from demo import guard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    import psutil

__all__ = ["Processes", "log_tail"]


def log_tail(path: Path, lines: int = 25) -> str:
    """Return the last lines of a file."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


class Processes:
    """
    Named processes, each the first of a session; all sessions end with this object, or with this Python process.

    :param folder: Where the output of each goes, as ``<name>.log``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log(self, name: str) -> Path:
        """Return the file with a process's output."""
        return self._folder / f"{name}.log"

    def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        """
        Start a process.

        :param name: A name that no running process has.
        :param command: The program and its arguments.
        :param environment: Its whole environment.
        :param folder: Its working folder; this process's own if not given.
        """
        if self.is_running(name):
            raise RuntimeError(f"{name} is running already")
        # In a thread: signal handlers run in the main thread, so none can strike between the start of the process and
        # its being written down, and the thread is always waited for.
        with ThreadPoolExecutor(max_workers=1) as pool:
            pool.submit(self._start, name, command, environment, folder).result()

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path | None) -> None:
        if self._guard is None:
            self._guard = subprocess.Popen(
                [sys.executable, "-P", guard.__file__], stdin=subprocess.PIPE, start_new_session=True
            )
        with self.log(name).open("ab") as output:
            process = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[name] = process
        self._tell(f"+{process.pid}")

    def _tell(self, line: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(f"{line}\n".encode())
            self._guard.stdin.flush()

    def pid(self, name: str) -> int:
        """Return the process id of a process, which is its session's id as well."""
        return self._running[name].pid

    def is_running(self, name: str) -> bool:
        """Return whether a process lives."""
        return name in self._running and self._running[name].poll() is None

    def returncode(self, name: str) -> int | None:
        """Return how a process ended; ``None`` while it lives."""
        return self._running[name].poll()

    def members(self, name: str | None = None) -> list[psutil.Process]:
        """Return the living processes of one session, or of all."""
        chosen = self._running.values() if name is None else [self._running[name]]
        return guard.session_members({process.pid for process in chosen})

    def stop(self, names: Iterable[str] | None = None, *, grace: float = guard.DEFAULT_GRACE) -> None:
        """
        End processes together with everything in their sessions.

        :param names: Which; all if not given.
        :param grace: Seconds between asking and killing; 0 kills at once.
        """
        chosen = [name for name in (list(self._running) if names is None else names) if name in self._running]
        guard.end_sessions({self._running[name].pid for name in chosen}, grace=grace)
        for name in chosen:
            process = self._running.pop(name)
            process.wait()
            self._tell(f"-{process.pid}")

    def close(self) -> None:
        """End everything."""
        self.stop()
        if self._guard is not None:
            # No ``communicate``: an interrupt in the middle of it would leave the pipe open and the guard waiting.
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
