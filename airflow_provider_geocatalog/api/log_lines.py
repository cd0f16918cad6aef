"""Log lines with fields: as fields where logs are structured (Airflow 3), and in the text where they are not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

__all__ = ["belong_to", "log_line"]

_ids: Callable[[], Mapping[str, Any]] | None = None


def belong_to(ids: Callable[[], Mapping[str, Any]]) -> None:
    """
    Have every line say to which work it belongs.

    :param ids: Returns the ids of the work that is going on in this thread, if there is any.
    """
    global _ids  # one answer for the process, as there is one for its logs
    _ids = ids


def log_line(logger: logging.Logger, level: int, text: str, *arguments: Any, **fields: Any) -> None:
    """
    Log a line.

    :param level: Level of :mod:`logging`.
    :param text: What people read; it has the request's ids as well, for logs that are text.
    :param arguments: What stands in the text.
    :param fields: What machines read; those that are ``None`` are left out.
    """
    if not logger.isEnabledFor(level):
        return
    ids = _ids() if _ids is not None else {}
    fields = {**{name: value for name, value in fields.items() if value is not None}, **ids}
    structlog: Any = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        # Airflow's chain drops ``extra`` of a standard record, and takes in what is bound to the context.
        with structlog.contextvars.bound_contextvars(**fields):
            logger.log(level, text, *arguments, extra=fields, stacklevel=2)
        return
    if ids:
        text += f" [{' '.join(f'{name}=%s' for name in ids)}]"
    logger.log(level, text, *arguments, *ids.values(), extra=fields, stacklevel=2)
