"""
Start Azurite, Microsoft's emulator of Azure Storage, for as long as it is needed.

It is a Node.js program: one on the path counts, else one below ``node_modules`` here, else what ``npx`` has installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from airflow_provider_geocatalog.emulator.azurite_store import AzuriteAccount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["AZURITE_PACKAGE", "AzuriteServer", "find_azurite", "install_azurite"]

#: What is installed where no Azurite is found; the version that the tests run with.
AZURITE_PACKAGE = "azurite@3.37.0"

_PROGRAM = "azurite-blob"
_START_SECONDS, _STOP_SECONDS, _INSTALL_SECONDS = 60.0, 10.0, 300.0
_LISTENS = re.compile(r"successfully listens on (http://\S+)")


def find_azurite(folder: Path | None = None) -> list[str] | None:
    """
    Return the command that starts Azurite's blob service, ``None`` where there is none.

    :param folder: Where ``node_modules`` may be, beside the current folder.
    """
    for place in (folder, Path.cwd()):
        program = shutil.which(_PROGRAM, path=str(place / "node_modules" / ".bin")) if place else None
        if program:
            return [program]
    program = shutil.which(_PROGRAM)
    if program:
        return [program]
    npx = shutil.which("npx")
    return [npx, "--no-install", "--package", "azurite", _PROGRAM] if npx and _npx_has_azurite(npx) else None


def _npx_has_azurite(npx: str) -> bool:
    command = [npx, "--no-install", "--package", "azurite", _PROGRAM, "--version"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, check=False, timeout=_START_SECONDS).returncode == 0  # noqa: S603
    return False


def install_azurite(folder: Path, seconds: float = _INSTALL_SECONDS) -> list[str]:
    """
    Install Azurite below a folder with npm, unless it is there, and return the command that starts it.

    :param folder: It gets ``node_modules``.
    :param seconds: How long that may take.
    :raises RuntimeError: There is no npm, or it failed.
    """
    program = folder / "node_modules" / ".bin" / _PROGRAM
    if not program.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError("Azurite needs Node.js, and there is no npm")
        options = [
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--no-save",
            "--fetch-retries",
            "1",
            "--loglevel",
            "error",
        ]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(  # noqa: S603
                [npm, "install", "--prefix", str(folder), *options, AZURITE_PACKAGE],
                capture_output=True,
                check=True,
                timeout=seconds,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise RuntimeError(f"npm could not install {AZURITE_PACKAGE}: {type(error).__name__}") from error
    return [str(program)]


class AzuriteServer:
    """
    Run Azurite's blob service on a free port of this machine, between ``with`` and its end.

    :param command: What starts it; what :func:`find_azurite` finds, if not given.
    :param folder: Where it keeps its data; if not given, in memory.
    """

    def __init__(self, command: Sequence[str] | None = None, folder: Path | None = None) -> None:
        self._command, self._folder = command, folder
        self._process: subprocess.Popen[str] | None = None
        self._account: AzuriteAccount | None = None
        self._workspace: tempfile.TemporaryDirectory[str] | None = None

    @property
    def account(self) -> AzuriteAccount:
        """Its account; known once it runs."""
        if self._account is None:
            raise RuntimeError("Azurite is not running")
        return self._account

    @property
    def url(self) -> str:
        """The blob endpoint of its account."""
        return self.account.url

    def __enter__(self) -> Self:
        command = self._command or find_azurite()
        if command is None:
            raise RuntimeError(f"no Azurite was found; install it with: npm install {AZURITE_PACKAGE}")
        if self._folder is None:
            self._workspace = tempfile.TemporaryDirectory(prefix="azurite-", ignore_cleanup_errors=True)
        where = str(self._folder or self._workspace.name) if self._workspace else str(self._folder)
        options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--location", where, "--silent", "--disableTelemetry"]
        self._process = subprocess.Popen(  # noqa: S603
            # It refuses clients that are newer than itself unless told otherwise.
            [*command, *options, "--skipApiVersionCheck"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            self._account = AzuriteAccount(self._wait())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop it."""
        self._account = None
        process, self._process = self._process, None
        if process is not None:
            _signal(process, signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
            if process.stdout:
                process.stdout.close()
        if self._workspace is not None:
            self._workspace.cleanup()
            self._workspace = None

    def _wait(self) -> str:
        """Return the address that it prints when it is ready."""
        assert self._process is not None  # noqa: S101
        output = self._process.stdout
        assert output is not None  # noqa: S101
        found: list[str] = []
        ready = threading.Event()
        threading.Thread(target=_read, args=(output, found, ready), name="azurite-output", daemon=True).start()
        if not ready.wait(_START_SECONDS) or not found:
            raise RuntimeError("Azurite did not start")
        return found[0]


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Reach what npx started as well: it is in a group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _read(output: IO[str], found: list[str], ready: threading.Event) -> None:
    """Look for the address in what Azurite prints, and read on, so that it never waits for a reader."""
    with contextlib.suppress(OSError, ValueError):  # closed when it is stopped
        for line in output:
            listens = _LISTENS.search(line)
            if listens:
                found.append(listens[1])
                ready.set()
    ready.set()
