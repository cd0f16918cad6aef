"""Where the service puts the files of a collection."""

from __future__ import annotations

import hashlib
from urllib.parse import unquote, urlsplit

__all__ = ["managed_container", "managed_container_url"]


def managed_container(collection_id: str) -> str:
    """Return the name of a collection's container in managed storage; the rule was recorded (geocatalog-api 7.5)."""
    return f"{collection_id}-{hashlib.sha256(collection_id.encode()).hexdigest()[:8]}"


def managed_container_url(href: str, collection_id: str) -> str | None:
    """
    Return the URL of the container of managed storage that an href leads into, by the form of the href alone.

    :return: The URL without a slash at its end; ``None`` if the href is not of that form.
    """
    try:
        parts = urlsplit(href)
    except ValueError:
        return None
    segments, container = parts.path.split("/"), managed_container(collection_id)
    for number, segment in enumerate(segments[:-1]):
        if unquote(segment) == container:
            return f"{parts.scheme}://{parts.netloc}{'/'.join(segments[: number + 1])}"
    return None
