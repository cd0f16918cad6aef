"""Every operation of the service, there and back: in every api-version that has it, blocking and asynchronous."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.api.calls import Started
from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogConflict,
    GeoCatalogInvalidInput,
    GeoCatalogNotFound,
    GeoCatalogOperationFailed,
    GeoCatalogUnsupportedOperation,
)
from airflow_provider_geocatalog.api.http import FilePart
from airflow_provider_geocatalog.api.statuses import Outcome
from tests.roundtrip import roundtrip_catalog, roundtrip_ingestion, roundtrip_items  # noqa: F401  (registers scenarios)
from tests.roundtrip.roundtrip_adapter import FORMS, SCENARIOS, collection, item

CLIENTS = [
    pytest.param(dialect, form, id=f"{dialect.api_version}-{form}") for dialect in DIALECTS.values() for form in FORMS
]


@pytest.mark.parametrize(
    ("scenario", "dialect", "form"),
    [
        pytest.param(scenario, dialect, form, id=f"{scenario.name}-{dialect.api_version}-{form}")
        for scenario in SCENARIOS
        for dialect in DIALECTS.values()
        for form in FORMS
        if scenario.fits(dialect)
    ],
)
async def test_what_is_written_is_read_and_what_is_deleted_is_gone(play, scenario, dialect, form):
    assert await play(scenario, dialect, form)


@pytest.mark.parametrize(("dialect", "form"), CLIENTS)
async def test_no_operation_of_an_api_version_is_left_out(play, dialect, form):
    exercised = set()
    for scenario in SCENARIOS:
        if scenario.fits(dialect):
            exercised |= await play(scenario, dialect, form)

    assert exercised == set(ENDPOINTS) - dialect.lacks


SOURCE = {"kind": "SasToken", "connectionInfo": {"containerUrl": "https://a.example/c", "sasToken": "sig=x"}}
QUERYABLE = {"name": "x", "definition": {}}
#: Acceptable arguments of what some api-version lacks.
ARGUMENTS = {
    "list_managed_identities": (),
    "update_ingestion": ("demo", "x", {"displayName": "x"}),
    "delete_ingestion": ("demo", "x"),
    "cancel_all_operations": (),
    "get_operation_logs": ("demo", "x"),
    "create_collection_asset": ("demo", {"key": "x"}, FilePart("x", b"x")),
    "replace_collection_asset": ("demo", "x", {}, FilePart("x", b"x")),
    "delete_collection_asset": ("demo", "x"),
    "get_collection_thumbnail": ("demo",),
    "replace_item": ("demo", "x", item("x")),
    "update_item": ("demo", "x", {"properties": {}}),
    "get_queryables": (),
    "get_collection_queryables": ("demo",),
    "create_queryables": ("demo", [QUERYABLE]),
    "replace_queryable": ("demo", "x", QUERYABLE),
    "delete_queryable": ("demo", "x"),
    "get_collection_configuration": ("demo",),
    "get_partition_type": ("demo",),
    "replace_partition_type": ("demo", {"scheme": "year"}),
    "get_sas_token": ("demo",),
    "sign_href": ("https://example.com/x",),
    "revoke_sas_tokens": (),
}


@pytest.mark.parametrize(("dialect", "form"), CLIENTS)
async def test_what_an_api_version_lacks_is_refused_before_anything_is_sent(connect, dialect, form):
    api = connect(dialect, form)

    for name in sorted(dialect.lacks):
        with pytest.raises(GeoCatalogUnsupportedOperation) as refusal:
            await api.call(name, *ARGUMENTS[name])
        assert dialect.api_version in str(refusal.value)
        assert f"'{name}'" in str(refusal.value)

    assert not api.emulator.requests


@pytest.mark.parametrize(
    ("dialect", "form"), [client for client in CLIENTS if "StacGeoparquet" not in client.values[0].import_types]
)
async def test_an_import_type_that_an_api_version_lacks_is_refused_before_anything_is_sent(connect, dialect, form):
    api = connect(dialect, form)

    with pytest.raises(GeoCatalogInvalidInput, match=f"{dialect.api_version}.*StacGeoparquet"):
        await api.call(
            "create_ingestion",
            "demo",
            {"importType": "StacGeoparquet", "stacGeoparquetUrl": "https://example.com/items.parquet"},
        )

    assert not api.emulator.requests


@pytest.mark.parametrize(("dialect", "form"), CLIENTS)
async def test_status_codes_and_bodies_differ_on_the_wire_and_not_for_the_caller(connect, dialect, form):
    api = connect(dialect, form)

    started = [
        await api.call("create_collection", collection("demo")),
        await api.call("create_item", "demo", item("a")),
        await api.call("delete_item", "demo", "a"),
        await api.call("delete_collection", "demo"),
    ]

    source = await api.call("create_source", SOURCE | {"connectionInfo": SOURCE["connectionInfo"] | {"sasToken": SAS}})
    assert await api.call("delete_source", source.source_id) is None
    at_once = not dialect.collection_writes_start_operations
    assert [request.status for request in api.emulator.requests] == [
        201 if at_once else 202,
        202,
        202,
        204 if at_once else 202,
        201,
        dialect.delete_source_status,
    ]
    assert all(isinstance(one, Started) for one in started)
    assert [one.removes for one in started] == [False, False, True, True]
    # All of them have ended by now and the collection is gone, so only deletions can be waited for.
    for one in started[2:]:
        finished = await api.wait(one)
        assert finished.resource is None
        assert finished.operation is None or finished.operation.status.outcome is Outcome.SUCCEEDED


SAS = "st=2020-01-01T00:00:00Z&sr=c&sp=rl&sig=x"


@pytest.mark.parametrize(("dialect", "form"), CLIENTS)
async def test_a_failed_operation_is_an_error_with_its_code(connect, dialect, form):
    api = connect(dialect, form)
    await api.add_collection()
    await api.wait(await api.call("create_item", "demo", item("a")))

    started = await api.call("create_item", "demo", item("a"))
    with pytest.raises(GeoCatalogOperationFailed, match="Item 'a' already exists in collection 'demo'") as failure:
        await api.wait(started)

    assert failure.value.code == "ItemAlreadyExistsInCollection"
    assert failure.value.summary["operation_id"] == started.operation.operation_id
    assert failure.value.summary["items"]["failed"] == 1
    with pytest.raises(GeoCatalogOperationFailed, match="already exists"):
        await api.call("wait_for_operation", started.operation.operation_id, timeout=30)


@pytest.mark.parametrize(("dialect", "form"), CLIENTS)
async def test_refusals_tell_what_to_quote_to_the_services_support(connect, dialect, form):
    api = connect(dialect, form)
    await api.add_collection()
    mosaic = {"id": "default", "name": "x", "cql": []}
    sas = SOURCE | {"connectionInfo": {"containerUrl": "https://a.example/c", "sasToken": SAS}}
    await api.call("create_source", sas)

    for error, code, method, path, name, arguments in (
        (GeoCatalogNotFound, "ResourceNotFound", "GET", "/collections/no%20pe", "get_collection", ("no pe",)),
        (GeoCatalogNotFound, "ResourceNotFound", "GET", "/collections/demo/items/x", "get_item", ("demo", "x")),
        (GeoCatalogNotFound, "ResourceNotFound", "GET", "/collections/nope/items", "list_items", ("nope",)),
        (GeoCatalogNotFound, "ResourceNotFound", "GET", "/operations/x", "get_operation", ("x",)),
        # Problem details, which have no code (geocatalog-api 4.4).
        (GeoCatalogNotFound, None, "DELETE", "/collections/nope", "delete_collection", ("nope",)),
        (GeoCatalogConflict, "DuplicatedEntity", "POST", "/collections", "create_collection", (collection("demo"),)),
        (GeoCatalogConflict, "DuplicatedEntity", "POST", "/ingestion-sources", "create_source", (sas,)),
        (
            GeoCatalogConflict,
            "DuplicatedEntity",
            "POST",
            "/collections/demo/configurations/mosaics",
            "add_mosaic",
            ("demo", mosaic),
        ),
    ):
        with pytest.raises(error) as refusal:
            await api.call(name, *arguments)
        request = api.emulator.requests[-1]
        assert request.operation == name
        assert (refusal.value.code, refusal.value.method, refusal.value.path) == (code, method, path)
        assert refusal.value.status == request.status
        assert refusal.value.request_id == request.request_id
        assert request.request_id in str(refusal.value)
        assert not refusal.value.retryable
