"""What an api-version changes on the wire."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.dialects import API_VERSIONS, DIALECTS
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput, GeoCatalogUnsupportedOperation

OLDEST, MIDDLE, NEWEST = (DIALECTS[version] for version in API_VERSIONS)
SOURCE = {"kind": "SasToken", "connectionInfo": {"containerUrl": "https://a/c"}}


@pytest.mark.parametrize(("dialect", "member"), [(OLDEST, "sourceType"), (MIDDLE, "kind"), (NEWEST, "kind")])
@pytest.mark.parametrize("endpoint", [endpoints.CREATE_SOURCE, endpoints.REPLACE_SOURCE])
def test_the_kind_of_a_source_has_the_versions_word(dialect, member, endpoint):
    assert dialect.body(endpoint, SOURCE) == {member: "SasToken", "connectionInfo": SOURCE["connectionInfo"]}


@pytest.mark.parametrize(("dialect", "body"), [(OLDEST, {}), (MIDDLE, None), (NEWEST, None)])
def test_a_run_is_started_with_the_versions_body(dialect, body):
    assert dialect.body(endpoints.CREATE_RUN, None) == body


@pytest.mark.parametrize("endpoint", [endpoints.CREATE_INGESTION, endpoints.UPDATE_INGESTION])
def test_geoparquet_is_refused_where_the_version_lacks_it(endpoint):
    body = {"importType": "StacGeoparquet"}

    for dialect in (OLDEST, MIDDLE):
        with pytest.raises(GeoCatalogInvalidInput, match=f"{dialect.api_version}.*only StaticCatalog"):
            dialect.body(endpoint, body)
    assert NEWEST.body(endpoint, body) == body


def test_a_change_of_an_ingestion_need_not_name_an_import_type():
    assert OLDEST.body(endpoints.UPDATE_INGESTION, {"displayName": "n"}) == {"displayName": "n"}


@pytest.mark.parametrize(
    ("dialect", "endpoint", "template"),
    [
        (OLDEST, endpoints.LIST_MOSAICS, "/api/collections/{collection_id}/config/mosaics"),
        (NEWEST, endpoints.LIST_MOSAICS, "/stac/collections/{collection_id}/configurations/mosaics"),
        (OLDEST, endpoints.GET_RUN, "/api/collections/{collection_id}/ingestions/{ingestion_id}/runs/{run_id}"),
        (MIDDLE, endpoints.GET_RUN, "/inma/collections/{collection_id}/ingestions/{ingestion_id}/runs/{run_id}"),
        (OLDEST, endpoints.SEARCH_BY_QUERY, "/api/search"),
        (NEWEST, endpoints.SEARCH_BY_QUERY, "/stac/search"),
    ],
)
def test_paths(dialect, endpoint, template):
    assert dialect.template(endpoint) == template


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=str)
def test_a_missing_operation_is_named_with_its_version(dialect):
    assert dialect.lacks <= set(ENDPOINTS)
    for name in dialect.lacks:
        with pytest.raises(GeoCatalogUnsupportedOperation, match=f"{dialect.api_version}.*{name}"):
            dialect.template(ENDPOINTS[name])
