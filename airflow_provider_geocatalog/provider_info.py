"""What Airflow reads about this provider: modules, the connection type and its form, as data."""

from __future__ import annotations

from typing import Any

from airflow_provider_geocatalog.api.dialects import API_VERSIONS, DEFAULT_API_VERSION

CONNECTION_TYPE = "geocatalog"
HOOK_NAME = "Planetary Computer Pro GeoCatalog"
DEFAULT_CONNECTION_ID = "geocatalog_default"
_INTEGRATION = "Microsoft Planetary Computer Pro GeoCatalog"
_PACKAGE = "airflow_provider_geocatalog"


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


#: Fields of the form that are kept in the connection's extra. The hook's classmethods for Airflow before 3.2 are made
#: from this, so that the form is written once.
CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "auth_method": _text(
        "Authentication",
        "How to get a token. 'static_token' takes the password field as the token, for the emulator.",
        enum=[
            "default",
            "client_secret",
            "client_certificate",
            "managed_identity",
            "workload_identity",
            "azure_cli",
            "static_token",
        ],
        default="default",
    ),
    "tenant_id": _text("Tenant ID", "Microsoft Entra tenant, for client secret and client certificate."),
    "certificate_path": _text("Certificate path", "PEM or PKCS12 file on the worker, with its private key."),
    "cloud": _text("Cloud", "Azure cloud; read from the URL if empty.", enum=["public", "us_government"]),
    "api_version": _text(
        "API version", "The service's api-version.", enum=list(reversed(API_VERSIONS)), default=DEFAULT_API_VERSION
    ),
    "request_timeout": {
        "label": "Request time-out (s)",
        "description": "Seconds that one request may take altogether.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 3600, "default": 60},
    },
    "requests_per_second": {
        "label": "Requests per second",
        "description": "Most that one process sends to this GeoCatalog in a second; the service allows 50.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 1000, "default": 40},
    },
    "ca_bundle": _text("TLS CA bundle", "File with the certificates to trust, if a private authority signs them."),
    "explorer_url": _text(
        "Explorer URL",
        "Where tasks' links lead: a collection's address in the GeoCatalog Explorer, with {collection_id} for its id. "
        "Made from the GeoCatalog URL if empty.",
    ),
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    # The port is shown, though a URL can have it: without one, Airflow 3.3.1 and 3.3.2 refuse to test a connection that
    # is saved (apache/airflow#73298).
    "hidden-fields": ["schema"],
    "relabeling": {
        "host": "GeoCatalog URL",
        "login": "Client ID",
        "password": "Client secret, certificate password or static token",
    },
    "placeholders": {
        "host": "https://<name>.<id>.<region>.geocatalog.spatio.azure.com",
        "port": "443; Airflow 3.3.1 and 3.3.2 need it for their test button",
        "login": "application id, or client id of a user-assigned managed identity",
        "extra": "{}",
    },
}


def _modules(kind: str, *names: str) -> list[dict[str, Any]]:
    return [{"integration-name": _INTEGRATION, "python-modules": [f"{_PACKAGE}.{kind}.{name}" for name in names]}]


#: The URI scheme of collections.
_ASSET_URIS = [
    {
        "schemes": ["geocatalog"],
        "handler": f"{_PACKAGE}.assets.sanitize_uri",
        "factory": f"{_PACKAGE}.assets.create_asset",
        "to_openlineage_converter": f"{_PACKAGE}.assets.to_openlineage",
    }
]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, as ``airflow/provider_info.schema.json`` describes it."""
    return {
        "package-name": "airflow-provider-geocatalog",
        "name": HOOK_NAME,
        "description": "Collections, ingestion sources and bulk ingestion in Microsoft Planetary Computer Pro.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://learn.microsoft.com/azure/planetary-computer/",
                "tags": ["azure"],
            }
        ],
        "operators": _modules(
            "operators",
            *("asset_downloads", "collection_clone", "collection_code", "collections", "comparison", "configuration"),
            *("ingestion", "item_changes", "items", "preflight", "search", "sources", "transfer"),
        ),
        "sensors": _modules("sensors", "ingestion", "items"),
        "hooks": _modules("hooks", "geocatalog"),
        "triggers": _modules(
            "triggers", "events", "ingestion", "items", "moments", "operations", "run_slots", "watchers"
        ),
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": f"{_PACKAGE}.hooks.geocatalog.GeoCatalogHook",
                "hook-name": HOOK_NAME,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
        "asset-uris": _ASSET_URIS,
        "dataset-uris": _ASSET_URIS,  # their name in Airflow 2
        "extra-links": [
            f"{_PACKAGE}.links.{name}"
            for name in ("GeoCatalogCollectionLink", "GeoCatalogOperationLink", "GeoCatalogSourcesLink")
        ],
    }
