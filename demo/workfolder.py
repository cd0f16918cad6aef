"""The demonstration's work folder: one demonstration at a time, emptied at its start, invisible to git."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from demo.catalog_input import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["work_folder"]

_LOCK = "lock"
_GITIGNORE = ".gitignore"


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """
    Take a folder for this process alone and empty it.

    :raises InputError: Another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        except BlockingIOError as error:
            raise InputError(f"another demonstration is running in {folder}; stop it first") from error
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()
        (folder / _GITIGNORE).write_text("*\n")
        yield folder
