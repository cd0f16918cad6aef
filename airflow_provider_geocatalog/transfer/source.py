"""What a source of items is: pages of them, read from where it stopped, with what its environment lends it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, ClassVar, Protocol

from airflow_provider_geocatalog.api.errors import GeoCatalogError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["Environment", "ItemSource", "ItemSourceError", "Page"]


class ItemSourceError(GeoCatalogError):
    """
    Items cannot be read from where they come from, or not all of them: what was read may be a subset.

    ``retryable`` says whether reading again can help; what was transferred before stays.
    """


@dataclass(frozen=True)
class Page:
    """
    Some items of a source, in the source's own order.

    :param items: As the source has them, unchecked: STAC Items if all is well. A line of a dead-letter file comes as
        the item in it.
    :param part: Text with which :meth:`ItemSource.pages` reads from the beginning of the part that the page is in; all
        parts before are complete. ``None`` in a source that can be read from its beginning only.
    """

    items: Sequence[Any]
    part: str | None = None


class Environment(Protocol):
    """What sources need from where they run; Airflow lends it its connections and object storage."""

    def headers(self, conn_id: str | None, url: str) -> Mapping[str, str]:
        """
        Return the HTTP headers that a connection stands for; none without one. They hold secrets.

        :param url: Whose origin they are for; some connections open one only.
        """

    def open(self, path: str, mode: str = "rb", conn_id: str | None = None) -> IO[Any]:
        """Open a file, on disk or in an object store; ``rb`` or ``wb``."""

    def list(self, path: str, conn_id: str | None = None) -> list[str]:
        """Return the files that a path names, sorted: itself, those of a folder, or those that match a pattern."""


class ItemSource(ABC):
    """
    Where items come from. Arguments are attributes of the same names, so that Airflow can render them.

    Reading blocks. It streams: no more than a few pages are in memory.
    """

    #: Attributes that are templates, as for operators.
    template_fields: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def pages(
        self, environment: Environment, window: Window | None = None, *, part: str | None = None
    ) -> Iterator[Page]:
        """
        Yield all items, page by page.

        :param environment: What it is lent.
        :param window: The items that are asked for. A source that cannot choose by it yields others as well; who reads
            it leaves them out.
        :param part: The part to begin with, from an earlier page of the same source and window.
        :raises ItemSourceError: It cannot be read, or not wholly.
        :raises GeoCatalogInvalidInput: Its arguments make no sense.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return what it is in a few words without secrets, for logs and errors."""

    def __repr__(self) -> str:
        # Airflow shows this as the rendered field.
        return f"{type(self).__name__}({self.describe()})"
