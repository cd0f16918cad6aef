"""What an api-version changes on the wire, as data. No other module compares versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput, GeoCatalogUnsupportedOperation
from airflow_provider_geocatalog.api.http import Area, Endpoint
from airflow_provider_geocatalog.api.statuses import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["API_VERSIONS", "DEFAULT_API_VERSION", "DIALECTS", "Dialect", "dialect_for"]


@dataclass(frozen=True)
class Dialect:
    """
    The wire form of one api-version.

    :param api_version: Value of the ``api-version`` query parameter.
    :param prefixes: Path prefix of each area.
    :param configuration_segment: Path segment that holds a collection's configurations.
    :param source_kind_field: Member that tells a SAS source from a managed-identity source.
    :param ingestion_id_field: Member that holds the id of an ingestion definition.
    :param operation_id_field: Member that holds the id of an operation.
    :param success_word: Status word of a successful operation.
    :param bare_lists: Lists are bare JSON arrays instead of ``{"value": [...]}``.
    :param collection_writes_start_operations: Creating and deleting a collection answers ``202`` with an operation;
        otherwise ``201`` with the collection, and ``204``.
    :param delete_source_status: Status code of deleting an ingestion source.
    :param replace_creates_source: Replacing an unknown ingestion source creates it.
    :param run_body: Body of the request that starts a run (``None``: no body).
    :param import_types: Accepted values of ``importType``.
    :param lacks: Names of the endpoints that this api-version does not have.
    :param is_supported: Whether the service still lists it in ``api-supported-versions`` (geocatalog-api 2.3).
    """

    api_version: str
    prefixes: Mapping[Area, str] = field(
        default_factory=lambda: {Area.STAC: "/stac", Area.INGESTION: "/inma", Area.SAS: "/sas"}
    )
    configuration_segment: str = "configurations"
    source_kind_field: str = "kind"
    ingestion_id_field: str = "id"
    operation_id_field: str = "id"
    success_word: str = "Succeeded"
    bare_lists: bool = False
    collection_writes_start_operations: bool = True
    delete_source_status: int = 204
    replace_creates_source: bool = False
    run_body: Mapping[str, str] | None = None
    import_types: frozenset[str] = frozenset({"StaticCatalog"})
    lacks: frozenset[str] = frozenset()
    is_supported: bool = True

    def has(self, endpoint: Endpoint) -> bool:
        """Return whether this api-version has the operation."""
        return endpoint.name not in self.lacks

    def template(self, endpoint: Endpoint) -> str:
        """
        Return the path template of an operation in this api-version, prefix included.

        :raises GeoCatalogUnsupportedOperation: This api-version lacks the operation.
        """
        if not self.has(endpoint):
            raise GeoCatalogUnsupportedOperation(
                f"api-version {self.api_version} has no operation {endpoint.name!r} ({endpoint.method} {endpoint.path})"
            )
        path = endpoint.path.replace("/configurations", f"/{self.configuration_segment}")
        return self.prefixes[endpoint.area] + path

    def query(self, endpoint: Endpoint, query: Mapping[str, str]) -> Mapping[str, str]:
        """Return query parameters in the words of this api-version: the filter for successful operations."""
        status = query.get("status")
        if endpoint.name != "list_operations" or status is None or Status(status).outcome is not Outcome.SUCCEEDED:
            return query
        return {**query, "status": self.success_word}

    def body(self, endpoint: Endpoint, body: Any) -> Any:
        """
        Return a request body, written in the words of the newest api-version, in the words of this one.

        :raises GeoCatalogInvalidInput: This api-version cannot say it.
        """
        if endpoint.name == "create_run":
            return self.run_body
        if endpoint.name in _WITH_SOURCE_KIND and self.source_kind_field != "kind":
            return {self.source_kind_field if name == "kind" else name: value for name, value in body.items()}
        if endpoint.name in _WITH_IMPORT_TYPE and body.get("importType") is not None:
            self.require_import_type(body["importType"])
        return body

    def require_import_type(self, import_type: str) -> None:
        """
        Refuse an import type that this api-version does not have.

        :raises GeoCatalogInvalidInput: It does not.
        """
        if import_type not in self.import_types:
            known = ", ".join(sorted(self.import_types))
            raise GeoCatalogInvalidInput(
                f"api-version {self.api_version} has no import type {import_type!r}, only {known}"
            )


_WITH_SOURCE_KIND = frozenset({"create_source", "replace_source"})
_WITH_IMPORT_TYPE = frozenset({"create_ingestion", "update_ingestion"})


#: Documented operations of 2024-01-31-preview, and the reads that belong to them by analogy with later versions
#: (sources: create-stac-collection, add-stac-item, bulk-ingestion-api in their 2024 revisions, stacforge).
_LACKING_IN_2024 = frozenset(
    {
        "list_managed_identities",
        "update_ingestion",
        "delete_ingestion",
        "cancel_all_operations",
        "create_collection_asset",
        "replace_collection_asset",
        "delete_collection_asset",
        "get_collection_thumbnail",
        "replace_item",
        "update_item",
        "get_queryables",
        "get_collection_queryables",
        "create_queryables",
        "replace_queryable",
        "delete_queryable",
        "get_collection_configuration",
        "get_partition_type",
        "replace_partition_type",
        "get_sas_token",
        "sign_href",
        "revoke_sas_tokens",
    }
)

DIALECTS: Mapping[str, Dialect] = {
    dialect.api_version: dialect
    for dialect in (
        Dialect(
            "2024-01-31-preview",
            prefixes={Area.STAC: "/api", Area.INGESTION: "/api", Area.SAS: "/api"},
            configuration_segment="config",
            source_kind_field="sourceType",
            ingestion_id_field="ingestionId",
            operation_id_field="operationId",
            success_word="Success",
            bare_lists=True,
            collection_writes_start_operations=False,
            delete_source_status=200,
            run_body={},
            lacks=_LACKING_IN_2024,
            is_supported=False,
        ),
        Dialect("2025-04-30-preview", replace_creates_source=True, lacks=frozenset({"get_operation_logs"})),
        Dialect(
            "2026-04-15",
            import_types=frozenset({"StaticCatalog", "StacGeoparquet"}),
            lacks=frozenset({"get_operation_logs"}),
        ),
    )
}

API_VERSIONS: tuple[str, ...] = tuple(DIALECTS)
DEFAULT_API_VERSION = "2026-04-15"


def dialect_for(api_version: str) -> Dialect:
    """
    Return the dialect of an api-version.

    :raises GeoCatalogInvalidInput: The api-version is none that this package speaks.
    """
    try:
        return DIALECTS[api_version]
    except KeyError:
        raise GeoCatalogInvalidInput(
            f"unknown api-version {api_version!r}; this provider speaks {', '.join(API_VERSIONS)}"
        ) from None
