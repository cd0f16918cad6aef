"""The private Redis of the distributed demonstration, and what the demonstration says where there is none."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
import redis

from demo.killing import Findings
from demo.processes import Processes
from demo.redis_server import RedisFailed, redis_program, start_redis


@pytest.mark.skipif(redis_program() is None, reason="redis-server is not installed (Debian package redis-server)")
def test_redis_listens_on_loopback_keeps_nothing_and_ends_with_its_processes(tmp_path):
    with Processes(tmp_path) as processes:
        url = start_redis(processes, tmp_path / "redis")
        with redis.Redis.from_url(url) as client:
            client.set("name", "value")
            assert client.config_get("bind")["bind"] == "127.0.0.1"
            client.shutdown()  # it would save now
    assert list((tmp_path / "redis").iterdir()) == []

    with Processes(tmp_path) as processes:
        url = start_redis(processes, tmp_path / "redis")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(urlsplit(url).port or 0)), timeout=5)


def test_where_redis_is_missing_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with Processes(tmp_path) as processes, pytest.raises(RedisFailed, match="apt-get install redis-server"):
        start_redis(processes, tmp_path / "redis")


def test_a_demonstration_in_which_nothing_was_struck_proves_nothing():
    assert Findings().problems()[:3] == [
        "no task was running on the killed worker",
        "no wait was with the killed triggerer",
        "the killed worker left no message to deliver again",
    ]
