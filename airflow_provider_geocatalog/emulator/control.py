"""
What the emulator has that the service has not: an API for tests below a prefix of its own (docs/testing-dags.md).

All of it needs an administrator's token. No fault strikes it, and it is not in the record of requests.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.routes_operations import failures_json
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_geocatalog.emulator.app import Emulator, RecordedRequest

__all__ = ["PREFIX", "Control"]

PREFIX = "/_emulator/"
_CLOCK_MEMBERS = ("freeze", "set", "advance", "speed")


@dataclass(frozen=True)
class _Asked:
    """
    A request.

    :param name: The id in its path, if there is one.
    """

    name: str
    query: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        """Its JSON value; ``None`` if it has no body."""
        if not self.content:
            return None
        try:
            return wire.parse_json(self.content)
        except (ValueError, RecursionError) as error:
            raise ValueError("the body is not valid JSON") from error


class Control:
    """
    Answer requests below :data:`PREFIX`.

    :param emulator: What they control.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._resources: dict[str, dict[str, Callable[[_Asked], Answer]]] = {
            "faults": {"GET": self._list_faults, "POST": self._add_faults, "DELETE": self._clear_faults},
            "faults/{}": {"GET": self._get_fault, "DELETE": self._remove_fault},
            "clock": {"GET": self._get_clock, "POST": self._change_clock},
            "requests": {"GET": self._list_requests, "DELETE": self._clear_requests},
            "reset": {"POST": self._reset},
            "runs/{}/failures": {"GET": self._list_failures},
        }

    def answer(self, method: str, path: str, query: Mapping[str, str], content: bytes, role: str) -> Answer:
        """
        Answer a request.

        :param path: As it was sent.
        :raises ApiError: It is refused.
        """
        if role != Role.ADMINISTRATOR:
            raise ApiError(403, "Forbidden", f"The role '{role}' does not allow this operation.")
        parts = path.removeprefix(PREFIX).split("/")
        names = [unquote(part) for part in parts[1:2]]
        template = "/".join([parts[0], *("{}" for _ in names), *parts[2:]])
        handlers = self._resources.get(template)
        if handlers is None or not all(names):
            raise wire.not_found(f"Nothing at '{path}'. There are {', '.join(PREFIX + one for one in self._resources)}")
        handler = handlers.get(method)
        if handler is None:
            raise ApiError(405, "MethodNotAllowed", "The method is not allowed here.", {"Allow": ", ".join(handlers)})
        try:
            return handler(_Asked("".join(names), query, content))
        except ValueError as error:
            raise wire.bad_request(str(error)) from error

    # --- faults -------------------------------------------------------------------------------------------------

    def _list_faults(self, asked: _Asked) -> Answer:
        return Answer(body={"value": [fault.to_json() for fault in self._emulator.faults]})

    def _add_faults(self, asked: _Asked) -> Answer:
        """Make one rule, or none or all of a list."""
        body = asked.body
        wanted = body if isinstance(body, list) else [body]
        made = []
        try:
            for one in wanted:
                options = dict(_object(one))
                made.append(self._emulator.faults.add(_text(options.pop("effect", "")), **options))
        except ValueError:
            for fault in made:
                self._emulator.faults.remove(fault)
            raise
        shown = [fault.to_json() for fault in made]
        return Answer(201, {"value": shown} if isinstance(body, list) else shown[0])

    def _clear_faults(self, asked: _Asked) -> Answer:
        self._emulator.faults.clear()
        return Answer(204)

    def _get_fault(self, asked: _Asked) -> Answer:
        fault = self._emulator.faults.get(asked.name)
        if fault is None:
            raise wire.not_found(f"Fault '{asked.name}' not found")
        return Answer(body=fault.to_json())

    def _remove_fault(self, asked: _Asked) -> Answer:
        if not self._emulator.faults.remove(asked.name):
            raise wire.not_found(f"Fault '{asked.name}' not found")
        return Answer(204)

    # --- time ---------------------------------------------------------------------------------------------------

    def _get_clock(self, asked: _Asked) -> Answer:
        clock = self._emulator.clock
        now = clock.now()
        return Answer(body={"now": wire.timestamp(now), "epoch": now, "speed": clock.speed})

    def _change_clock(self, asked: _Asked) -> Answer:
        """Stop the clock, set it, move it on and let it run, in this order."""
        changes = _object(asked.body)
        unknown = [name for name in changes if name not in _CLOCK_MEMBERS]
        if unknown or not changes:
            raise ValueError(f"the body takes {', '.join(_CLOCK_MEMBERS)}; at least one of them, and nothing else")
        clock = self._emulator.clock
        # Everything is read before anything is changed.
        moment = _moment(changes["set"]) if "set" in changes else None
        seconds = _number(changes, "advance") if "advance" in changes else None
        speed = _number(changes, "speed") if "speed" in changes else None
        if changes.get("freeze", True) is not True:
            raise ValueError("'freeze' has to be true; 'speed' makes the clock run again")
        if "freeze" in changes:
            clock.freeze()
        if moment is not None:
            clock.set(moment)
        if seconds is not None:
            clock.advance(seconds)
        if speed is not None:
            clock.run(speed)
        return self._get_clock(asked)

    # --- what happened ------------------------------------------------------------------------------------------

    def _list_requests(self, asked: _Asked) -> Answer:
        """List the requests that were answered, oldest first; ``operation`` and ``method`` choose among them."""
        query = asked.query
        unknown = [name for name in query if name not in ("operation", "method", "api-version")]
        if unknown:
            raise ValueError(f"no such parameter: {', '.join(unknown)}")
        found = [
            request
            for request in list(self._emulator.requests)
            if request.operation == query.get("operation", request.operation)
            and request.method == query.get("method", request.method)
        ]
        return Answer(body={"value": [_request_json(request) for request in found]})

    def _clear_requests(self, asked: _Asked) -> Answer:
        self._emulator.requests.clear()
        return Answer(204)

    def _reset(self, asked: _Asked) -> Answer:
        options = _object({} if asked.body is None else asked.body)
        unknown = [name for name in options if name != "at"]
        if unknown:
            raise ValueError(f"no such member: {', '.join(unknown)}")
        self._emulator.reset(at=_moment(options["at"]) if "at" in options else None)
        return Answer(204)

    def _list_failures(self, asked: _Asked) -> Answer:
        """Tell why items of a run failed: a stand-in for the service's diagnostic logs (10.3)."""
        with self._emulator.world.lock:
            operation = self._emulator.world.operations.get(asked.name)
            if operation is None:
                raise wire.not_found(f"Run '{asked.name}' not found")
            return Answer(body={"value": failures_json(operation)})


def _request_json(request: RecordedRequest) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "query": dict(request.query),
        "status": request.status,
        "operation": request.operation,
        "requestId": request.request_id,
        "time": wire.timestamp(request.at),
        "fault": request.fault,
    }


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ValueError("the body has to be a JSON object")
    return body


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("'effect' has to be a string")
    return value


def _number(body: Mapping[str, Any], name: str) -> float:
    value = body[name]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"'{name}' has to be a number")
    return value


def _moment(value: Any) -> float:
    """Return epoch seconds of a moment in either form."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    try:
        moment = datetime.datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{value!r} is neither epoch seconds nor a date and time") from None
