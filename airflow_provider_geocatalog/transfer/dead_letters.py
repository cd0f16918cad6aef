"""What becomes of items that did not make it: lines of a file that a repair run reads like any other."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any

from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.transfer.transforms import mask_signatures, remove_signatures

__all__ = ["DeadLetter", "Stage", "without_signatures"]

_SHOWN = 2000  # characters of something that is no item


class Stage:
    """Where an item was given up."""

    READ = "read"
    TRANSFORM = "transform"
    VALIDATION = "validation"
    SEND = "send"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    An item that was set aside or failed.

    :param item_id: Its id, as far as it has one; signatures in it are masked.
    :param stage: Where it was given up, one of :class:`Stage`.
    :param reason: Why, in words; secrets in it are masked.
    :param item: The item: as the transforms have made it; as the source has it if they could make nothing of it, or
        nothing that can be written as JSON. A repair run takes either, since transforms change nothing the second time.
        The file has it without signatures; of what cannot be written as JSON, it has a text that is no item.
    :param code: The service's error code.
    :param operation_id: The operation in which it failed.
    :param retryable: Whether sending it again can help without anybody changing anything.
    """

    item_id: str | None
    stage: str
    reason: str
    item: Any
    code: str | None = None
    operation_id: str | None = None
    retryable: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", redact(self.reason))
        if self.item_id is not None:
            object.__setattr__(self, "item_id", mask_signatures(self.item_id))

    def to_json(self) -> dict[str, Any]:
        """Return the line of a dead-letter file."""
        try:
            item = json.loads(json.dumps(without_signatures(self.item), allow_nan=False))
        except Exception:  # a user's callable can have made anything
            item = None
        if not isinstance(item, dict):
            item = _shown(self.item)
        return {
            "id": self.item_id,
            "stage": self.stage,
            "reason": self.reason,
            "code": self.code,
            "operation_id": self.operation_id,
            "retryable": self.retryable,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "item": item,
        }


def without_signatures(item: dict[str, Any]) -> dict[str, Any]:
    """
    Return an item for a file that people read: hrefs lose their signatures, in other texts they are masked.

    Where a SAS was masked, the check of items still tells that there is one: no repair run sends the rest unnoticed.
    """
    masked: dict[str, Any] = mask_signatures(remove_signatures()(item))
    return masked


def _shown(value: Any) -> str:
    try:
        return redact(repr(value))[:_SHOWN]
    except Exception as error:  # a user's object may not even have a repr
        return f"{type(value).__name__} ({type(error).__name__})"
