"""
Take the connection form from the server of this Airflow, save what a user has filled in, and test it, all over HTTP.

Say as JSON what came of each. The document with what is filled in has the members of a connection in Airflow's API.
"""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

Told = dict[str, Any]

#: What the page of Airflow 2 has before the names of our own fields.
PREFIX = "extra__geocatalog__"


def page_of_airflow_2(connection: dict[str, Any]) -> Told:
    """Use the page of Airflow 2, whose fields the hook makes with WTForms."""
    from airflow.www.app import create_app

    app = create_app(testing=True)
    # There is nobody to log in, and no page that a form's token came with.
    app.config |= {"AUTH_ROLE_PUBLIC": "Admin", "WTF_CSRF_ENABLED": False}
    browser = app.test_client()
    page = browser.get("/connection/add", follow_redirects=True).get_data(as_text=True)
    inputs = [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall(r"<input[^>]*>", page)]
    shown = {tag["name"].removeprefix(PREFIX): tag for tag in inputs if tag.get("name", "").startswith(PREFIX)}
    [behaviours] = re.findall(r'<script id="field_behaviours" type="text/json">(.*?)</script>', page)
    standard = json.loads(html.unescape(behaviours))["geocatalog"]

    extra = json.loads(connection["extra"])
    # A browser sends every field, and the page's script fills in the field "extra" for itself.
    fields = {PREFIX + name: extra.get(name, html.unescape(tag["value"])) for name, tag in shown.items()}
    form = {**connection, "conn_id": connection["connection_id"], **fields, "extra": ""}
    refused = browser.post("/connection/add", data={**form, f"{PREFIX}auth_method": "by telephone"})
    saved = browser.post("/connection/add", data=form)
    tested = browser.post("/api/v1/connections/test", json=connection)
    return {
        "made_of": "hook's widgets",
        "fields": {name: {"default": tag["value"] or None} for name, tag in shown.items()},
        "titles": standard["relabeling"],
        "hidden": standard["hidden_fields"],
        # The page comes again with what is wrong in it, where a saved connection leads to the list.
        "statuses": {"refused": refused.status_code, "saved": saved.status_code},
        "tested": tested.get_json(),
    }


def api_of_airflow_3(connection: dict[str, Any]) -> Told:
    """Ask the API server for what the form of Airflow 3 is made of."""
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

    # Some Airflows import the hook without asking it for the form: watch what is asked.
    asks_the_hook = mock.patch.object(
        GeoCatalogHook, "get_connection_form_widgets", wraps=GeoCatalogHook.get_connection_form_widgets
    )
    with asks_the_hook as asked, TestClient(create_app(apps="core")) as browser:
        browser.headers["Authorization"] = f"Bearer {browser.get('/auth/token').json()['access_token']}"
        forms = browser.get("/ui/connections/hook_meta").json()
        saved = browser.post("/api/v2/connections", json=connection)
        tested = browser.post("/api/v2/connections/test", json=connection)
    [ours] = [form for form in forms if form["connection_type"] == "geocatalog"]
    # Where there are no standard fields, the form shows all of them under their own names.
    standard = {name: field for name, field in (ours["standard_fields"] or {}).items() if field}
    return {
        "made_of": "hook's widgets" if asked.called else "metadata",
        "fields": {
            name: {"default": field["value"], "enum": field["schema"].get("enum")}
            for name, field in (ours["extra_fields"] or {}).items()
        },
        "titles": {name: field["title"] for name, field in standard.items() if field["title"]},
        "hidden": ["schema" if name == "url_schema" else name for name, field in standard.items() if field["hidden"]],
        "statuses": {"saved": saved.status_code},
        "answer": saved.text,
        "tested": tested.json(),
    }


def stored(conn_id: str) -> dict[str, Any]:
    """Return the connection as the metadata database has it."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(Connection).filter_by(conn_id=conn_id).one()
        return {"host": found.host, "password": found.password, "extra": found.extra_dejson}


def main() -> None:
    import airflow
    from airflow.utils.db import initdb
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    # Airflow 2 commits some hundred permissions, one by one.
    event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    initdb()
    connection = json.loads(sys.argv[1])
    use = page_of_airflow_2 if airflow.__version__.startswith("2.") else api_of_airflow_3
    told = use(connection)
    Path(sys.argv[2]).write_text(json.dumps({**told, "stored": stored(connection["connection_id"])}))


if __name__ == "__main__":
    main()
