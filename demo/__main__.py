"""``python -m demo``: settings, signals and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_geocatalog.api.errors import GeoCatalogError
from airflow_provider_geocatalog.static_catalog import CatalogError
from demo.airflow_api import AirflowApiError, DagImportError
from demo.airflow_stack import ComponentFailed
from demo.catalog_input import InputError
from demo.demonstration import Demonstration
from demo.emulator_process import EmulatorFailed
from demo.progress import Console
from demo.redis_server import RedisFailed
from demo.settings import read_settings
from demo.workfolder import work_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["run_command"]

_WORK_FOLDER = Path(__file__).parent.parent / ".demo"
_OK, _FAILED, _BAD_INPUT = 0, 1, 2
#: What can go wrong on the way and is told in a few words rather than by a traceback.
_EXPECTED = (
    AirflowApiError,
    CatalogError,
    ComponentFailed,
    DagImportError,
    EmulatorFailed,
    GeoCatalogError,
    RedisFailed,
    TimeoutError,
)


class Interrupted(BaseException):
    """Somebody wants this to end; no ``Exception``, so that nothing on the way takes it for an error to handle."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Interrupts:
    """Turn the first signal that asks for the end into an exception, and ignore the others: the end takes seconds."""

    def __init__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Also where SIGINT is ignored: so starts a shell what it puts in the background.
            signal.signal(number, self._raise)
        self._active = True

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._active:
            self._active = False
            raise Interrupted(number)

    def ignore(self) -> None:
        """Ignore signals from now on."""
        self._active = False


def main() -> int:
    """Run the demonstration."""

    def prepare() -> tuple[Callable[[Console, Path, ExitStack], bool], bool]:
        settings = read_settings(sys.argv[1:], os.environ)
        return lambda console, work, resources: Demonstration(settings, console, work, resources).run(), settings.keep

    return run_command(prepare)


def run_command(prepare: Callable[[], tuple[Callable[[Console, Path, ExitStack], bool], bool]]) -> int:
    """
    Run a demonstration in the work folder, and end everything that it has started.

    :param prepare: Reads the settings; returns what to run, with where to tell about it, where to write, and what takes
        all that has to be ended; and whether everything stays up at the end.
    :return: Exit code: 0 if everything went well, 1 if not, 2 for bad input, 128 + signal number if interrupted.
    """
    interrupts = Interrupts()
    console = Console()
    for name in ("NO_PROXY", "no_proxy"):  # the emulator and Airflow are on loopback
        os.environ[name] = ",".join(filter(None, [os.environ.get(name, ""), "127.0.0.1", "localhost", "::1"]))
    try:
        run, keep = prepare()
        with work_folder(_WORK_FOLDER) as work:
            return _run(lambda resources: run(console, work, resources), keep, console, work, interrupts)
    except InputError as error:
        console.status("")
        sys.stderr.write(f"demo: {error}\n")
        return _BAD_INPUT
    except Interrupted as interrupt:
        return interrupt.exit_code


def _run(run: Callable[[ExitStack], bool], keep: bool, console: Console, work: Path, interrupts: Interrupts) -> int:
    resources = ExitStack()
    try:
        try:
            succeeded = run(resources)
        except _EXPECTED as error:
            console.status("")
            console.line(f"\nFAILED: {error}\nLogs: {os.path.relpath(work)}")
            succeeded = False
        console.line("\nEverything is as it should be." if succeeded else "\nThe demonstration FAILED.")
        if keep:
            console.line("Airflow and the emulator stay up (KEEP=1); Ctrl-C ends them.")
            while True:
                time.sleep(3600)
        return _OK if succeeded else _FAILED
    except Interrupted:
        console.status("")
        console.line()
        console.step("interrupted: stopping all processes")
        raise
    finally:
        interrupts.ignore()
        console.status("")
        resources.close()


if __name__ == "__main__":
    sys.exit(main())
