"""Which items came already in one reading of a source, with flat memory however many they are."""

from __future__ import annotations

import json
import sqlite3
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SeenItems", "item_key"]

_CACHE = 4096  # KiB of the database that stay in memory; the rest is in a temporary file, which SQLite removes
_AT_ONCE = 500  # keys in one statement; SQLite takes 999 and more


def item_key(item: Any) -> bytes:
    """Return 16 bytes that stand for an item's collection and id, or for the whole of what is no item."""
    if isinstance(item, dict) and isinstance(item.get("id"), str):
        what = f"{item.get('collection')!r} {item['id']}"
    else:
        what = json.dumps(item, sort_keys=True)
    return blake2b(what.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class SeenItems:
    """For each item that came, the number of the part in which it came last."""

    def __init__(self) -> None:
        # Who reads pages may do so on different threads, one after the other.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            f"PRAGMA cache_size = -{_CACHE}",
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE seen (key BLOB PRIMARY KEY, part INTEGER NOT NULL) WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(statement)

    def note(self, keys: Sequence[bytes], part: int) -> list[int | None]:
        """
        Note that items came in a part.

        :return: For each, the part in which it came last before, ``None`` if it comes for the first time.
        """
        before: dict[bytes, int] = {}
        for first in range(0, len(keys), _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            marks = ",".join("?" * len(some))
            before.update(self._database.execute(f"SELECT key, part FROM seen WHERE key IN ({marks})", some))  # noqa: S608
        found: list[int | None] = []
        for key in keys:
            found.append(before.get(key))
            before[key] = part  # for one that is twice among them
        self._database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", ((key, part) for key in keys))
        return found

    def close(self) -> None:
        """Forget everything."""
        self._database.close()
