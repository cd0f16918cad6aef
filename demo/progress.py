"""Tell people what happens: lines for a pipe, and on a terminal one more line at the bottom that is kept up to date."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_geocatalog.api.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_geocatalog.api.models import Counts

__all__ = ["Console", "counts_text", "table", "task_label"]

_BAR = 24  # characters


class Console:
    """
    The demonstration's output; secrets are masked in all of it.

    :param stream: Where to.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._started = time.monotonic()
        self._status = ""

    def step(self, text: str) -> None:
        """Write a line with the time that has passed."""
        self.line(f"[{time.monotonic() - self._started:6.1f} s] {text}")

    def line(self, text: str = "") -> None:
        """Write a line, or several."""
        self._erase()
        self._stream.write(redact(text) + "\n")
        self._draw()

    def status(self, text: str) -> None:
        """Show what holds at present: at the bottom of a terminal; in a pipe as a line, if it is news."""
        if text == self._status:
            return
        if not self._live:
            self._status = text
            if text:
                self.step(text)
            return
        self._erase()
        self._status = text
        self._draw()

    def _erase(self) -> None:
        if self._live and self._status:
            self._stream.write("\r\x1b[2K")  # to the line's start, and empty it

    def _draw(self) -> None:
        if self._live and self._status:
            self._stream.write(redact(self._status)[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()


def task_label(task: dict[str, Any]) -> str:
    """Return a task instance's name."""
    return task["task_id"] if task["map_index"] < 0 else f"{task['task_id']}[{task['map_index']}]"


def counts_text(counts: Counts) -> str:
    """Return the item counts of a run in words and as a bar."""
    filled = _BAR * counts.done // counts.total if counts.total else 0
    failed = f", {counts.failed} failed" if counts.failed else ""
    return f"items [{'#' * filled}{'.' * (_BAR - filled)}] {counts.succeeded} of {counts.total} ingested{failed}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns, the first row underlined."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
