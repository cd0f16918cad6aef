"""A private Redis, as the broker of Celery: own port on loopback, own folder, nothing kept."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

from demo.airflow_stack import free_ports
from demo.processes import log_tail

if TYPE_CHECKING:
    from pathlib import Path

    from demo.processes import Processes

__all__ = ["RedisFailed", "redis_program", "start_redis"]

_NAME = "redis"
_START_TIMEOUT = 30.0  # seconds


class RedisFailed(Exception):
    """There is no Redis, or it did not start; the text says what to do, or has the end of its log."""


def redis_program() -> str | None:
    """Return the path of ``redis-server``; ``None`` where it is not installed."""
    return shutil.which("redis-server")


def start_redis(processes: Processes, folder: Path) -> str:
    """
    Start Redis and wait until it answers.

    :param folder: An own folder, made if needed.
    :return: Its URL.
    :raises RedisFailed: It is not installed, ended or said nothing.
    """
    import redis

    program = redis_program()
    if program is None:
        raise RedisFailed(
            "redis-server is not installed, and Celery needs it. "
            "On Debian and Ubuntu: sudo apt-get install redis-server"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    options = {"--bind": "127.0.0.1", "--port": str(port), "--dir": str(folder), "--save": "", "--appendonly": "no"}
    command = [program, *(part for option in options.items() for part in option)]
    processes.start(_NAME, command, environment=os.environ, folder=folder)
    url = f"redis://127.0.0.1:{port}/0"
    deadline = time.monotonic() + _START_TIMEOUT
    with redis.Redis.from_url(url) as client:
        while time.monotonic() < deadline and processes.is_running(_NAME):
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.05)
            else:
                return url
    log = processes.log(_NAME)
    raise RedisFailed(f"redis-server did not start; the end of {log}:\n{log_tail(log)}")
