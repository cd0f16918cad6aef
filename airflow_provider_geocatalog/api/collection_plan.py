"""What a collection should be, and what has to be done for it: values that render as text, Markdown and JSON."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.errors import GeoCatalogConflict, GeoCatalogError
from airflow_provider_geocatalog.api.http import FilePart, Flow, Request
from airflow_provider_geocatalog.api.redaction import redact_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "Action",
    "CollectionPlan",
    "Difference",
    "GeoCatalogDrift",
    "PlanEntry",
    "WantedAsset",
    "WantedCollection",
]

_SHOWN = 160  # characters of a value in a text for people; the JSON form has all of it


class GeoCatalogDrift(GeoCatalogError):
    """A collection is not as its document says."""

    hint = "Apply the document, or export the collection and keep what was changed."


# --- what is wanted --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WantedAsset:
    """
    A file of the collection itself.

    :param key: ``thumbnail`` is the collection's picture.
    :param members: ``type``, ``title``, ``roles``, ``description``, as far as they are managed.
    :param file: The file; without one the stored file is left as it is.
    """

    key: str
    members: Mapping[str, Any]
    file: FilePart | None = None


@dataclass(frozen=True)
class WantedCollection:
    """What a document says, checked; a section that is ``None`` is not managed."""

    collection_id: str
    collection: Mapping[str, Any] | None = None
    partition_type: str | None = None
    queryables: tuple[Mapping[str, Any], ...] | None = None
    render_options: tuple[Mapping[str, Any], ...] | None = None
    mosaics: tuple[Mapping[str, Any], ...] | None = None
    tile_settings: Mapping[str, Any] | None = None
    assets: tuple[WantedAsset, ...] | None = None

    def uncommon_writes(self) -> list[Request]:
        """Return requests that it may need and that not every api-version has, so that a client can look first."""
        names = {"collection_id": self.collection_id}
        needs = (
            (endpoints.REPLACE_PARTITION_TYPE, self.partition_type),
            (endpoints.CREATE_QUERYABLES, self.queryables),
            (endpoints.CREATE_COLLECTION_ASSET, self.assets),
        )
        return [Request(endpoint, names) for endpoint, section in needs if section is not None]


# --- the plan --------------------------------------------------------------------------------------------------------


class Action(enum.Enum):
    """What is to be done about one setting."""

    CREATE = "create"
    REPLACE = "replace"
    DELETE = "delete"
    KEEP = "keep"


@dataclass(frozen=True)
class Difference:
    """One member that is not as it should be; ``None`` is a member that is not there."""

    member: str
    old: Any
    new: Any


@dataclass(frozen=True)
class PlanEntry:
    """
    What is to be done about one setting.

    :param kind: ``collection``, ``partition type``, ``queryable``, ``render option``, ``mosaic``, ``tile settings`` or
        ``asset``.
    :param entry_id: Which one; empty where a collection has only one.
    :param blocked: Why it cannot be done.
    :param write: Makes the flow that does it.
    """

    kind: str
    entry_id: str
    action: Action
    differences: tuple[Difference, ...] = ()
    blocked: str | None = None
    write: Callable[[], Flow[Any]] | None = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The setting in words."""
        return f"{self.kind} {self.entry_id}".strip()

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON object; a secret that somebody has put into a link is not shown."""
        shown: dict[str, Any] = {
            "kind": self.kind,
            "id": self.entry_id,
            "action": self.action.value,
            "differences": [redact_json(vars(difference)) for difference in self.differences],
        }
        return {**shown, "blocked": self.blocked} if self.blocked else shown


_SIGNS = {Action.CREATE: "+", Action.REPLACE: "~", Action.DELETE: "-", Action.KEEP: "="}


@dataclass(frozen=True)
class CollectionPlan:
    """What has to be written so that a collection is as its document says, in the order of the writes."""

    collection_id: str
    entries: tuple[PlanEntry, ...]

    @property
    def changes(self) -> tuple[PlanEntry, ...]:
        """The entries that are not as they should be."""
        return tuple(entry for entry in self.entries if entry.action is not Action.KEEP)

    @property
    def summary(self) -> str:
        """The counts in one sentence."""
        counts = {action: sum(entry.action is action for entry in self.entries) for action in Action}
        return (
            f"{counts[Action.CREATE]} to create, {counts[Action.REPLACE]} to replace, "
            f"{counts[Action.DELETE]} to delete, {counts[Action.KEEP]} as they should be"
        )

    def to_text(self) -> str:
        """Return the plan for a log or a terminal."""
        lines = [f"Collection {self.collection_id}: {self.summary}."]
        for entry in self.changes:
            lines.append(f"  {_SIGNS[entry.action]} {entry.label}")
            lines += [f"      {one.member}: {_shown(one.old)} -> {_shown(one.new)}" for one in entry.differences]
            if entry.blocked:
                lines.append(f"      ! {entry.blocked}")
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Return the plan for a pull request."""
        lines = [f"### Collection `{self.collection_id}`", "", f"{self.summary[0].upper()}{self.summary[1:]}."]
        if self.changes:
            lines += ["", "| Action | Setting | Member | Now | Wanted |", "|---|---|---|---|---|"]
        for entry in self.changes:
            begin = f"| {entry.action.value} | {_cell(entry.label)} |"
            rows = [f" {_cell(one.member)} | {_cell(one.old)} | {_cell(one.new)} |" for one in entry.differences]
            lines += [begin + row for row in rows or ["  |  |  |"]]
        lines += ["", *(f"- **Cannot be done:** {entry.blocked}" for entry in self.changes if entry.blocked)]
        return "\n".join(lines).rstrip() + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        return {
            "collection_id": self.collection_id,
            "in_line": not self.changes,
            "summary": self.summary,
            "entries": [entry.to_json() for entry in self.entries],
        }

    def require_in_line(self) -> None:
        """
        Refuse a collection that is not as its document says.

        :raises GeoCatalogDrift: It is not, with every difference.
        """
        if self.changes:
            raise GeoCatalogDrift(f"collection {self.collection_id!r} is not as its document says:\n{self.to_text()}\n")

    def require_possible(self) -> None:
        """
        Refuse a plan with writes that the service would refuse.

        :raises GeoCatalogConflict: It has some, with every reason.
        """
        blocked = [entry.blocked for entry in self.entries if entry.blocked]
        if blocked:
            raise GeoCatalogConflict(
                f"the document of collection {self.collection_id!r} cannot be applied: {'; '.join(blocked)}",
                hint="Nothing was written.",
            )

    def require_approved(self, approved: Mapping[str, Any]) -> None:
        """
        Refuse writes that are not among those of an approved plan; those that were made meanwhile may be missing.

        :param approved: The approved plan as a JSON object.
        :raises GeoCatalogConflict: There are some, with their names.
        """
        entries = approved.get("entries") or ()
        of_new = any(entry.get("kind") == "collection" and entry.get("action") == "create" for entry in entries)
        known = {fingerprint for entry in entries for fingerprint in _fingerprints(entry, of_new=of_new)}
        new = [entry.label for entry in self.changes if not _fingerprints(entry.to_json(), of_new=of_new) <= known]
        if approved.get("collection_id") != self.collection_id or new:
            raise GeoCatalogConflict(
                f"what is to be written to collection {self.collection_id!r} is not what was approved: "
                f"{', '.join(new) or 'the plan is of another collection'}",
                hint="The collection or the document has changed since. Plan again, and have that approved.",
            )


def _fingerprints(entry: Mapping[str, Any], *, of_new: bool) -> set[str]:
    """
    Return what an entry changes, in a form that can be compared.

    :param of_new: Whether it is from a plan that creates the collection, or is compared with one: which tile settings
        a new collection has is not known before, so a retry finds other old values of theirs.
    """
    what = [entry.get(name) for name in ("kind", "id", "action")]
    differences = entry.get("differences") or []
    parts = [[*what, differences]]
    if of_new and what[0] == "tile settings":
        parts = [[*what, one.get("member"), one.get("new")] for one in differences]
    return {json.dumps(part, sort_keys=True) for part in parts}


def _shown(value: Any) -> str:
    text = "(none)" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _cell(value: Any) -> str:
    """Return a value for a cell of a Markdown table."""
    text = value if isinstance(value, str) and len(value) < _SHOWN else _shown(value)
    if not text:
        return '""'
    text = " ".join(text.split()).replace("|", "\\|")
    fence = "``" if "`" in text else "`"
    return f"{fence} {text} {fence}" if fence == "``" else f"`{text}`"
