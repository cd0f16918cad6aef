"""
What the documentation site makes of the pages: a Sphinx extension.

The Markdown pages are read on a code host as well, where links lead to files. In the site a link to a part of the
README leads to the page that includes it, one to an example DAG to its place on the page of examples, and the name of a
class to the reference. Lists that stand in the code are written into the pages where these have
``<!-- generated: name -->``.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from operations_page import markdown_of
from sphinx.util.nodes import make_refnode

from airflow_provider_geocatalog.api import errors
from airflow_provider_geocatalog.api.fault_codes import FAULT_CODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
EXAMPLES = ROOT / "example_dags"

_LINK = re.compile(r"(?<=\]\()([^)\s#]*)(#[^)\s]*)?(?=\))")
_INCLUDE = re.compile(
    r'^```\{include\} (?P<file>\S+)\n:start-after: "(?P<start>[^"]+)"\n(?::end-before: "(?P<end>[^"]+)"\n)?```$',
    re.MULTILINE,
)
_HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_GENERATED = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_ANCHOR = re.compile(r'^<a id="(\w+)"></a>$', re.MULTILINE)


def slug(heading: str) -> str:
    """Return a heading's anchor, as code hosts and the site make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Return the anchors of a Markdown page."""
    plain = _FENCE.sub("", text)
    return {slug(title) for title in _HEADING.findall(plain)} | set(re.findall(r'<a id="([^"]+)">', plain))


# --- links -----------------------------------------------------------------------------------------------------------


def included_parts() -> dict[tuple[Path, str], str]:
    """Return which page has which part of a file outside: by file and anchor ("" for the file), page and anchor."""
    found: dict[tuple[Path, str], str] = {}
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        own = anchors(text)
        for include in _INCLUDE.finditer(text):
            file = (DOCS / include["file"]).resolve()
            part = file.read_text(encoding="utf-8").partition(include["start"])[2]
            if include["end"]:
                part = part.partition(include["end"])[0]
            for anchor in anchors(part):
                found[file, anchor] = f"{page.name}#{anchor}"
            heading = slug(include["start"].lstrip("#"))
            found[file, heading] = f"{page.name}#{heading}" if heading in own else page.name
            found.setdefault((file, ""), page.name)
    found[ROOT / "README.md", ""] = "index.md"
    return found


def relinked(text: str, file: Path, parts: dict[tuple[Path, str], str]) -> str:
    """Return a page's text with links that lead to pages of the site."""

    def replace(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if "://" in path or path.startswith("mailto:"):
            return match[0]
        target = Path(os.path.normpath(file.parent / path)) if path else file
        if (target, anchor[1:]) in parts:
            return parts[target, anchor[1:]]
        if target == EXAMPLES:
            return "examples.md"
        if target.parent == EXAMPLES:
            return f"examples.md#{target.stem}"
        return (os.path.relpath(target, DOCS) if path or file.parent != DOCS else "") + anchor

    return _LINK.sub(replace, text)


# --- generated parts -------------------------------------------------------------------------------------------------


def fault_codes() -> str:
    """Return the service's ingestion error codes as a table."""
    lines = ["| Code | What happened | What to do | Passes by itself |", "|---|---|---|---|"]
    for fault in FAULT_CODES.values():
        passes = "can" if fault.transient else "no"
        code = f'<span id="{fault.code}"></span>`{fault.code}`'
        lines.append(f"| {code} | {_sentence(fault.meaning)} | {fault.action} | {passes} |")
    return "\n".join(lines)


#: What to do about errors whose hint depends on the case, in general.
_TO_DO = {
    "GeoCatalogInvalidInput": "Correct what the message names; it names all that is wrong.",
    "GeoCatalogConflict": "Take another id, or wait until what the message names has ended.",
    "GeoCatalogThrottled": "Lower *Requests per second* in the connection if it comes often.",
    "GeoCatalogServerError": "Run it again later. The service's support asks for the request id.",
    "GeoCatalogUnreachable": "Check the connection's URL, and the worker's network, proxy and certificates.",
    "GeoCatalogOperationError": "Look for its code [below](#ingestion-error-codes).",
    "GeoCatalogOperationFailed": "Look for its code [below](#ingestion-error-codes).",
    "GeoCatalogItemsFailed": "Look for the items' codes [below](#ingestion-error-codes), or raise `max_failed_items`.",
    "GeoCatalogWaitTimeout": "Raise the task's `timeout`, or look at the run in the GeoCatalog.",
}


def error_classes() -> str:
    """Return this package's errors as a table."""
    statuses: dict[type, list[str]] = {}
    for status, cls in errors._BY_STATUS.items():
        statuses.setdefault(cls, []).append(str(status))
    lines = ["| Error | What happened | What to do | A retry can help | Status |", "|---|---|---|---|---|"]
    for name, cls in vars(errors).items():
        if inspect.isclass(cls) and issubclass(cls, errors.GeoCatalogError) and cls is not errors.GeoCatalogError:
            said = " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
            retry = "yes" if cls.retryable else ""
            lines.append(
                f"| {{py:exc}}`{name} <{cls.__module__}.{name}>` | {said} | {cls.hint or _TO_DO[name]} | {retry} "
                f"| {', '.join(statuses.get(cls, ()))} |"
            )
    return "\n".join(lines)


def example_dags() -> str:
    """Return all example DAGs, each with its description and its code."""
    parts = []
    for file in sorted(EXAMPLES.glob("*.py")):
        described = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        first = markdown_of(described.split("\n\n")[0])
        shown = os.path.relpath(file, DOCS)
        parts.append(f"## {file.stem}\n\n{first}\n\n```{{literalinclude}} {shown}\n:language: python\n```")
    return "\n\n".join(parts)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


GENERATED: dict[str, Callable[[], str]] = {
    "error-classes": error_classes,
    "example-dags": example_dags,
    "fault-codes": fault_codes,
}


# --- what Sphinx calls -----------------------------------------------------------------------------------------------


def _read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    file = Path(app.env.doc2path(docname))
    if file.suffix == ".md":
        text = relinked(source[0], file, app.config.included_parts)
        text = _GENERATED.sub(lambda match: GENERATED[match[1]](), text)
        source[0] = _with_targets(text)


def _with_targets(text: str) -> str:
    """Make targets that links are checked against of anchors in HTML; their names are the whole site's."""
    for name in _ANCHOR.findall(text):
        text = text.replace(f"](#{name})", f"](#client-{name})")
    return _ANCHOR.sub(r"(client-\1)=", text)


def _read_included(app: Sphinx, path: Path, _parent: str, content: list[str]) -> None:
    file = Path(os.path.normpath(DOCS / path))
    if file.suffix == ".md":
        content[0] = relinked(content[0], file, app.config.included_parts)


def _dress_literals(app: Sphinx, page: nodes.document, docname: str) -> None:
    """Make a link of each class's name that stands as code, to its place in the reference; and let paths break."""
    described = {
        name.rpartition(".")[2]: entry
        for name, entry in app.env.domains.python_domain.objects.items()
        if entry.objtype in {"class", "exception"}
    }
    for literal in list(page.findall(nodes.literal)):
        if "/" in literal.astext() or "::" in literal.astext():
            literal["classes"].append("path")  # may be broken anywhere, so that tables fit
        entry = described.get(literal.astext())
        if entry and entry.docname != docname and not isinstance(literal.parent, nodes.reference | nodes.title):
            link = make_refnode(app.builder, docname, entry.docname, entry.node_id, literal.deepcopy())
            literal.parent.replace(literal, link)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.add_config_value("included_parts", included_parts(), "env")
    app.connect("source-read", _read_page)
    app.connect("include-read", _read_included)
    app.connect("doctree-resolved", _dress_literals)
    return {"parallel_read_safe": True}
