"""Read what users hand to operators: a dict, a pystac object, JSON text, or a path or URL of a JSON document."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

__all__ = ["load_document"]

_TIMEOUT = 30.0  # seconds to fetch a document


def load_document(value: Any, what: str) -> Any:
    """
    Return a JSON value.

    :param value: A dict or list, an object with ``to_dict`` (pystac), a string with JSON, or a string with a path or
        URL: http(s) is fetched, everything else is read through Airflow's object storage paths (``file``, ``abfs``,
        ``s3``, ``gs`` and what else is installed).
    :param what: What it is, for messages.
    :raises GeoCatalogInvalidInput: It cannot be read or is not JSON.
    """
    if hasattr(value, "to_dict"):
        return _from_pystac(value)
    if not isinstance(value, str):
        try:
            return json.loads(json.dumps(value))  # a copy: template fields must not change under a retry
        except (TypeError, ValueError) as error:
            raise GeoCatalogInvalidInput(f"{what} cannot be written as JSON: {error}") from error
    text = value.strip()
    if not text:
        raise GeoCatalogInvalidInput(f"{what} is empty")
    if text[0] not in "{[":
        text = _read(text, what)
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except ValueError as error:
        shown = value if len(value) < 200 else value[:200] + "..."
        raise GeoCatalogInvalidInput(f"{what} is not JSON ({error}): {shown}") from error


def _from_pystac(value: Any) -> Any:
    try:
        # The object's own links lead to where it was read from; the service makes its own.
        return value.to_dict(include_self_link=False, transform_hrefs=False)
    except TypeError:
        return value.to_dict()


def _read(location: str, what: str) -> str:
    if urlsplit(location).scheme in {"http", "https"}:
        return _fetch(location, what)
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        return str(ObjectStoragePath(location).read_text())
    except (OSError, ValueError, ImportError) as error:
        raise GeoCatalogInvalidInput(f"{what} cannot be read from {location}: {error}") from error


def _fetch(url: str, what: str) -> str:
    import requests

    try:
        answer = requests.get(url, timeout=_TIMEOUT)
    except (requests.RequestException, ValueError) as error:
        # What requests raises has the query in its text.
        raise GeoCatalogInvalidInput(f"{what} cannot be read from {url} ({type(error).__name__})") from None
    if not answer.ok:
        reason = f"{answer.status_code} {answer.reason or ''}".strip()
        raise GeoCatalogInvalidInput(f"{what} cannot be read from {url} ({reason})")
    try:
        # JSON is UTF-8; by media type alone requests would take some of it for Latin-1.
        return answer.content.decode()
    except UnicodeDecodeError as error:
        raise GeoCatalogInvalidInput(f"{what} cannot be read from {url} ({error})") from error
