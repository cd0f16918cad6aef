"""What faults do to answers: other answers, broken connections, and operations that are shown as they are not."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.emulator.faults import ContentType, Drip, Drop, ExpireTokens, Html, Status, Truncate
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from airflow_provider_geocatalog.emulator.faults import Faults, Rule
    from airflow_provider_geocatalog.emulator.state import Operation

__all__ = ["TRANSPORT", "disguise", "instead_of", "is_handled", "send_faulty"]

#: The ASGI extension with which the server hands over the connection's transport.
TRANSPORT = "airflow_provider_geocatalog.transport"
_CLOSING = 5.0  # seconds for a connection to close once everything was handed to it
_CODES = {403: "Forbidden", 408: "RequestTimeout", 429: "TooManyRequests", 500: "InternalServerError"}


def is_handled(rule: Rule | None) -> bool:
    """Return whether a request is handled in spite of its fault."""
    if isinstance(rule, Status | Drop | Html):
        return rule.handled
    return not isinstance(rule, ExpireTokens)


def instead_of(rule: Rule | None) -> Answer | None:
    """Return the answer that a fault gives in place of the service's, if it gives one."""
    if isinstance(rule, ExpireTokens):
        return Answer(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
    if isinstance(rule, Html):
        return Answer(rule.status, _page("Sign in"), media_type="text/html; charset=utf-8")
    if not isinstance(rule, Status):
        return None
    answer = _refusal(rule)
    if rule.retry_after is not None:
        # A date is for the client's clock, which is the machine's.
        at = email.utils.formatdate(time.time() + rule.retry_after, usegmt=True)
        answer.headers["Retry-After"] = at if rule.retry_after_form == "date" else f"{rule.retry_after:g}"
    answer.headers |= rule.headers
    return answer


def _refusal(rule: Status) -> Answer:
    phrase = _phrase(rule.status)
    if rule.body == "empty":
        return Answer(rule.status)
    if rule.body == "html":
        return Answer(rule.status, _page(f"{rule.status} {phrase}"), media_type="text/html; charset=utf-8")
    if rule.body == "problem":
        return ProblemError(rule.status, rule.message).answer()
    if rule.status == 401 and rule.code is None:
        return Answer(401, headers={"WWW-Authenticate": "Bearer"})  # (service-open-questions P1)
    code = rule.code or _CODES.get(rule.status) or phrase.replace(" ", "")
    return ApiError(rule.status, code, rule.message or f"{phrase}, as the emulator was told.").answer()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _page(title: str) -> bytes:
    return f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n".encode()


# --- on the connection ----------------------------------------------------------------------------------------------


async def send_faulty(rule: Rule | None, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer as a fault has it arrive."""
    if isinstance(rule, ContentType):
        response.headers["Content-Type"] = rule.content_type
    bodiless = not response.body or scope["method"] == "HEAD"
    if isinstance(rule, Drop) or (isinstance(rule, Truncate) and bodiless):
        await _hang_up(scope, receive)
    elif isinstance(rule, Truncate):
        await _send_part(rule, response, send)
        await _hang_up(scope, receive)
    elif isinstance(rule, Drip):
        await _send_slowly(rule, response, scope)
        await _hang_up(scope, receive)
    else:
        await response(scope, receive, send)


async def _send_part(rule: Truncate, response: Response, send: Send) -> None:
    headers = [(name, value) for name, value in response.raw_headers if not rule.chunked or name != b"content-length"]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    part = bytes(response.body)[: int(len(response.body) * rule.keep)]
    await send({"type": "http.response.body", "body": part, "more_body": True})


async def _send_slowly(rule: Drip, response: Response, scope: Scope) -> None:
    """Write to the connection itself, since ASGI sends headers as a whole."""
    transport = _transport(scope)
    lines = [f"HTTP/1.1 {response.status_code} {_phrase(response.status_code)}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    head, body = b"\r\n".join([*lines, b"connection: close", b"", b""]), bytes(response.body)
    if scope["method"] == "HEAD":
        body = b""
    slow = head if rule.part == "headers" else body
    if rule.part == "body" and not transport.is_closing():  # the client may have given up while it was being worked on
        transport.write(head)
    for start in range(0, len(slow), rule.size):
        if transport.is_closing():
            return
        transport.write(slow[start : start + rule.size])
        await asyncio.sleep(rule.seconds)
    if rule.part == "headers" and not transport.is_closing():
        transport.write(body)


async def _hang_up(scope: Scope, receive: Receive) -> None:
    """Close a connection, and return when the server knows, or it would complain of an answer that is not whole."""
    transport = _transport(scope)
    transport.close()
    try:
        await asyncio.wait_for(_disconnection(receive), _CLOSING)
    except TimeoutError:  # the client does not read what is on the way
        transport.abort()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_disconnection(receive), _CLOSING)


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(scope: Scope) -> asyncio.Transport:
    transport = scope.get("extensions", {}).get(TRANSPORT)
    if transport is None:
        raise RuntimeError("connections can be broken behind an EmulatorServer only")
    found: asyncio.Transport = transport
    return found


# --- operations -----------------------------------------------------------------------------------------------------


def disguise(body: Any, faults: Faults, operations: dict[str, Operation], id_member: str) -> None:
    """
    Show operations as faults have it, in an answer of the ingestion side.

    :param body: The answer's, which is changed.
    :param operations: Those that there are, by id.
    :param id_member: The member with an operation's id.
    """
    for shown in _shown_operations(body):
        operation = operations.get(shown.get(id_member, ""))
        if operation is not None:
            shown["status"] = faults.shown_status(operation, shown["status"])
            shown["statusHistory"] = faults.shown_history(operation, shown["statusHistory"])


def _shown_operations(body: Any) -> Iterator[dict[str, Any]]:
    if isinstance(body, list):
        for one in body:
            yield from _shown_operations(one)
    elif isinstance(body, dict):
        if "statusHistory" in body:
            yield body
        for member in ("value", "operation"):  # the envelope of a list; the operation in a run
            yield from _shown_operations(body.get(member))
