"""Read a source's items in order, and find the place again where an earlier reading stopped."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_geocatalog.transfer.source import Environment, ItemSource, Page
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["ItemReader", "Position"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """
    A place between two items of a source.

    :param part: The part of the source, see :class:`~airflow_provider_geocatalog.transfer.source.Page`.
    :param records: Items of the part before this place.
    :param digest: What tells whether these are still the same, so that nobody skips items that were put between.
    """

    part: str | None = None
    records: int = 0
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Position:
        """Return the position that a JSON object describes."""
        return cls(data.get("part"), int(data.get("records", 0)), str(data.get("digest", "")))


class _Digest:
    """Tells one sequence of items from another by what a change of it would change."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, item: Any) -> None:
        told: Any = None
        try:
            if isinstance(item, dict):
                properties = item.get("properties")
                known = properties if isinstance(properties, dict) else {}
                told = [item.get("collection"), item.get("id"), known.get("updated"), known.get("datetime")]
            text = json.dumps(told, default=repr)
        except Exception:  # a user's callable can have made anything
            text = type(item).__name__
        self._hash.update(text.encode())

    @property
    def value(self) -> str:
        return self._hash.hexdigest()


class ItemReader:
    """
    Reads items one after the other; not thread-safe.

    :param note: Told the items before the position, which are read again.
    :param position: Where to go on. If the source is not the same any more up to there, it begins with the part anew:
        what is in the catalog already is found there. ``has_restarted`` tells of it.
    """

    def __init__(
        self,
        source: ItemSource,
        environment: Environment,
        window: Window | None,
        position: Position | None = None,
        *,
        note: Callable[[list[Any]], None] | None = None,
    ) -> None:
        self._source, self._environment, self._window = source, environment, window
        self._pages: Iterator[Page] | None = None
        self._buffer: deque[Any] = deque()
        self._start(position.part if position else None)
        self.has_restarted = False
        if position is not None and position.records and not self._skip(position, note):
            log.warning("%s has changed since it was read; reading it again.", source.describe())
            self.has_restarted = True
            self._start(position.part)

    def _start(self, part: str | None) -> None:
        self.close()
        self._pages = self._source.pages(self._environment, self._window, part=part)
        self._part, self._records, self._digest = part, 0, _Digest()

    def _skip(self, position: Position, note: Callable[[list[Any]], None] | None) -> bool:
        skipped = 0
        while skipped < position.records:
            read = self.read(position.records - skipped)
            if note is not None:
                note(read)
            if not read or self._part != position.part:
                return False
            skipped += len(read)
        return self.position == position

    @property
    def position(self) -> Position:
        """The place behind the last item that was read."""
        return Position(self._part, self._records, self._digest.value if self._records else "")

    def close(self) -> None:
        """Let go of the source; what it holds open is closed."""
        pages, self._pages = self._pages, None
        self._buffer.clear()
        if isinstance(pages, Generator):
            pages.close()

    def read(self, most: int) -> list[Any]:
        """
        Return the next items; none at the end. They are of one part.

        :param most: How many at most.
        :raises GeoCatalogError: The source cannot be read.
        """
        while not self._buffer and self._pages is not None:
            page = next(self._pages, None)
            if page is None:
                self._pages = None
                break
            if page.part != self._part:
                self._part, self._records, self._digest = page.part, 0, _Digest()
            self._buffer.extend(page.items)
        read = [self._buffer.popleft() for _ in range(min(most, len(self._buffer)))]
        for item in read:
            self._digest.add(item)
        self._records += len(read)
        return read
