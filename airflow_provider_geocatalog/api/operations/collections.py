"""The STAC catalog and its collections, with their assets and thumbnail (geocatalog-api 7.2 to 7.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import Started, attempt, call, located, query_of, start
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput, GeoCatalogProtocolError
from airflow_provider_geocatalog.api.http import FilePart, Flow, Multipart, Pages, Request
from airflow_provider_geocatalog.api.operations import operation
from airflow_provider_geocatalog.api.operations.arguments import document, file_part, flag, minutes, same_id, text
from airflow_provider_geocatalog.api.operations.documents import read_object, stac_pages

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Thumbnail",
    "create_collection",
    "create_collection_asset",
    "delete_collection",
    "delete_collection_asset",
    "get_collection",
    "get_collection_thumbnail",
    "get_conformance",
    "get_landing_page",
    "list_collections",
    "replace_collection",
    "replace_collection_asset",
]


@operation(endpoints.GET_LANDING_PAGE)
def get_landing_page() -> Flow[dict[str, Any]]:
    """
    Read the landing page of the STAC API.

    :return: A STAC Catalog with a link to each collection.
    """
    return (yield from read_object(endpoints.GET_LANDING_PAGE, "a landing page"))


@operation(endpoints.GET_CONFORMANCE)
def get_conformance() -> Flow[dict[str, Any]]:
    """
    Read which conformance classes the STAC API declares.

    :return: ``{"conformsTo": [...]}``.
    """
    return (yield from read_object(endpoints.GET_CONFORMANCE, "conformance classes"))


@operation(endpoints.LIST_COLLECTIONS)
def list_collections(*, sign: bool | None = None, duration: int | None = None) -> Pages[dict[str, Any]]:
    """
    List the collections. The service answers with all of them at once; a link to a next page would be followed.

    :param sign: Whether asset hrefs carry a signature.
    :param duration: Minutes that the signatures last.
    :return: STAC Collections, page by page.
    """
    query = query_of({"sign": flag(sign, "sign"), "duration": minutes(duration)})
    return stac_pages(Request(endpoints.LIST_COLLECTIONS, query=query), "collections")


@operation(endpoints.CREATE_COLLECTION)
def create_collection(collection: Mapping[str, Any]) -> Flow[Started]:
    """
    Create a collection. Its id can be used again 45 seconds after a collection of that id was deleted.

    :param collection: A STAC Collection without ``assets``.
    :return: The operation to wait for; none where the api-version creates collections at once.
    :raises GeoCatalogConflict: The id is taken.
    """
    body = document(collection, "a collection", "id")
    text(body["id"], "the id of a collection")
    if body.get("assets"):
        raise GeoCatalogInvalidInput("a new collection must have no 'assets'; add them with create_collection_asset")
    resource = Request(endpoints.GET_COLLECTION, {"collection_id": str(body["id"])})
    return (yield from start(endpoints.CREATE_COLLECTION, body=body, resource=resource))


@operation(endpoints.GET_COLLECTION)
def get_collection(
    collection_id: str, *, sign: bool | None = None, duration: int | None = None
) -> Flow[dict[str, Any]]:
    """
    Read a collection.

    :param collection_id: The collection.
    :param sign: Whether asset hrefs carry a signature.
    :param duration: Minutes that the signatures last.
    :return: A STAC Collection.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    query = query_of({"sign": flag(sign, "sign"), "duration": minutes(duration)})
    return (
        yield from read_object(endpoints.GET_COLLECTION, "a collection", {"collection_id": collection_id}, query=query)
    )


@operation(endpoints.REPLACE_COLLECTION)
def replace_collection(collection_id: str, collection: Mapping[str, Any]) -> Flow[dict[str, Any]]:
    """
    Replace a collection's document; its items and configuration stay.

    :param collection_id: The collection.
    :param collection: A STAC Collection. ``assets`` has to be what a read gives, unchanged: the service manages them.
    :return: The collection as the service has stored it.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    body = document(collection, "a collection", "id")
    same_id(body, "id", collection_id, "a collection")
    return (
        yield from read_object(
            endpoints.REPLACE_COLLECTION, "a collection", {"collection_id": collection_id}, body=body
        )
    )


@operation(endpoints.DELETE_COLLECTION)
def delete_collection(collection_id: str) -> Flow[Started]:
    """
    Delete a collection with its items and all their files.

    :param collection_id: The collection.
    :return: The operation to wait for; none where the api-version deletes collections at once.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    names = {"collection_id": collection_id}
    gone = Request(endpoints.GET_COLLECTION, names)
    return (yield from start(endpoints.DELETE_COLLECTION, names, resource=gone, removes=True))


@operation(endpoints.CREATE_COLLECTION_ASSET)
def create_collection_asset(collection_id: str, asset: Mapping[str, Any], file: FilePart) -> Flow[dict[str, Any]]:
    """
    Add an asset to a collection and store its file; the key ``thumbnail`` makes it the collection's thumbnail.

    :param collection_id: The collection.
    :param asset: ``key``, ``type``, ``roles``, ``title``, optional ``description``; ``href`` may be anything.
    :param file: The file to store.
    :return: The collection.
    :raises GeoCatalogConflict: The collection has an asset with this key.
    """
    body = _multipart(asset, file, "key")
    names = {"collection_id": collection_id}
    return (yield from _written(collection_id, call(endpoints.CREATE_COLLECTION_ASSET, names, body=body)))


@operation(endpoints.REPLACE_COLLECTION_ASSET)
def replace_collection_asset(
    collection_id: str, asset_id: str, asset: Mapping[str, Any], file: FilePart
) -> Flow[dict[str, Any]]:
    """
    Replace an asset of a collection, and its file.

    :param collection_id: The collection.
    :param asset_id: Key of the asset.
    :param asset: As for :func:`create_collection_asset`.
    :param file: The file to store.
    :return: The collection.
    :raises GeoCatalogNotFound: The collection has no asset with this key.
    """
    names = {"collection_id": collection_id, "asset_id": asset_id}
    data = {"key": asset_id, **document(asset, "a collection asset")}
    same_id(data, "key", asset_id, "a collection asset")
    body = _multipart(data, file)
    return (yield from _written(collection_id, call(endpoints.REPLACE_COLLECTION_ASSET, names, body=body)))


def _multipart(asset: Mapping[str, Any], file: FilePart, *required: str) -> Multipart:
    data = {"href": "", **document(asset, "a collection asset", *required)}  # the service sets the href itself
    return Multipart(data, file_part(file))


@operation(endpoints.DELETE_COLLECTION_ASSET)
def delete_collection_asset(collection_id: str, asset_id: str) -> Flow[dict[str, Any]]:
    """
    Remove an asset of a collection, and its file.

    :param collection_id: The collection.
    :param asset_id: Key of the asset.
    :return: The collection.
    :raises GeoCatalogNotFound: The collection has no asset with this key.
    """
    names = {"collection_id": collection_id, "asset_id": asset_id}
    return (yield from _written(collection_id, call(endpoints.DELETE_COLLECTION_ASSET, names)))


def _written(collection_id: str, write: Flow[Any]) -> Flow[dict[str, Any]]:
    """Return the collection that a write answers; read it where the answer is empty, as after a repeated deletion."""
    answer = yield from write
    return answer if isinstance(answer, dict) else (yield from get_collection(collection_id))


@dataclass(frozen=True)
class Thumbnail:
    """
    A collection's thumbnail.

    :param content: The image's bytes.
    :param media_type: Its media type, e.g. ``image/png``.
    """

    content: bytes = field(repr=False)
    media_type: str


@operation(endpoints.GET_COLLECTION_THUMBNAIL)
def get_collection_thumbnail(collection_id: str) -> Flow[Thumbnail]:
    """
    Read a collection's thumbnail.

    :param collection_id: The collection.
    :raises GeoCatalogNotFound: It has none.
    """
    request = Request(endpoints.GET_COLLECTION_THUMBNAIL, {"collection_id": collection_id})
    response = yield from attempt(request)
    media_type = response.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    with located(request, response):
        if not response.content or not media_type.startswith(("image/", "application/octet-stream")):
            raise GeoCatalogProtocolError(f"an image was expected, not {len(response.content)} bytes of {media_type}")
    return Thumbnail(response.content, media_type)
