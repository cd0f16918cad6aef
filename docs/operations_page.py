"""
``python docs/operations_page.py``: write ``docs/operations.md`` from the code; ``--check``: see that it is current.

Everything on the page stands in the code once: names and docstrings in the operations, methods and paths in the
endpoints, differences between api-versions in the dialects.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from airflow_provider_geocatalog.api.dialects import API_VERSIONS, DIALECTS
from airflow_provider_geocatalog.api.operations import endpoint_of
from airflow_provider_geocatalog.client_methods import ListMethod, Method, OperationMethods

PAGE = Path(__file__).with_name("operations.md")
VERSIONS = tuple(reversed(API_VERSIONS))
TITLES = {
    "sources": "Ingestion sources",
    "ingestions": "Ingestion definitions and runs",
    "operations": "Long-running operations",
    "collections": "Catalog and collections",
    "items": "Items and search",
    "queryables": "Queryables",
    "configurations": "Mosaics, render options, tile settings, partition type",
    "sas": "Signatures for managed storage",
    "waiting": "Waiting",
}
INTRODUCTION = """# Operations

<!-- Written by `make docs-page` from the code. Do not edit. -->

Every operation of the service is a method of the client, in your own tasks as well:

```python
from airflow.providers.common.compat.sdk import task

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook


@task
def count_items(collection_id: str) -> int:
    client = GeoCatalogHook().client
    return sum(1 for _ in client.list_items(collection_id, limit=1000))


@task
async def describe(collection_id: str) -> str:
    client = await GeoCatalogHook().aget_client()
    collection = await client.get_collection.aio(collection_id)
    return collection["description"]


@task
def add_item(item: dict) -> dict:
    client = GeoCatalogHook().client
    started = client.create_item("naip", item)
    return client.wait(started, timeout=600).resource
```

- `client.method(...)` blocks; `await client.method.aio(...)` is the same on an event loop.
- Lists are iterators that read a page when it is needed (`async for` with `.aio`). A page that comes twice, or
  links that form a loop, end in `GeoCatalogProtocolError`: never in half a list.
- Methods that start a long-running operation return a `Started`, whatever the api-version answers (201, 202, 204).
  `client.wait` waits for it, raises if it failed, and reads the resource again.
- STAC documents are JSON objects as the service sends them. Everything else is typed, with aware datetimes, and
  keeps the answer as it came in `raw`.
- Failed calls are repeated for up to two minutes where that is safe (`GET`, `PUT`, `DELETE`, searches; another
  `POST` only if it was certainly not processed): 408, 429, 500, 502, 503, 504 and broken connections, at the
  service's `Retry-After`.
- Errors: `airflow_provider_geocatalog.api.errors`. Each has `status`, `code`, `message`, `request_id`, `method`,
  `path`, `hint`, `retryable`. A method that the connection's api-version lacks raises
  `GeoCatalogUnsupportedOperation`.
- One process sends at most 40 requests per second to one GeoCatalog, all its tasks together (`requests_per_second`
  in the connection).
"""


def methods() -> dict[str, list[tuple[str, Method[..., Any] | ListMethod[..., Any]]]]:
    """Return the client's methods by the module that defines them."""
    groups: dict[str, list[tuple[str, Method[..., Any] | ListMethod[..., Any]]]] = {name: [] for name in TITLES}
    for name, method in vars(OperationMethods).items():
        if isinstance(method, Method | ListMethod):
            groups[method.definition.__module__.rsplit(".", 1)[-1]].append((name, method))
    return groups


def page() -> str:
    """Return the page's text."""
    parts = [INTRODUCTION, _overview()]
    for module, entries in methods().items():
        parts.append(f"## {TITLES[module]}\n")
        parts += [_section(name, method) for name, method in entries]
    return "\n".join(parts)


def _overview() -> str:
    lines = ["## Overview\n"]
    for module, entries in methods().items():
        if module == "waiting":
            continue
        lines += [f"**{TITLES[module]}**\n", f"| Method | {' | '.join(VERSIONS)} |", "|---" * (len(VERSIONS) + 1) + "|"]
        for name, method in entries:
            paths = [_request(method, version) for version in VERSIONS]
            shown = [f"`{path}`" if path else "-" for path in paths]
            if paths[0] and paths[0] == paths[1]:
                shown[1] = "the same"
            lines.append(f"| [`{name}`](#{name}) | {' | '.join(shown)} |")
        lines.append("")
    return "\n".join(lines)


def _request(method: Method[..., Any] | ListMethod[..., Any], version: str) -> str | None:
    endpoint, dialect = endpoint_of(method.definition), DIALECTS[version]
    return f"{endpoint.method} {dialect.template(endpoint)}" if dialect.has(endpoint) else None


def _section(name: str, method: Method[..., Any] | ListMethod[..., Any]) -> str:
    signature = inspect.signature(getattr(_Nobody(), name))
    arguments = ", ".join(_argument(parameter) for parameter in _with_star(signature))
    lines = [f'<a id="{name}"></a>\n', f"### `client.{name}({arguments})`\n"]
    text, fields = _docstring(method.definition)
    lines.append(f"{text}\n")
    returned = str(signature.return_annotation).strip("'")
    for kind, subject, words in fields:
        if kind == "param":
            lines.append(f"- `{subject}`: {words}")
        elif kind == "raises":
            lines.append(f"- raises `{subject}`: {words}")
    told = next((words for kind, _, words in fields if kind == "return"), "")
    lines.append(f"- returns `{returned}`{f': {told}' if told else ''}\n")
    return "\n".join(lines)


class _Nobody(OperationMethods):
    """A client of nothing, to look at its methods."""

    def run(self, flow: Any) -> Any:
        """Nothing is carried out."""

    async def arun(self, flow: Any) -> Any:
        """Nothing is carried out."""

    def check(self, request: Any) -> None:
        """Nothing is carried out."""


def _with_star(signature: inspect.Signature) -> list[inspect.Parameter | str]:
    found: list[inspect.Parameter | str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in found:
            found.append("*")
        found.append(parameter)
    return found


def _argument(parameter: inspect.Parameter | str) -> str:
    if isinstance(parameter, str):
        return parameter
    if parameter.default is parameter.empty:
        return parameter.name
    shown = "..." if parameter.name == "retries" else repr(parameter.default)
    return f"{parameter.name}={shown}"


def _docstring(function: Any) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the text of a docstring and its fields: kind, subject, words."""
    text, _, rest = inspect.cleandoc(function.__doc__).partition("\n:")
    fields = []
    for field in re.split(r"\n(?=:)", f":{rest}") if rest else []:
        head, words = re.fullmatch(r":([^:]+):\s*(.*)", field, re.DOTALL).groups()  # type: ignore[union-attr]
        kind, _, subject = head.partition(" ")
        fields.append((kind, subject, markdown_of(words)))
    return markdown_of(text), fields


def markdown_of(text: str) -> str:
    """Return reStructuredText of our docstrings as Markdown, on one line for each paragraph."""
    text = re.sub(r":(?:func|class|meth|attr|mod):`[~!]?(?:[\w.]+\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def main(arguments: list[str]) -> int:
    """
    Write the page or check it.

    :return: Exit code: 1 if the page is not current.
    """
    text = page()
    if "--check" in arguments:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        if not current:
            print(f"{PAGE.name} is not current; run `make docs-page`", file=sys.stderr)
        return 0 if current else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
