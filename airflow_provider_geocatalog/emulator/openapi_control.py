"""The emulator's own control API (docs/testing-dags.md) in OpenAPI 3.1; it is the same in every api-version."""

from __future__ import annotations

from typing import Any

from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.fault_codes import FAULT_CODES
from airflow_provider_geocatalog.emulator.faults import METHODS, OPERATION_TYPES, RULES, Rule
from airflow_provider_geocatalog.emulator.openapi import (
    COUNT,
    ERROR,
    FAILURE,
    JSON,
    NAME,
    NUMBER,
    TEXT,
    TIMESTAMP,
    Schema,
    array_of,
    documented,
    object_of,
    one_of,
    or_null,
    ref,
)

__all__ = ["PATH", "describe_control"]

#: Where it is served.
PATH = "/_emulator/control.json"

#: What an option of a fault can be, where its type does not tell.
_KNOWN = {
    "operations": list(ENDPOINTS),
    "methods": list(METHODS),
    "api_versions": list(DIALECTS),
    "types": list(OPERATION_TYPES),
}
_MOMENT: Schema = {
    "anyOf": [{**NUMBER, "minimum": 0, "description": "Epoch seconds."}, {"type": "string", "format": "date-time"}]
}


def _fault(rule: type[Rule]) -> Schema:
    """Describe the body that makes a rule, from the rule itself."""
    described = rule.model_json_schema()
    options = {name: _option(name, schema, rule) for name, schema in described["properties"].items()}
    summary = (rule.__doc__ or "").strip().split("\n\n")[0]
    body = object_of(
        {"effect": {"const": rule.effect}, **{name: options[name] for name in described.get("required", ())}}
    )
    return {**body, "properties": {"effect": {"const": rule.effect}, **options}, "description": summary}


def _option(name: str, schema: Schema, rule: type[Rule]) -> Schema:
    kept = {key: value for key, value in schema.items() if key not in ("title", "default")}
    if schema.get("type") == "array":  # of names; one alone may stand for a list
        names: Schema = {"enum": _KNOWN[name]} if name in _KNOWN else TEXT
        return {"anyOf": [names, array_of(names)]}
    if name in ("path", "item_pattern"):
        return {"anyOf": [{"type": "string", "format": "regex"}, {"type": "null"}]}
    if name == "code" and "anyOf" not in schema:
        return {"enum": list(FAULT_CODES)}
    return kept


_SCHEMAS: dict[str, Schema] = {
    "Error": ERROR,
    "NewFault": {"oneOf": [_fault(rule) for rule in RULES.values()]},
    "Fault": object_of({"id": NAME, "effect": one_of(*RULES), "matches": COUNT, "hits": COUNT}, closed=False),
    "Faults": object_of({"value": array_of(ref("Fault"))}),
    "Clock": object_of({"now": TIMESTAMP, "epoch": NUMBER, "speed": NUMBER}),
    "ClockChange": {
        **object_of(
            {},
            {
                "freeze": {"const": True},
                "set": _MOMENT,
                "advance": {**NUMBER, "minimum": 0},
                "speed": {**NUMBER, "minimum": 0},
            },
        ),
        "minProperties": 1,
    },
    "Requests": object_of(
        {
            "value": array_of(
                object_of(
                    {
                        "method": NAME,
                        "path": NAME,
                        "query": {"type": "object", "additionalProperties": TEXT},
                        "status": COUNT,
                        "operation": or_null("string"),
                        "requestId": NAME,
                        "time": TIMESTAMP,
                        "fault": or_null("string"),
                    }
                )
            )
        }
    ),
    "Reset": object_of({}, {"at": _MOMENT}),
    "Failures": object_of({"value": array_of(FAILURE)}),
}
_FILTERS = {"operation": one_of(*ENDPOINTS), "method": one_of(*METHODS)}
_NEW_FAULTS = {"anyOf": [ref("NewFault"), array_of(ref("NewFault"))]}
_MADE = {"anyOf": [ref("Fault"), ref("Faults")]}
#: Path and method to what the operation is called, its body, its answer and its query parameters.
_OPERATIONS: dict[str, dict[str, tuple[str, Schema | None, int, Schema | None]]] = {
    "/_emulator/faults": {
        "get": ("list_faults", None, 200, ref("Faults")),
        "post": ("add_faults", _NEW_FAULTS, 201, _MADE),
        "delete": ("clear_faults", None, 204, None),
    },
    "/_emulator/faults/{fault_id}": {
        "get": ("get_fault", None, 200, ref("Fault")),
        "delete": ("remove_fault", None, 204, None),
    },
    "/_emulator/clock": {
        "get": ("get_clock", None, 200, ref("Clock")),
        "post": ("change_clock", ref("ClockChange"), 200, ref("Clock")),
    },
    "/_emulator/requests": {
        "get": ("list_requests", None, 200, ref("Requests")),
        "delete": ("clear_requests", None, 204, None),
    },
    "/_emulator/reset": {"post": ("reset", ref("Reset"), 204, None)},
    "/_emulator/runs/{run_id}/failures": {"get": ("list_failures", None, 200, ref("Failures"))},
}


def describe_control(base_url: str) -> dict[str, Any]:
    """
    Return the OpenAPI document.

    :param base_url: Scheme and host under which the client reached the emulator.
    """
    paths: dict[str, dict[str, Any]] = {}
    for path, operations in _OPERATIONS.items():
        for method, (name, body, code, answer) in operations.items():
            paths.setdefault(path, {})[method] = _operation(path, method, name, body, code, answer)
    return documented(
        "GeoCatalog emulator, control API",
        "What tests need and the service has not: faults, a clock, and a record of requests. For administrators.",
        "1",
        base_url,
        paths,
        {"schemas": _SCHEMAS, "responses": {str(code): _refusal(code) for code in (400, 401, 403, 404, 413)}},
    )


def _operation(
    path: str, method: str, name: str, body: Schema | None, code: int, answer: Schema | None
) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": one, "in": "path", "required": True, "schema": NAME} for one in ("fault_id", "run_id") if one in path
    ]
    if name == "list_requests":
        parameters += [{"name": one, "in": "query", "schema": schema} for one, schema in _FILTERS.items()]
    success = {"description": "Done."} if answer is None else {"description": "Done.", "content": _json(answer)}
    refused = {400, 401, 403} | ({404} if "{" in path else set()) | ({413} if method != "get" else set())
    errors = {str(one): {"$ref": f"#/components/responses/{one}"} for one in sorted(refused)}
    described: dict[str, Any] = {
        "operationId": name,
        "tags": ["control"],
        "parameters": parameters,
        "responses": {str(code): success}
        | {str(one): {"$ref": f"#/components/responses/{one}"} for one in sorted(errors)},
    }
    if body is not None:
        described["requestBody"] = {"required": name != "reset", "content": _json(body)}
    return described


def _refusal(code: int) -> dict[str, Any]:
    return {"description": "Refused."} if code == 401 else {"description": "Refused.", "content": _json(ref("Error"))}


def _json(schema: Schema) -> dict[str, Any]:
    return {JSON: {"schema": schema}}
