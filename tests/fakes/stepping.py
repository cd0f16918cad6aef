"""Step flows by hand, with answers given one by one or by a rule."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.http import Now, Pause, Request, Response
from tests.fakes.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_geocatalog.api.http import Flow


def answer(status: int = 200, body: Any = None, **headers: str) -> Response:
    """Return a response; header names are written with underscores."""
    content = b"" if body is None else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def listed(*entries: Any) -> Response:
    """Return a page of a list."""
    return answer(200, {"value": list(entries)})


class Steps:
    """
    Carry a flow out.

    :param answers: Responses or errors in turn (every one has to be used), or one function of the request.
    """

    def __init__(self, *answers: Any) -> None:
        rule = answers[0] if len(answers) == 1 and callable(answers[0]) else None
        self._rule: Callable[[Request], Any] | None = rule
        self._answers = [] if rule else list(answers)
        self.clock = FakeClock()
        self.requests: list[Request] = []

    @property
    def sent(self) -> list[str]:
        """Names of the endpoints that were called."""
        return [request.endpoint.name for request in self.requests]

    @property
    def writes(self) -> list[str]:
        """Names of the endpoints that were called and that change something."""
        return [r.endpoint.name for r in self.requests if r.endpoint.method != "GET" and not r.endpoint.read_only]

    @property
    def pauses(self) -> list[float]:
        return self.clock.pauses

    def run(self, flow: Flow[Any]) -> Any:
        value: Any = None
        error: Exception | None = None
        while True:
            try:
                effect = flow.throw(error) if error else flow.send(value)
            except StopIteration as stop:
                assert not self._answers, f"nobody asked for {self._answers}"
                return stop.value
            value = error = None
            if isinstance(effect, Now):
                value = self.clock.now
            elif isinstance(effect, Pause):
                self.clock.sleep(effect.seconds)
            else:
                self.requests.append(effect)
                assert self._rule or self._answers, f"no answer is left for {effect}"
                given = self._rule(effect) if self._rule else self._answers.pop(0)
                if isinstance(given, Exception):
                    error = given
                else:
                    value = given
