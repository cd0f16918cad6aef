from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo.guard import session_members
from demo.processes import Processes, log_tail

if TYPE_CHECKING:
    from collections.abc import Callable

# A process with a child in a process group of its own, as Airflow's tasks are; {} is what it does first.
PARENT = """
import os, signal, subprocess, sys, time
{}
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], process_group=0)
print("ready", flush=True)
time.sleep(60)
"""
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(processes: Processes, first: str = "") -> int:
    processes.start("parent", [sys.executable, "-c", PARENT.format(first)], environment=os.environ)
    wait_until(lambda: "ready" in log_tail(processes.log("parent")))
    assert len(processes.members("parent")) == 2
    return processes.pid("parent")


def test_stopping_ends_children_in_other_process_groups_too(tmp_path):
    with Processes(tmp_path) as processes:
        session = start(processes)

        processes.stop(["parent"], grace=0.2)

        assert session_members({session}) == []
        assert not processes.is_running("parent")


def test_what_does_not_listen_is_killed(tmp_path):
    with Processes(tmp_path) as processes:
        session = start(processes, STUBBORN)
        started = time.monotonic()

        processes.stop(["parent"], grace=0.3)

        assert session_members({session}) == []
        assert 0.3 <= time.monotonic() - started < 5


def test_an_exception_leaves_nothing_behind(tmp_path):
    sessions = []

    def be_interrupted() -> None:
        with Processes(tmp_path) as processes:
            sessions.append(start(processes))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()

    assert session_members(sessions) == []


def test_nothing_survives_the_one_who_started_it(tmp_path):
    script = f"""
import os, sys, time
from pathlib import Path
from demo.processes import Processes
processes = Processes(Path({str(tmp_path)!r}))
processes.start("parent", [sys.executable, "-c", {PARENT.format("")!r}], environment=os.environ)
print(processes.pid("parent"), flush=True)
time.sleep(60)
"""
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert starter.stdout is not None
    session = int(starter.stdout.readline())
    wait_until(lambda: len(session_members({session})) == 2)

    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()

    wait_until(lambda: not session_members({session}))


def test_a_name_can_be_used_again_after_its_end(tmp_path):
    with Processes(tmp_path) as processes:
        for _ in range(2):
            processes.start("brief", [sys.executable, "-c", "print('done')"], environment=os.environ)
            wait_until(lambda: not processes.is_running("brief"))
            assert processes.returncode("brief") == 0
            processes.stop(["brief"])

        assert log_tail(processes.log("brief")) == "done\ndone"


def test_two_of_a_name_are_refused(tmp_path):
    with Processes(tmp_path) as processes:
        start(processes)

        with pytest.raises(RuntimeError, match="running already"):
            processes.start("parent", [sys.executable, "-c", ""], environment=os.environ)
