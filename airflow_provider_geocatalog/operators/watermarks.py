"""What tasks remember: how far they have come over DAG runs, and what one has done over its tries."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.transfer.windows import moment, moment_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

__all__ = ["CHECKPOINT_PREFIX", "WATERMARK_PREFIX", "CheckpointStore", "WatermarkStore", "watermark_name"]

log = logging.getLogger(__name__)

#: What the keys of watermarks and checkpoints begin with: those of Airflow Variables, and those in asset state.
WATERMARK_PREFIX, CHECKPOINT_PREFIX = "geocatalog_watermark__", "geocatalog_checkpoint__"
_CHECKPOINT_KEY = "geocatalog_checkpoint"  # among the keys of one task instance
_LONGEST_NAME = 200  # characters; keys of Variables have 250 at most
_NAME = re.compile(r"[\w.~-]+")  # what ids of DAGs and tasks consist of


class _Place(ABC):
    """Where one text is kept."""

    @abstractmethod
    def get(self) -> Any:
        """Return the JSON value, or a text that is none; ``None`` if there is nothing."""

    @abstractmethod
    def set(self, value: Mapping[str, Any]) -> None:
        """Keep a JSON object instead of what was there."""

    @abstractmethod
    def delete(self) -> None:
        """Keep nothing."""

    @abstractmethod
    def describe(self) -> str:
        """Return where that is, as one would look for it in Airflow."""


class _Variable(_Place):
    def __init__(self, key: str, description: str) -> None:
        self._key, self._description = key, description

    def get(self) -> Any:
        from airflow.providers.common.compat.sdk import Variable

        found = Variable.get(self._key, None)  # the default's name differs between versions of Airflow
        if found is None:
            return None
        try:
            return json.loads(found)
        except (TypeError, ValueError):
            return found

    def set(self, value: Mapping[str, Any]) -> None:
        from airflow.providers.common.compat.sdk import Variable

        Variable.set(self._key, json.dumps(value), description=self._description)

    def delete(self) -> None:
        from airflow.providers.common.compat.sdk import Variable

        Variable.delete(self._key)

    def describe(self) -> str:
        return f"the Airflow Variable {self._key}"


class _State(_Place):
    """A key in one of the state stores of Airflow 3.3 and later."""

    def __init__(self, store: Any, key: str, of_what: str) -> None:
        self._store, self._key, self._of_what = store, key, of_what

    def get(self) -> Any:
        return self._store.get(self._key)

    def set(self, value: Mapping[str, Any]) -> None:
        self._store.set(self._key, dict(value))

    def delete(self) -> None:
        self._store.delete(self._key)

    def describe(self) -> str:
        return f"{self._key} in the state of {self._of_what}"


def watermark_name(name: Any) -> str:
    """
    Return the name of a watermark as it was given.

    :raises GeoCatalogInvalidInput: It cannot be part of a key.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise GeoCatalogInvalidInput(
            f"the name of a watermark has 1 to {_LONGEST_NAME} letters, digits, '_', '-', '.' and '~', not {name!r}"
        )
    return name


class WatermarkStore:
    """
    How far something has come, over DAG runs: a moment up to which everything has been seen.

    It is kept in the state of an asset where Airflow has that (3.3 and later), and in the Airflow Variable
    ``geocatalog_watermark__<name>`` otherwise. A Variable that an older Airflow has left is taken over when the asset
    has no watermark yet.

    It only moves forward. The repetition of an old DAG run (a clear, a backfill) begins where the newest has stopped,
    so it finds what has come since and not what it found then; to transfer an old stretch of time again, ask for that
    by its dates. Two runs at once do the same work twice, so a DAG with a watermark is better off with
    ``max_active_runs=1``. If both move it in the same instant, it may end at the earlier of both, so that some is done
    again; nothing is lost.

    :param name: Those that share it share the watermark.
    :param places: Where it is kept, and where it may have been before.
    :param run_id: The DAG run that would move it.
    :param field: The property of items that its moments are of, where that is known.
    """

    def __init__(self, name: str, places: list[_Place], run_id: str | None = None, field: str | None = None) -> None:
        self._name, self._run_id, self._field = name, run_id, field
        self._place, *self._earlier = places

    @classmethod
    def of(cls, context: Context, name: str, asset: Any = None, *, field: str | None = None) -> WatermarkStore:
        """
        Return the watermark of a name.

        :param context: The task's context.
        :param name: The name.
        :param asset: The asset whose state keeps it, one of the task's inlets or outlets. Without one, and before
            Airflow 3.3, it is a Variable.
        :param field: The property of items that its moments are of. One of another field is refused.
        :raises GeoCatalogInvalidInput: The name cannot be one, or the task does not have the asset.
        """
        places: list[_Place] = [_Variable(f"{WATERMARK_PREFIX}{watermark_name(name)}", "How far a transfer has come")]
        if asset is not None and "task_state_store" in context:  # Airflow has state stores
            try:
                state = context["asset_state_store"][asset]  # type: ignore[typeddict-item,unused-ignore]
            except (KeyError, TypeError) as error:
                raise GeoCatalogInvalidInput(
                    f"the watermark {name} is to be kept with {asset!r}, which is no inlet or outlet of the task: "
                    "add it there, or leave it out to keep the watermark in a Variable"
                ) from error
            places.insert(0, _State(state, f"{WATERMARK_PREFIX}{name}", f"the asset {_name_of(asset)}"))
        return cls(name, places, getattr(context["ti"], "run_id", None), field)

    def get(self) -> dict[str, Any] | None:
        """
        Return ``value`` (RFC 3339), with ``run_id``, ``at`` and ``field`` where known; ``None`` if it was never
        set.

        A Variable that somebody has set may also be a moment alone.

        :raises GeoCatalogInvalidInput: What is there is no watermark.
        """
        return self._find()[0]

    def set(self, value: Mapping[str, Any], *, may_go_back: bool = False) -> dict[str, Any]:
        """
        Move it, unless it is further already, and return what it is then.

        :param value: JSON object with a moment (RFC 3339) as ``value``.
        :param may_go_back: Whether to move it back.
        :raises GeoCatalogInvalidInput: There is no moment in it, or what is there is no watermark.
        """
        record = dict(value)
        new = moment(record.get("value"))
        if new is None:
            raise GeoCatalogInvalidInput(f"a watermark needs a moment as value, not {record.get('value')!r}")
        record.setdefault("run_id", self._run_id)
        record.setdefault("at", moment_text(datetime.datetime.now(datetime.UTC).replace(microsecond=0)))
        if self._field is not None:
            record["field"] = self._field
        known, place = self._find()
        if known is not None and not may_go_back:
            old = moment(known["value"])
            if old is not None and old > new:
                log.info("The watermark %s stays at %s: it is after %s.", self._name, known["value"], record["value"])
                return known
        self._place.set(record)
        if place is not None and place is not self._place:
            self._forget(place)
        log.info("The watermark %s is at %s now, in %s.", self._name, record["value"], self._place.describe())
        return record

    def describe(self) -> str:
        """Return where it is kept, for logs and messages."""
        return self._place.describe()

    def _forget(self, earlier: _Place) -> None:
        """Delete what was taken over: it would come back if the new one were deleted to begin anew."""
        try:
            earlier.delete()
        except Exception as error:  # such as that of a Variable that is in no database
            log.warning("%s is of no use any more, but cannot be deleted: %s", earlier.describe(), error)

    def _find(self) -> tuple[dict[str, Any] | None, _Place | None]:
        for place in (self._place, *self._earlier):
            found = place.get()
            if found is not None:
                return self._read(found, place), place
        return None, None

    def _read(self, found: Any, place: _Place) -> dict[str, Any]:
        record = {"value": found} if isinstance(found, str) else found
        if not isinstance(record, dict) or moment(record.get("value")) is None:
            raise GeoCatalogInvalidInput(
                f"{place.describe()} is no watermark; set it to a moment such as 2024-01-31T00:00:00Z, or delete it "
                "to begin anew"
            )
        field = record.get("field")
        if self._field is not None and field is not None and field != self._field:
            raise GeoCatalogInvalidInput(
                f"{place.describe()} is a watermark of {field!r}, whose moments say nothing about {self._field!r}; "
                "choose another name, or delete it to begin anew"
            )
        return record


class CheckpointStore:
    """
    What one task instance keeps over its tries: a JSON object, no larger than 60,000 bytes as text.

    It is kept in the task's state where Airflow has that (3.3 and later), and otherwise in an Airflow Variable whose
    name begins with ``geocatalog_checkpoint__``. Clear it when the task has succeeded: nothing else removes a Variable.
    One that a task left which failed for good is where a try after a clear of the task goes on.

    :param place: Where it is kept.
    """

    def __init__(self, place: _Place) -> None:
        self._place = place

    @classmethod
    def of(cls, context: Context) -> CheckpointStore:
        """
        Return the task instance's checkpoint.

        :param context: The task's context.
        """
        store: Any = context.get("task_state_store")
        if store is not None:
            return cls(_State(store, _CHECKPOINT_KEY, "the task instance"))
        return cls(_Variable(_checkpoint_key(context["ti"]), "How far a task has come, for its next try"))

    def get(self) -> dict[str, Any] | None:
        """Return what was kept; ``None`` if there is nothing. What is no JSON object counts as nothing."""
        found = self._place.get()
        if found is not None and not isinstance(found, dict):
            log.warning("%s is no checkpoint, so the task begins anew.", self._place.describe())
            return None
        return found

    def set(self, value: Mapping[str, Any]) -> None:
        """Keep a JSON object instead of what was there."""
        self._place.set(value)

    def clear(self) -> None:
        """Keep nothing. It is no error if there is nothing."""
        if self._place.get() is not None:
            self._place.delete()

    def describe(self) -> str:
        """Return where it is kept, for logs and messages."""
        return self._place.describe()


def _checkpoint_key(ti: Any) -> str:
    """Return a key that no other task instance has; only its beginning is for people."""
    map_index = -1 if getattr(ti, "map_index", None) is None else ti.map_index
    parts = [ti.dag_id, ti.task_id, ti.run_id, str(map_index)]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
    readable = re.sub(r"[^\w.~-]", "-", "__".join(parts))
    return f"{CHECKPOINT_PREFIX}{readable[: _LONGEST_NAME - len(CHECKPOINT_PREFIX) - len(digest) - 2]}__{digest}"


def _name_of(asset: Any) -> str:
    return str(getattr(asset, "name", None) or getattr(asset, "uri", None) or asset)
