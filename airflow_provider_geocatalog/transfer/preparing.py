"""Make of a source's item what is sent: choose, transform, check, and tell it from those that were there before."""

from __future__ import annotations

import enum
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.transfer.dead_letters import DeadLetter, Stage
from airflow_provider_geocatalog.transfer.fingerprint import fingerprint_of_text, text_of, with_fingerprint
from airflow_provider_geocatalog.transfer.reading import Position
from airflow_provider_geocatalog.transfer.transforms import TransformError
from airflow_provider_geocatalog.transfer.windows import item_moment, moment, moment_text

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence

    from airflow_provider_geocatalog.transfer.item_checks import HrefCheck, ItemChecker, SeenIds
    from airflow_provider_geocatalog.transfer.transforms import Pipeline
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["Extent", "Prepared", "PreparedItems", "Preparer", "ValidationMode"]

log = logging.getLogger(__name__)

_WARNINGS = 20  # problems of items told one by one; the rest are counted


class ValidationMode(enum.Enum):
    """What is done with items that the service would not take, or that make no sense."""

    OFF = "off"
    WARN = "warn"
    FAIL = "fail"
    SET_ASIDE = "set_aside"


@dataclass(slots=True)
class Prepared:
    """
    An item that is ready to be sent.

    :param fingerprint: What tells whether it has changed.
    :param text: It as JSON, without the fingerprint and what differs from run to run.
    :param item: It as it is sent; ``None`` once that is done, and made again from ``text`` if need be.
    :param number: Its place among the items that were read with it.
    """

    item_id: str
    fingerprint: str
    text: str
    item: dict[str, Any] | None = None
    number: int = 0


@dataclass
class Extent:
    """
    Where and when items are.

    :param bbox: West, south, east, north in degrees.
    :param first: The earliest moment.
    :param last: The latest moment.
    """

    bbox: list[float] | None = None
    first: datetime.datetime | None = None
    last: datetime.datetime | None = None

    def add(self, item: dict[str, Any]) -> None:
        """Extend it to hold an item."""
        box: Any = item.get("bbox")
        is_box = isinstance(box, list) and len(box) in (4, 6) and all(isinstance(one, int | float) for one in box)
        half = len(box) // 2 if is_box else 0
        at = item_moment(item)
        flat = [box[0], box[1], box[half], box[half + 1]] if is_box else None
        if flat is not None and flat[0] > flat[2]:  # across the antimeridian
            flat[0], flat[2] = -180.0, 180.0
        self.merge(Extent(flat, at, at))

    def merge(self, other: Extent) -> None:
        """Extend it to hold another one."""
        if other.bbox is not None:
            one, two = self.bbox or other.bbox, other.bbox
            self.bbox = [min(one[0], two[0]), min(one[1], two[1]), max(one[2], two[2]), max(one[3], two[3])]
        if other.first is not None:
            self.first = min(self.first or other.first, other.first)
        if other.last is not None:
            self.last = max(self.last or other.last, other.last)

    def to_json(self) -> dict[str, Any]:
        """Return ``bbox`` and ``interval`` as a JSON object."""
        interval = [moment_text(self.first), moment_text(self.last)] if self.first else None
        return {"bbox": self.bbox, "interval": interval}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Extent:
        """Return the extent that a JSON object describes."""
        first, last = data["interval"] or (None, None)
        return cls(data["bbox"], moment(first), moment(last))


@dataclass
class PreparedItems:
    """
    What became of some items of a source.

    :param outside: Items that the window does not hold.
    :param filtered: Items that a transform left out.
    :param repeated: Items that had come before, just as they are.
    :param size: About the characters, as JSON, of the items that are held here.
    :param latest: The latest moment, by the window's field, of the items in the window.
    :param extent: Of the items that are ready.
    :param end: The place in the source behind them all.
    """

    seen: int = 0
    outside: int = 0
    filtered: int = 0
    repeated: int = 0
    ready: list[Prepared] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    size: int = 0
    latest: datetime.datetime | None = None
    extent: Extent = field(default_factory=Extent)
    end: Position = field(default_factory=Position)

    def set_aside(self, letter: DeadLetter, text: str | None = None) -> None:
        """
        Add an item that is not sent.

        :param text: It as JSON, where that is at hand.
        """
        self.dead.append(letter)
        self.size += _size(letter.item) if text is None else len(text)


class Preparer:
    """
    Prepares items; not thread-safe.

    :param pipeline: What is made of them.
    :param checker: What looks at them; ``None`` for nothing beyond what sending needs.
    :param hrefs: What looks at where their assets are, once they are as they are sent.
    :param seen: What tells ids that came before.
    :param window: The items that are asked for.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        checker: ItemChecker | None,
        hrefs: HrefCheck | None = None,
        seen: SeenIds,
        window: Window | None = None,
        validation: ValidationMode = ValidationMode.SET_ASIDE,
        href_check: ValidationMode = ValidationMode.OFF,
    ) -> None:
        self._pipeline, self._checker, self._hrefs, self._seen = pipeline, checker, hrefs, seen
        self._window = window
        self._validation, self._href_check = validation, href_check
        self._warned = 0

    def prepare(self, items: Sequence[Any]) -> PreparedItems:
        """
        Prepare items.

        :raises GeoCatalogInvalidInput: One has problems, and that is to fail.
        """
        done = PreparedItems()
        for item in items:
            done.seen += 1
            self._prepare(item, done)
        return done

    def note(self, items: Sequence[Any]) -> None:
        """Take note of items that another process has settled, so that what clashes with them is found."""
        for item in items:
            self._prepare(item, PreparedItems(), is_settled=True)

    def _prepare(self, item: Any, done: PreparedItems, *, is_settled: bool = False) -> None:
        if not isinstance(item, dict):
            done.set_aside(self._rubbish(None, f"an item is a JSON object, not {type(item).__name__}", item))
            return
        if self._window is not None:
            if not self._window.holds(item):
                done.outside += 1
                return
            at = item_moment(item, self._window.field)
            if at is not None and (done.latest is None or at > done.latest):
                done.latest = at
        item_id = item.get("id")
        name = item_id if isinstance(item_id, str) and item_id else None
        try:
            content = self._pipeline.content(item)
            if content is None:
                done.filtered += 1
                return
            shortcoming = _shortcoming(content)
            if shortcoming:
                done.set_aside(self._rubbish(name, shortcoming, content))
                return
            text = text_of(content)
            text.encode()  # a lone surrogate cannot be sent
        except TransformError as error:
            done.set_aside(DeadLetter(name, Stage.TRANSFORM, str(error), self._pipeline.unsigned(item)))
            return
        except (TypeError, ValueError, RecursionError) as error:
            reason = f"it cannot be written as JSON: {error}"
            done.set_aside(DeadLetter(name, Stage.VALIDATION, reason, self._pipeline.unsigned(item)))
            return
        problems = self._problems(content, text)
        if problems:
            done.set_aside(DeadLetter(content["id"], Stage.VALIDATION, "; ".join(problems), content), text)
            return
        mark = fingerprint_of_text(text)
        known = self._seen.check(content["id"], mark)
        if is_settled:
            return
        if known == "repeated":
            done.repeated += 1
            return
        if known != "new":
            done.set_aside(DeadLetter(content["id"], Stage.VALIDATION, known, content), text)
            return
        try:
            finished = self._pipeline.finish(with_fingerprint(content, mark))
        except TransformError as error:
            done.set_aside(DeadLetter(content["id"], Stage.TRANSFORM, str(error), content), text)
            return
        problems = self._href_problems(finished)
        if problems:
            done.set_aside(DeadLetter(content["id"], Stage.VALIDATION, "; ".join(problems), content), text)
            return
        done.extent.add(content)
        done.size += len(text)
        done.ready.append(Prepared(content["id"], mark, text, finished, done.seen - 1))

    def finished(self, item: Prepared) -> dict[str, Any]:
        """Return the item to send, made again from its JSON text."""
        return self._pipeline.finish(with_fingerprint(json.loads(item.text), item.fingerprint))

    def close(self) -> None:
        """Forget what came before."""
        self._seen.close()

    def _rubbish(self, item_id: str | None, reason: str, item: Any) -> DeadLetter:
        if self._validation is ValidationMode.FAIL:
            raise GeoCatalogInvalidInput(reason, subject="the source gives an item that cannot be sent")
        return DeadLetter(item_id, Stage.READ, reason, item)

    def _problems(self, item: dict[str, Any], text: str) -> list[str]:
        """Return why an item is to be set aside, as it is before signatures are added."""
        if self._checker is None or self._validation is ValidationMode.OFF:
            return []
        return self._judged(self._validation, item, self._checker.problems(item, text=text))

    def _href_problems(self, item: dict[str, Any]) -> list[str]:
        """Return why an item is to be set aside, as it would be sent: a signature may open where its assets are."""
        if self._hrefs is None or self._href_check is ValidationMode.OFF:
            return []
        return self._judged(self._href_check, item, self._hrefs.problems(item))

    def _judged(self, mode: ValidationMode, item: dict[str, Any], problems: list[str]) -> list[str]:
        """Return the problems for which an item is to be set aside; of others, say that it is sent although."""
        if not problems or mode is ValidationMode.SET_ASIDE:
            return problems
        if mode is ValidationMode.FAIL:
            raise GeoCatalogInvalidInput(problems, subject=f"item {item.get('id')!r} cannot be sent")
        self._warned += 1
        if self._warned <= _WARNINGS:
            log.warning("Item %r is sent although: %s", item.get("id"), "; ".join(problems))
        elif self._warned == _WARNINGS + 1:
            log.warning("More items have problems; they are sent without another warning.")
        return []


def _size(item: Any) -> int:
    """Return about how many characters something has as JSON; 0 if it cannot be written so."""
    try:
        return len(json.dumps(item))
    except (TypeError, ValueError, RecursionError):
        return 0


def _shortcoming(item: dict[str, Any]) -> str | None:
    """Return what keeps an item from being sent at all, whatever is checked."""
    if not isinstance(item.get("id"), str) or not item["id"]:
        return "it has no id"
    if not isinstance(item.get("properties"), dict):
        return "its 'properties' is not an object"
    return None
