"""Scenarios about items and search, and the signatures of what they point to."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogInvalidInput,
    GeoCatalogItemsFailed,
    GeoCatalogNotFound,
    GeoCatalogOperationFailed,
)
from airflow_provider_geocatalog.api.statuses import Outcome
from tests.roundtrip.roundtrip_adapter import HREF, Api, contains, is_recent, item, scenario

SET_BY_SERVICE = ("links", "assets")


@scenario()
async def an_item_lives_and_dies(api: Api) -> None:
    await api.add_collection()
    preview = {"rel": "preview", "href": "https://example.com/preview.png"}
    document = item(
        "a+b,(c).d",
        collection="demo",
        properties={"datetime": "2024-05-01T10:00:00.123456Z", "title": "Grüße", "x:nested": {"a": [1, None]}},
        links=[preview],
    )

    created = await api.wait(await api.call("create_item", "demo", document))
    read = await api.call("get_item", "demo", "a+b,(c).d")

    assert created.resource == read
    assert contains(read, document, but=SET_BY_SERVICE)
    assert preview in read["links"]
    assert await api.call("search", ids=["a+b,(c).d", "nope"]) == [read]
    with pytest.raises(GeoCatalogInvalidInput, match="comma"):  # by address it would be two ids
        await api.call("search_by_query", ids=["a+b,(c).d"])
    assert read["assets"]["image"]["type"] == "image/tiff"
    assert read["assets"]["image"]["href"] != HREF  # in managed storage now
    operation = created.operation
    assert (operation.type, operation.collection_id) == ("AddItem", "demo")
    assert operation.status.outcome is Outcome.SUCCEEDED
    assert operation.counts.succeeded == operation.counts.total == 1
    assert all(map(is_recent, (operation.created_at, operation.started_at, operation.finished_at)))
    assert [str(change.status) for change in operation.history] == ["Pending", "Running", "Finished"]
    assert all(is_recent(change.at) for change in operation.history)
    assert operation.raw["additionalInformation"]["TotalItems"] == "1"

    deleted = await api.wait(await api.call("delete_item", "demo", "a+b,(c).d"))
    assert (deleted.operation.type, deleted.resource) == ("DeleteItem", None)
    with pytest.raises(GeoCatalogNotFound):
        await api.call("get_item", "demo", "a+b,(c).d")
    with pytest.raises(GeoCatalogOperationFailed) as failure:
        await api.wait(await api.call("delete_item", "demo", "a+b,(c).d"))
    assert failure.value.code == "NoRecordsToDelete"


@scenario("replace_item", "update_item")
async def an_item_is_replaced_and_changed(api: Api) -> None:
    await api.add_collection()
    await api.add_items(item("a"))
    document = item("a", at=(1.0, 2.0), properties={"datetime": "2025-01-01T00:00:00Z", "old": 1, "kept": True})

    replaced = await api.wait(await api.call("replace_item", "demo", "a", document))
    assert contains(replaced.resource, document, but=SET_BY_SERVICE)
    assert replaced.resource == await api.call("get_item", "demo", "a")

    changes = {"properties": {"old": None, "new": [2]}, "assets": {"image": {"href": HREF, "title": "Image"}}}
    changed = await api.wait(await api.call("update_item", "demo", "a", changes))
    assert changed.operation.type == "UpdateItem"
    assert changed.resource["properties"] == {"datetime": "2025-01-01T00:00:00Z", "kept": True, "new": [2]}
    assert contains(changed.resource["assets"]["image"], {"title": "Image", "type": "image/tiff"})
    assert changed.resource["geometry"] == document["geometry"]
    assert changed.resource == await api.call("get_item", "demo", "a")

    # Hrefs in managed storage cannot be ingested again (geocatalog-api 7.5).
    with pytest.raises(GeoCatalogOperationFailed) as failure:
        await api.wait(await api.call("replace_item", "demo", "a", changed.resource))
    assert failure.value.code == "PublicAccessRestricted"
    for name, arguments in (("replace_item", item("nope")), ("update_item", {"properties": {"x": 1}})):
        with pytest.raises(GeoCatalogOperationFailed) as failure:
            await api.wait(await api.call(name, "demo", "nope", arguments))
        assert failure.value.code == "NoRecordsToUpdate"
    assert await api.call("list_items", "demo") == [changed.resource]


@scenario()
async def many_items_are_created_at_once_and_listed_page_by_page(api: Api) -> None:
    await api.add_collection()
    documents = [
        item(f"i{day}", at=(day, 0.0), properties={"datetime": f"2024-01-0{day}T00:00:00Z"}) for day in range(1, 8)
    ]

    operation = await api.add_items(*documents)
    listed = await api.call("list_items", "demo", limit=3)

    assert (operation.counts.total, operation.counts.succeeded, operation.counts.pending) == (7, 7, 0)
    assert [one["id"] for one in listed] == ["i7", "i6", "i5", "i4", "i3", "i2", "i1"]
    assert all(contains(one, sent, but=SET_BY_SERVICE) for one, sent in zip(reversed(listed), documents, strict=True))
    assert len(api.sent("list_items")) == 3
    assert {request.query["limit"] for request in api.sent("list_items")} == {"3"}

    api.emulator.requests.clear()
    assert [one["id"] for one in await api.take(3, "list_items", "demo", limit=3)] == ["i7", "i6", "i5"]
    assert len(api.sent("list_items")) == 1  # a page is read when it is needed

    async def ids(**conditions: Any) -> list[str]:
        return [one["id"] for one in await api.call("list_items", "demo", limit=2, **conditions)]

    assert await ids(bbox=(2.5, -1, 5.5, 1)) == ["i5", "i4", "i3"]
    assert await ids(datetime="2024-01-06T00:00:00Z/..") == ["i7", "i6"]
    west = dt.timezone(dt.timedelta(hours=-5))  # 2024-01-02 to 2024-01-04, in UTC
    assert await ids(datetime=(dt.datetime(2024, 1, 1, 19, tzinfo=west), dt.datetime(2024, 1, 3, 19, tzinfo=west))) == [
        "i4",
        "i3",
        "i2",
    ]
    assert await ids(token="next:demo:i3") == ["i2", "i1"]


@scenario()
async def one_bad_item_of_many_is_told_and_the_others_stay(api: Api) -> None:
    await api.add_collection()
    await api.add_items(item("a"))

    with pytest.raises(GeoCatalogItemsFailed, match="1 failed items") as failure:
        await api.add_items(item("a"), item("b"), item("c"))

    assert failure.value.summary["items"] == {"total": 3, "succeeded": 2, "failed": 1, "pending": 0}
    assert {one["id"] for one in await api.call("list_items", "demo")} == {"a", "b", "c"}


def at(day: str, **properties: Any) -> dict[str, Any]:
    return {"properties": {"datetime": f"{day}T00:00:00Z", **properties}}


async def fill(api: Api) -> None:
    """Four items in the collection ``demo``, two in ``other``."""
    await api.add_collection("demo")
    await api.add_collection("other")
    await api.add_items(
        item("a", at=(0.0, 0.0), **at("2024-01-01", cloud=10, name="o'Hara, A")),
        item("b", at=(10.0, 10.0), **at("2024-02-01", cloud=50)),
        item("c", at=(20.0, 20.0), **at("2024-03-01", cloud=90)),
        item("east", at=(179.5, 0.0), **at("2023-01-01", cloud=91)),
    )
    await api.add_items(
        item("a", at=(30.0, 30.0), **at("2024-04-01", cloud=5)),
        item("west", at=(-179.5, 0.0), **at("2023-01-02", cloud=92)),
        collection_id="other",
    )


SQUARE = {"type": "Polygon", "coordinates": [[[9, 9], [21, 9], [21, 21], [9, 21], [9, 9]]]}
ALL = ["other/a", "demo/c", "demo/b", "demo/a", "other/west", "demo/east"]
UTC = dt.UTC

#: Members that a search by POST and one by GET have in common, and what they find.
QUESTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ALL),
    ({"collections": ["demo"]}, ["demo/c", "demo/b", "demo/a", "demo/east"]),
    ({"collections": ["other", "nope"], "ids": ["a"]}, ["other/a"]),
    ({"ids": ["a", "c"]}, ["other/a", "demo/c", "demo/a"]),
    ({"bbox": (5, 5, 15, 15)}, ["demo/b"]),
    ({"bbox": (179, -1, -179, 1)}, ["other/west", "demo/east"]),
    ({"bbox": (5, 5, -100, 15, 15, 100)}, ["demo/b"]),
    ({"intersects": SQUARE}, ["demo/c", "demo/b"]),
    ({"datetime": "2024-02-01T00:00:00Z"}, ["demo/b"]),
    ({"datetime": dt.datetime(2024, 2, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))}, ["demo/b"]),
    ({"datetime": (dt.datetime(2024, 1, 15, tzinfo=UTC), "2024-03-15T00:00:00Z")}, ["demo/c", "demo/b"]),
    ({"datetime": (None, dt.datetime(2023, 12, 31, tzinfo=UTC))}, ["other/west", "demo/east"]),
    ({"query": {"cloud": {"gte": 50, "lt": 91}}}, ["demo/c", "demo/b"]),
    ({"filter": "cloud > 20 AND cloud < 60"}, ["demo/b"]),
    ({"filter": "name = 'o''Hara, A'"}, ["demo/a"]),
    ({"limit": 1, "bbox": (-1, -1, 40, 40)}, ["other/a", "demo/c", "demo/b", "demo/a"]),
    ({"limit": 2}, ALL),
    ({"limit": 4, "token": "next:demo:c"}, ALL[2:]),
]


def names(found: list[dict[str, Any]]) -> list[str]:
    return [f"{one['collection']}/{one['id']}" for one in found]


@scenario()
async def a_search_by_body_finds_what_it_asks_for(api: Api) -> None:
    await fill(api)

    for members, expected in QUESTIONS:
        assert names(await api.call("search", **members)) == expected, members

    less = {"op": "<", "args": [{"property": "cloud"}, 20]}
    inside = {"op": "s_intersects", "args": [{"property": "geometry"}, SQUARE]}
    assert names(await api.call("search", filter=less)) == ["other/a", "demo/a"]
    assert names(await api.call("search", filter=inside, filter_lang="cql2-json", limit=1)) == ["demo/c", "demo/b"]
    crs = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
    both = {"op": "or", "args": [less, inside]}
    found = await api.call(
        "search", collections=["demo"], filter=both, filter_crs=crs, conf={}, sortby=[{"field": "cloud"}], limit=2
    )
    assert names(found) == ["demo/a", "demo/b", "demo/c"]
    by_cloud = [{"field": "properties.cloud", "direction": "desc"}]
    assert names(await api.call("search", sortby=by_cloud, limit=4)) == [
        "other/west",
        "demo/east",
        "demo/c",
        "demo/b",
        "demo/a",
        "other/a",
    ]
    by_collection = [{"field": "collection", "direction": "desc"}, {"field": "datetime", "direction": "asc"}]
    assert names(await api.call("search", sortby=by_collection, limit=5)) == [
        "other/west",
        "other/a",
        "demo/east",
        "demo/a",
        "demo/b",
        "demo/c",
    ]


@scenario()
async def a_search_by_address_finds_what_it_asks_for(api: Api) -> None:
    await fill(api)

    for members, expected in QUESTIONS:
        assert names(await api.call("search_by_query", **members)) == expected, members

    assert names(await api.call("search_by_query", sortby="+cloud", limit=1))[:3] == ["other/a", "demo/a", "demo/b"]
    assert names(await api.call("search_by_query", sortby="-collection,+datetime", limit=4)) == [
        "other/west",
        "other/a",
        "demo/east",
        "demo/a",
        "demo/b",
        "demo/c",
    ]


@scenario()
async def a_search_returns_the_members_it_asks_for(api: Api) -> None:
    await fill(api)

    [included] = await api.call("search", ids=["b"], fields={"include": ["properties.cloud", "bbox"]})
    [excluded] = await api.call("search", ids=["b"], fields={"exclude": ["assets", "properties.cloud"]})

    assert included == {
        "id": "b",
        "type": "Feature",
        "collection": "demo",
        "properties": {"cloud": 50},
        "bbox": [10.0, 10.0, 10.0, 10.0],
    }
    assert "assets" not in excluded
    assert excluded["properties"] == {"datetime": "2024-02-01T00:00:00Z"}
    assert await api.call("search_by_query", ids=["b"], fields="properties.cloud,bbox") == [included]
    assert await api.call("search_by_query", ids=["b"], fields="-assets,-properties.cloud") == [excluded]


@scenario()
async def a_search_reads_its_pages_when_they_are_needed(api: Api) -> None:
    await fill(api)

    for name in ("search", "search_by_query"):
        assert names(await api.take(2, name, limit=2)) == ALL[:2]
        assert len(api.sent(name)) == 1
        assert names(await api.call(name, limit=2)) == ALL
        assert len(api.sent(name)) == 4


def signature(href: str) -> str:
    return parse_qs(urlsplit(href).query).get("sig", [""])[0]


def minutes(href: str) -> float:
    start, end = (dt.datetime.fromisoformat(parse_qs(urlsplit(href).query)[name][0]) for name in ("st", "se"))
    return (end - start).total_seconds() / 60


@scenario()
async def every_read_of_items_signs_on_request(api: Api) -> None:
    await fill(api)

    async def hrefs(name: str, *arguments: Any, **options: Any) -> list[str]:
        found = await api.call(name, *arguments, **options)
        return [one["assets"]["image"]["href"] for one in (found if isinstance(found, list) else [found])]

    for name, arguments in (
        ("search", ()),
        ("search_by_query", ()),
        ("list_items", ("demo",)),
        ("get_item", ("demo", "a")),
    ):
        page = {} if name == "get_item" else {"limit": 2}
        plain = await hrefs(name, *arguments, **page)
        signed = await hrefs(name, *arguments, **page, sign=True, duration=7)
        assert all(map(signature, signed)), name
        assert {minutes(href) for href in signed} == {7}
        assert [href.split("?")[0] for href in signed] == plain == await hrefs(name, *arguments, sign=False, **page)


@scenario("get_sas_token", "sign_href", "revoke_sas_tokens")
async def tokens_for_managed_storage_are_issued_and_revoked(api: Api) -> None:
    await api.add_collection()
    await api.add_items(item("a"))
    href = (await api.call("get_item", "demo", "a"))["assets"]["image"]["href"]
    container = urlsplit(href).path.split("/")[-4]  # below it: hash, item, file

    def opens(query: str) -> bool:
        return api.emulator.world.sas.is_valid(query, container, api.emulator.clock.now())

    token = await api.call("get_sas_token", "demo", duration=90)
    signed = await api.call("sign_href", href, duration=15)

    now = dt.datetime.now(dt.UTC)
    assert abs(token.expires_at - now - dt.timedelta(minutes=90)) < dt.timedelta(minutes=1)
    assert abs(signed.expires_at - now - dt.timedelta(minutes=15)) < dt.timedelta(minutes=1)
    assert token.expires_at.utcoffset() == signed.expires_at.utcoffset() == dt.timedelta(0)
    assert token.raw["token"] == token.token
    assert signed.href.split("?")[0] == href
    assert opens(token.token)
    assert opens(urlsplit(signed.href).query)
    assert token.token not in repr(token)
    assert signature(signed.href) not in repr(signed)
    elsewhere = await api.call("sign_href", "https://example.com/a%20b.tif?x=1&y=2")
    assert (elsewhere.href, elsewhere.expires_at) == ("https://example.com/a%20b.tif?x=1&y=2", None)
    with pytest.raises(GeoCatalogNotFound):
        await api.call("get_sas_token", "nope")

    assert await api.call("revoke_sas_tokens") is None
    assert not opens(token.token)
    assert not opens(urlsplit(signed.href).query)
    assert opens((await api.call("get_sas_token", "demo")).token)
