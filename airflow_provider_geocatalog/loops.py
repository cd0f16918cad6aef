"""Run a coroutine to its end from code that blocks, such that signals reach that code and end the coroutine cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_provider_geocatalog.api.errors import GeoCatalogError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["CLEAN_UP_WITHIN", "LoopRun", "run_in_loop"]

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds that a coroutine that is cancelled has for its clean-up.
CLEAN_UP_WITHIN = 60.0
_LOOK = 0.02  # seconds between looks whether it has ended


class LoopRun(Generic[T]):
    """
    A coroutine on an event loop in a thread of its own, while the calling thread waits.

    Airflow ends tasks by signals, whose handlers run in the main thread: one that raises (a time-out) must not tear
    down a loop in the middle of its work, and one that returns (``on_kill``) has to be able to stop it.

    :param make: Makes the coroutine; called in the loop's thread, with a copy of the caller's context variables, on
        which Airflow's log routing hangs.
    :param clean_up_within: Seconds that it has for its clean-up when it is cancelled.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]], *, clean_up_within: float = CLEAN_UP_WITHIN) -> None:
        self._make = make
        self._clean_up_within = clean_up_within
        self._context = contextvars.copy_context()
        self._thread = threading.Thread(target=self._drive, name="geocatalog-loop", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[T] | None = None
        self._is_stopped = False
        self._is_cancelled = False
        self._has_ended = False
        self._ended = threading.Event()
        self._result: list[T] = []
        self._error: BaseException | None = None

    def wait(self) -> T:
        """
        Run it to its end; call this once.

        :raises GeoCatalogError: It was stopped by :meth:`stop`.
        """
        try:
            self._thread.start()
            self._ended.wait()
        except BaseException:
            self.stop()
            if self._error is not None and not isinstance(self._error, asyncio.CancelledError):
                log.warning("While it was stopped: %s: %s", type(self._error).__name__, self._error)
            raise
        if self._error is None:
            return self._result[0]
        try:
            if self._is_stopped and isinstance(self._error, asyncio.CancelledError):
                raise GeoCatalogError("the work was stopped before it was done", retryable=True)
            raise self._error
        finally:
            self._error = None  # its traceback has this frame, which would hold it

    def stop(self) -> bool:
        """
        Cancel it, from any thread or signal handler, and wait until it has cleaned up.

        :return: Whether it has.
        """
        self._is_stopped = True
        if self._loop is not None:
            # A closed loop has nothing left to cancel.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel)
        # Without a lock: the signal may have come while this very thread held it.
        give_up = time.monotonic() + self._clean_up_within
        while self._is_going and time.monotonic() < give_up:
            time.sleep(_LOOK)
        if self._is_going:
            log.warning("What was stopped has not cleaned up within %.0f s.", self._clean_up_within)
        return not self._is_going

    @property
    def _is_going(self) -> bool:
        return self._thread.ident is not None and not self._has_ended

    # --- in the loop's thread -----------------------------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._result.append(runner.run(self._work(), context=self._context))
        except BaseException as error:
            self._error = error
        finally:
            self._has_ended = True
            self._ended.set()

    async def _work(self) -> T:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._is_stopped:  # whoever stops it sets this first, and then looks for the loop
            raise asyncio.CancelledError
        return await self._make()

    def _cancel(self) -> None:
        if self._task is not None and not self._is_cancelled:  # once: a second one would end the clean-up
            self._is_cancelled = True
            self._task.cancel()


def run_in_loop(make: Callable[[], Coroutine[Any, Any, T]], *, clean_up_within: float = CLEAN_UP_WITHIN) -> T:
    """
    Run a coroutine to its end, in a thread of its own, and return its result.

    Whatever is raised in the waiting thread meanwhile, as by a signal's handler, cancels the coroutine, and is raised
    again when that has cleaned up.

    :param make: Makes the coroutine.
    :param clean_up_within: Seconds that it has for its clean-up.
    """
    return LoopRun(make, clean_up_within=clean_up_within).wait()
