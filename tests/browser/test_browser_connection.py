"""The connection's form in Airflow's UI: seen, filled, saved, tested and opened again."""

from __future__ import annotations

import json

import pytest

from airflow_provider_geocatalog.provider_info import CONNECTION_FIELDS, HOOK_NAME, UI_FIELD_BEHAVIOUR
from tests.fakes.entra import TENANT
from tests.fakes.real_world import TOKEN

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]

CONNECTION = "filled_in"
LABELS = UI_FIELD_BEHAVIOUR["relabeling"]
SECRET_LABEL = LABELS["password"]


def _choose(field, option: str) -> None:
    field.fill(option)
    field.page.get_by_role("option", name=option, exact=True).click()


def _row(form, label: str):
    """Return an extra field's row: the labels of text fields name an element that is not there."""
    return form.get_by_role("group").filter(has=form.page.get_by_text(label, exact=True))


def _extra(form, label: str):
    return _row(form, label).locator("input:visible")


def _new_form(tab):
    tab.open("/connections")
    tab.page.get_by_role("button", name="Add Connection").click()
    form = tab.page.get_by_role("dialog")
    _choose(form.get_by_label("Connection Type"), HOOK_NAME)
    return form


def _save(form, method: str) -> dict:
    with form.page.expect_response(lambda answer: answer.request.method == method) as answered:
        form.get_by_role("button", name="Save").click()
    assert answered.value.ok, answered.value.text()
    form.wait_for(state="hidden")
    return answered.value.json()


def _open_saved(tab, connection_id: str):
    tab.open("/connections")
    tab.row(connection_id).get_by_role("button", name="Edit Connection").click()
    form = tab.page.get_by_role("dialog")
    form.get_by_label(LABELS["host"]).wait_for()
    return form


@pytest.fixture(scope="module")
def secret() -> str:
    return "client-secret-of-the-administrator"


@pytest.fixture
def saved(tab, world, entra, secret) -> str:
    """Id of a connection that was filled in and saved in the form, in this test or an earlier one."""
    if CONNECTION in {one["connection_id"] for one in world.airflow.call("GET", "/connections")["connections"]}:
        return CONNECTION
    address, _, port = world.url.rpartition(":")
    form = _new_form(tab)
    form.get_by_label("Connection ID").fill(CONNECTION)
    form.get_by_label(LABELS["host"]).fill(address)
    form.get_by_label("Port").fill(port)
    form.get_by_label(LABELS["login"]).fill("00000000-0000-4000-8000-00000000000a")
    form.get_by_label(SECRET_LABEL).fill(secret)
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    _choose(_extra(form, "Authentication"), "client_secret")
    _extra(form, "Tenant ID").fill(TENANT)
    _extra(form, "TLS CA bundle").fill(str(entra.certificate))
    _save(form, "POST")
    return CONNECTION


def test_the_form_is_ours(tab):
    form = _new_form(tab)

    for name, label in LABELS.items():
        shown = form.get_by_label(label)
        assert shown.get_attribute("placeholder") == UI_FIELD_BEHAVIOUR["placeholders"].get(name, ""), name
    assert form.get_by_label(SECRET_LABEL).get_attribute("type") == "password"
    assert form.get_by_label("Port").get_attribute("placeholder") == UI_FIELD_BEHAVIOUR["placeholders"]["port"]
    assert form.get_by_label("Schema").count() == 0
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    for name, field in CONNECTION_FIELDS.items():
        assert _extra(form, field["label"]).is_visible(), name
        assert _row(form, field["label"]).get_by_text(field["description"], exact=True).is_visible(), name
    for name in ("request_timeout", "requests_per_second"):
        field = CONNECTION_FIELDS[name]
        assert _extra(form, field["label"]).input_value() == str(field["schema"]["default"])
    for name, field in CONNECTION_FIELDS.items():
        if "enum" not in field["schema"]:
            continue
        _extra(form, field["label"]).click()
        offered = tab.page.get_by_role("option")
        offered.first.wait_for()
        assert offered.all_inner_texts() == field["schema"]["enum"]
        assert form.locator(f"input[name=element_{name}]").input_value() == (field["schema"].get("default") or "")


def test_a_connection_that_was_filled_in_passes_its_test(tab, world, saved):
    tab.open("/connections")
    before = len(world.requests())

    told = tab.test_connection(saved)

    assert "Test Connection Successful" in told
    assert f"Connected to the GeoCatalog at {world.url}, api-version 2026-04-15." in told
    assert [one.status for one in world.named("get_landing_page", since=before)][-1] == 200


def test_nobody_reads_the_secret_again(tab, world, saved, secret):
    form = _open_saved(tab, saved)
    form.get_by_role("button", name="Show value").click()  # which uncovers what the page has, not what is saved
    assert form.get_by_label(SECRET_LABEL).input_value() == "***"
    form.get_by_role("button", name="Extra Fields JSON").click()
    form.locator(".view-lines", has_text=TENANT).wait_for()
    told = [json.dumps(world.airflow.call("GET", f"/connections{path}")) for path in ("", f"/{saved}")]

    assert secret not in tab.page.content()
    assert any(saved in body for body in tab.heard())
    assert not [body for body in tab.heard() + told if secret in body]


def test_saving_without_touching_the_secret_keeps_it(tab, saved):
    form = _open_saved(tab, saved)
    form.get_by_label("Description").fill("looked at again")
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    _extra(form, "Requests per second").fill("20")
    changed = _save(form, "PATCH")

    assert (changed["description"], json.loads(changed["extra"])["requests_per_second"]) == ("looked at again", 20)
    assert "Test Connection Successful" in tab.test_connection(saved)


@pytest.mark.parametrize("member", ["token", "client_secret", "extra__geocatalog__token"])
def test_a_secret_in_the_extra_outlives_the_form_as_well(tab, world, member):
    connection_id = f"in_extra_{member}"
    address, _, port = world.url.rpartition(":")
    extra = json.dumps({"auth_method": "static_token", member: TOKEN})
    body = {"conn_type": "geocatalog", "host": address, "port": int(port), "extra": extra}
    world.airflow.call("POST", "/connections", body={"connection_id": connection_id, **body})

    form = _open_saved(tab, connection_id)
    form.get_by_label("Description").fill("looked at")
    form.get_by_role("button", name="Extra Fields JSON").click()
    form.locator(".view-lines", has_text="***").wait_for()
    assert TOKEN not in tab.page.content()
    _save(form, "PATCH")

    assert not [body for body in tab.heard() if TOKEN in body]
    assert "Test Connection Successful" in tab.test_connection(connection_id)


def test_a_mask_that_was_saved_as_the_secret_is_found_out(world):
    """Airflow 3.0 and 3.1 did that, and such connections are still about."""
    body = {
        "connection_id": "new",
        "conn_type": "geocatalog",
        "host": world.url,
        "password": "***",
        "extra": json.dumps({"auth_method": "static_token"}),
    }
    before = len(world.requests())

    answer = world.airflow.call("POST", "/connections/test", body=body)

    assert (answer["status"], len(world.requests())) == (False, before)
    assert "enter the secret itself again" in answer["message"]
