"""
``python -m airflow_provider_geocatalog.collection_cli``: a collection as code from a shell, without Airflow.

Exit codes: 0, the collection is as its document says, or was made so; 2, it is not (plan, check); 1, an error.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from airflow_provider_geocatalog.api.collection_checks import load_schema
from airflow_provider_geocatalog.api.dialects import API_VERSIONS, DEFAULT_API_VERSION
from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.flows.collection_export import export_collection
from airflow_provider_geocatalog.api.flows.collection_plan import apply_collection, plan_collection
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.auth import AuthMethod, ConnectionSettings
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.collection_document import document_text, load_collection_document, require_supported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_geocatalog.api.collection_plan import CollectionPlan, WantedCollection

__all__ = ["main"]

IN_LINE, ERROR, DRIFT = 0, 1, 2
URL_VARIABLE, TOKEN_VARIABLE = "GEOCATALOG_URL", "GEOCATALOG_TOKEN"
VERSION_VARIABLE = "GEOCATALOG_API_VERSION"
_FORMATS = ("text", "json", "markdown")


class _Parser(argparse.ArgumentParser):
    """Ends with our own code for a wrong command line: argparse's is the one that says drift here."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ERROR, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m airflow_provider_geocatalog.collection_cli",
        description="Keep a collection of a Planetary Computer Pro GeoCatalog as its document says.",
        epilog="Exit codes: 0, it is as the document says; 2, it is not (plan, check); 1, an error.",
    )
    parser.add_argument("--verbose", action="store_true", help="log what is sent")
    commands = parser.add_subparsers(dest="command", required=True)
    connection = _connection_options()
    for name, words in (
        ("plan", "show what has to be written"),
        ("apply", "write it"),
        ("check", "fail if anything has to be written"),
    ):
        command = commands.add_parser(name, parents=[connection], help=words)
        command.add_argument("document", help="path or URL of the YAML or JSON document")
        command.add_argument(
            "--prune", action="store_true", help="delete what the document does not name, in the sections that it has"
        )
        command.add_argument("--format", choices=_FORMATS, default="text", help="of what is printed")
        if name == "apply":
            command.add_argument(
                "--approved", type=Path, metavar="FILE", help="plan --format json; refuse other writes"
            )
            command.add_argument("--timeout", type=float, default=3600.0, help="seconds to wait for a new collection")
    export = commands.add_parser("export", parents=[connection], help="write the document of an existing collection")
    export.add_argument("collection_id", help="the collection")
    export.add_argument("path", type=Path, help="the document to write, .yaml or .json; the thumbnail goes beside it")
    export.add_argument("--force", action="store_true", help="replace existing files")
    commands.add_parser("schema", help="print the JSON schema of documents")
    return parser


def _connection_options() -> _Parser:
    parser = _Parser(add_help=False)
    add = parser.add_argument_group("connection").add_argument
    add("--url", default=os.environ.get(URL_VARIABLE), help=f"the GeoCatalog's endpoint; else ${URL_VARIABLE}")
    add(
        "--api-version",
        choices=API_VERSIONS,
        default=os.environ.get(VERSION_VARIABLE, DEFAULT_API_VERSION),
        help=f"else ${VERSION_VARIABLE}, else {DEFAULT_API_VERSION}",
    )
    add(
        "--auth-method",
        choices=[method.value for method in AuthMethod],
        help=f"how to get a token; without it the one in ${TOKEN_VARIABLE} if it is set, else azure-identity's default",
    )
    add(
        "--token-variable",
        default=TOKEN_VARIABLE,
        metavar="NAME",
        help="environment variable with a token, or with the secret that the method needs",
    )
    add("--tenant-id", help="Microsoft Entra tenant")
    add("--client-id", help="application id, or client id of a managed identity")
    add("--certificate-path", help="PEM or PKCS12 file with its private key")
    add("--ca-bundle", help="file with the certificates to trust")
    return parser


def _client(options: argparse.Namespace) -> GeoCatalogClient:
    secret = os.environ.get(options.token_variable)
    method = options.auth_method or (AuthMethod.STATIC_TOKEN if secret else AuthMethod.DEFAULT).value
    extra = {
        "auth_method": method,
        "api_version": options.api_version,
        "tenant_id": options.tenant_id,
        "certificate_path": options.certificate_path,
        "ca_bundle": options.ca_bundle,
    }
    settings = ConnectionSettings.from_fields(host=options.url, login=options.client_id, password=secret, extra=extra)
    return GeoCatalogClient(settings)


def _load(options: argparse.Namespace) -> tuple[WantedCollection, GeoCatalogClient]:
    wanted, client = load_collection_document(options.document), _client(options)
    require_supported(wanted, client)
    return wanted, client


def _plan(options: argparse.Namespace) -> int:
    wanted, client = _load(options)
    plan = client.run(plan_collection(wanted, prune=options.prune))
    _show(plan, options.format)
    return DRIFT if plan.changes else IN_LINE


def _apply(options: argparse.Namespace) -> int:
    wanted, client = _load(options)
    approved = json.loads(options.approved.read_text()) if options.approved else None
    if options.approved and not (isinstance(approved, dict) and "entries" in approved):
        raise GeoCatalogInvalidInput(f"{options.approved} is not what plan --format json prints")
    deadline = time.time() + options.timeout
    plan = client.run(apply_collection(wanted, prune=options.prune, approved=approved, deadline=deadline))
    _show(plan, options.format)
    return IN_LINE


def _show(plan: CollectionPlan, form: str) -> None:
    shown = {
        "text": plan.to_text,
        "json": lambda: json.dumps(plan.to_json(), indent=2, ensure_ascii=False),
        "markdown": plan.to_markdown,
    }
    print(shown[form]())


def _export(options: argparse.Namespace) -> int:
    exported = _client(options).run(export_collection(options.collection_id))
    path: Path = options.path
    files = {path: document_text(exported, path.name).encode()}
    if exported.thumbnail is not None:
        files[path.parent / exported.thumbnail.filename] = exported.thumbnail.content
    there = [str(file) for file in files if file.exists()]
    if there and not options.force:
        raise GeoCatalogInvalidInput(f"{' and '.join(there)} exists already; --force replaces it")
    for file, content in files.items():
        file.write_bytes(content)
        print(file)
    return IN_LINE


def _schema(options: argparse.Namespace) -> int:
    print(json.dumps(load_schema(), indent=2))
    return IN_LINE


_COMMANDS = {"plan": _plan, "apply": _apply, "check": _plan, "export": _export, "schema": _schema}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Carry out a command line.

    :return: The exit code.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO if options.command == "apply" else logging.WARNING,
        format="%(levelname)s %(message)s",
    )
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    try:
        return _COMMANDS[options.command](options)
    except GeoCatalogInvalidInput as error:
        print(*map(redact, error.problems), sep="\n", file=sys.stderr)
    except GeoCatalogError as error:
        print(error, file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return ERROR


if __name__ == "__main__":
    sys.exit(main())
