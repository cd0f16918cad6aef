"""
What tells whether an item has changed: a hash of what was sent, kept as a property of the item.

The service rewrites hrefs, links and versions of extensions (geocatalog-api 7.5), so what it returns never equals what
was sent.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["FINGERPRINT", "fingerprint", "fingerprint_of", "fingerprint_of_text", "text_of", "with_fingerprint"]

#: The property that holds the hash.
FINGERPRINT = "transfer:sha256"


def fingerprint(item: dict[str, Any]) -> str:
    """
    Return the SHA-256 of an item's JSON, whatever the order of its members, without the property that holds it.

    :param item: A STAC Item as it is sent, before anything is added that differs each time (signatures, provenance).
    """
    return fingerprint_of_text(text_of(item))


def text_of(item: dict[str, Any]) -> str:
    """
    Return the JSON that the hash is of.

    :raises TypeError: It cannot be written as JSON.
    :raises ValueError: That as well.
    """
    properties = item.get("properties")
    if isinstance(properties, dict) and FINGERPRINT in properties:
        item = {**item, "properties": {name: value for name, value in properties.items() if name != FINGERPRINT}}
    return json.dumps(item, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint_of_text(text: str) -> str:
    """Return the hash of the JSON of an item; writing that costs more than all else, and others need it as well."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def with_fingerprint(item: dict[str, Any], value: str | None = None) -> dict[str, Any]:
    """
    Return an item with its hash as a property.

    :param value: The hash, where it is known.
    """
    return {**item, "properties": {**item["properties"], FINGERPRINT: value or fingerprint(item)}}


def fingerprint_of(item: Any) -> str | None:
    """Return the hash that an item in the catalog carries, ``None`` if it was not sent by a transfer."""
    properties = item.get("properties") if isinstance(item, dict) else None
    found = properties.get(FINGERPRINT) if isinstance(properties, dict) else None
    return found if isinstance(found, str) else None
