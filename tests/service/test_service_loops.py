"""Coroutines that run beside a thread that waits for them."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import subprocess
import sys
import threading
import time

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogError
from airflow_provider_geocatalog.loops import LoopRun, run_in_loop

WHO = contextvars.ContextVar("WHO", default="nobody")


class Interrupted(BaseException):
    """As Airflow's time-out raises, from a signal's handler."""


@pytest.fixture
def alarm():
    """Call a function in the main thread, from a signal's handler, after some seconds."""
    before = signal.getsignal(signal.SIGALRM)

    def ring(seconds, act):
        signal.signal(signal.SIGALRM, lambda *_: act())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield ring
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


class Work:
    """A coroutine that takes long, and a while to clean up."""

    def __init__(self, *, clean_up=0.1):
        self.clean_up = clean_up
        self.said = []

    async def __call__(self):
        self.said.append("began")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(self.clean_up)
            self.said.append("cleaned up")
            raise


def interrupt():
    raise Interrupted


def test_the_result_comes_back_from_another_thread_with_the_callers_context():
    async def work():
        await asyncio.sleep(0)
        return threading.current_thread() is threading.main_thread(), WHO.get()

    token = WHO.set("the caller")
    try:
        assert run_in_loop(work) == (False, "the caller")
    finally:
        WHO.reset(token)


def test_an_error_comes_back_as_it_is():
    async def work():
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        run_in_loop(work)


def test_a_loop_can_be_going_on_in_the_calling_thread():
    async def inner():
        return 1

    async def outer():
        return run_in_loop(inner)

    assert asyncio.run(outer()) == 1


def test_a_signal_that_raises_cancels_the_coroutine_and_waits_for_its_clean_up(alarm):
    work = Work()
    alarm(0.2, interrupt)

    with pytest.raises(Interrupted):
        run_in_loop(work)

    assert work.said == ["began", "cleaned up"]


def test_a_clean_up_that_takes_too_long_is_not_waited_for(alarm, caplog):
    work = Work(clean_up=30)
    alarm(0.2, interrupt)
    began = time.monotonic()

    with pytest.raises(Interrupted):
        run_in_loop(work, clean_up_within=0.3)

    assert time.monotonic() - began < 10
    assert work.said == ["began"]
    assert "has not cleaned up within" in caplog.text


def test_an_error_in_the_clean_up_does_not_hide_why_it_was_stopped(alarm, caplog):
    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("clean-up failed")

    alarm(0.2, interrupt)

    with pytest.raises(Interrupted):
        run_in_loop(work)

    assert "ValueError: clean-up failed" in caplog.text


def test_a_signals_handler_can_stop_it(alarm):
    work, answers = Work(), []
    run = LoopRun(work)
    alarm(0.2, lambda: answers.extend((run.stop(), run.stop())))

    with pytest.raises(GeoCatalogError, match="stopped before it was done") as caught:
        run.wait()

    assert caught.value.retryable
    assert answers == [True, True]
    assert work.said == ["began", "cleaned up"]


def test_what_is_stopped_before_it_begins_never_begins():
    work = Work()
    run = LoopRun(work)
    assert run.stop()

    with pytest.raises(GeoCatalogError, match="stopped"):
        run.wait()

    assert work.said == []


def test_what_has_ended_can_be_stopped():
    async def work():
        return "done"

    run = LoopRun(work)

    assert run.wait() == "done"
    assert run.stop()


def test_tasks_that_the_coroutine_leaves_behind_are_ended():
    said = []

    async def work():
        async def linger():
            try:
                await asyncio.sleep(60)
            finally:
                said.append("ended")

        said.append(asyncio.ensure_future(linger()))
        await asyncio.sleep(0)

    run_in_loop(work)

    assert said[1:] == ["ended"]


def test_ctrl_c_ends_a_process_that_waits():
    script = (
        "import asyncio, signal\n"
        "from airflow_provider_geocatalog.loops import run_in_loop\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background is started without
        "async def work():\n"
        "    print('began', flush=True)\n"
        "    try:\n"
        "        await asyncio.sleep(60)\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "run_in_loop(work)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"began\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert out == b"cleaned up\n"
    assert b"KeyboardInterrupt" in err
