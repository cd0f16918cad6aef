"""HTML and SVG that cannot be broken by what is put into it."""

from __future__ import annotations

import html

from airflow_provider_geocatalog.api.redaction import redact

__all__ = ["Markup", "element"]

_VOID = frozenset({"meta", "input"})


class Markup(str):
    """Text that is markup already; every other text is escaped."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str) -> Markup:
    """
    Return an element; texts in it lose their secrets and are escaped.

    :param attributes: A trailing underscore is dropped, others become hyphens.
    """
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{_safe(value)}"' for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{''.join(map(_safe, children))}</{name}>")


def _safe(text: str) -> str:
    return text if isinstance(text, Markup) else html.escape(redact(str(text)))
