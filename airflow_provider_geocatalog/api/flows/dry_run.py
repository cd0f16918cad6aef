"""Find out what a procedure would write, by carrying it out without its writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_geocatalog.api.errors import GeoCatalogError
from airflow_provider_geocatalog.api.http import Multipart, Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_geocatalog.api.http import Flow

__all__ = ["PlannedWrite", "planned"]

T = TypeVar("T")


@dataclass(frozen=True)
class PlannedWrite:
    """
    A request that was not sent.

    :param operation: Its name, as the client's methods have it.
    :param method: HTTP method.
    :param path: Path below the api-version's prefix.
    :param subject: Id or key of what is written, where the path does not tell it.
    """

    operation: str
    method: str
    path: str
    subject: str | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}" + (f" ({self.subject})" if self.subject else "")

    def to_json(self) -> dict[str, str | None]:
        """Return the write as a JSON object."""
        return dict(vars(self))


def planned(flow: Flow[T]) -> Flow[tuple[T, list[PlannedWrite]]]:
    """
    Carry a procedure out, but send only what reads; the service seems to do at once what it is asked to.

    :param flow: Any procedure that does not read again what it has created.
    :return: What the procedure returns, and the writes that it would have sent.
    """
    writes: list[PlannedWrite] = []
    try:
        effect = next(flow)
        while True:
            result: Any = None
            error: GeoCatalogError | None = None
            if isinstance(effect, Request) and not _only_reads(effect):
                writes.append(_write(effect))
                result = _done(effect)
            else:
                try:
                    result = yield effect
                except GeoCatalogError as raised:
                    error = raised
            effect = flow.send(result) if error is None else flow.throw(error)
    except StopIteration as stop:
        return stop.value, writes


def _only_reads(request: Request) -> bool:
    return request.endpoint.method == "GET" or request.endpoint.read_only


def _write(request: Request) -> PlannedWrite:
    content = _content(request)
    subject = content.get("id") or content.get("key")
    told = subject is None or subject in request.names.values()
    return PlannedWrite(request.endpoint.name, request.endpoint.method, request.path, None if told else str(subject))


def _content(request: Request) -> Mapping[str, Any]:
    body = request.body.data if isinstance(request.body, Multipart) else request.body
    return body if isinstance(body, dict) else {}


def _done(request: Request) -> Response:
    """Return an answer as the service gives it when there is nothing to wait for: what was sent, or nothing."""
    if request.endpoint.method == "DELETE":
        return Response(204)
    return Response(200, content=json.dumps(_content(request)).encode())
