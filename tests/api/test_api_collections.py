"""Creating, replacing and deleting collections, stepped by hand."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.api import errors
from airflow_provider_geocatalog.api.flows.collections import (
    IfExists,
    begin_create_collection,
    begin_delete_collection,
    replace_collection,
    same_collection,
    visible_collection,
)
from tests.fakes.stepping import Steps, answer, listed

CUT = errors.GeoCatalogUnreachable("cut off", sent=True)
WANTED = {"id": "c", "title": "new", "extent": {"spatial": {}}}
READ_BACK = {**WANTED, "links": [{"rel": "self"}], "msft:_created": "2026", "keywords": None, "stac_extensions": ["x"]}


def creation(created_at, kind="AddCollection"):
    return {"id": f"op-{created_at[-3:-1]}", "status": "Running", "type": kind, "creationTime": created_at}


@pytest.mark.parametrize("status", [200, 201])
def test_a_creation_that_ends_at_once_leaves_nothing_to_wait_for(status):
    change = Steps(answer(404), answer(status, WANTED)).run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))

    assert (change.action, change.started.operation) == ("created", None)


def test_a_creation_that_goes_on_is_to_be_waited_for():
    accepted = answer(202, {"id": "op", "status": "Pending"}, operation_location="https://g/inma/operations/op")
    steps = Steps(answer(404), accepted)

    change = steps.run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))

    assert (change.started.operation.operation_id, change.started.url) == ("op", "https://g/inma/operations/op")
    assert steps.requests[1].body == {**WANTED, "links": []}


@pytest.mark.parametrize(("policy", "action"), [(IfExists.SKIP, "skipped"), (IfExists.UPDATE, "unchanged")])
def test_an_existing_collection_that_is_as_wanted_is_not_written(policy, action):
    steps = Steps(answer(200, READ_BACK))

    assert steps.run(begin_create_collection(WANTED, if_exists=policy)).action == action
    assert steps.writes == []


@pytest.mark.parametrize("existing", [READ_BACK, {**READ_BACK, "title": "old"}])
def test_an_existing_collection_is_a_conflict_where_it_must_not_exist(existing):
    steps = Steps(answer(200, existing))

    with pytest.raises(errors.GeoCatalogConflict, match="exists already"):
        steps.run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))
    assert steps.writes == []


def test_a_second_try_finds_what_the_first_has_created():
    flow = begin_create_collection(WANTED, if_exists=IfExists.FAIL, resumed=True)
    other = begin_create_collection(WANTED, if_exists=IfExists.FAIL, resumed=True)

    assert Steps(answer(200, READ_BACK)).run(flow).action == "created"
    with pytest.raises(errors.GeoCatalogConflict):
        Steps(answer(200, {**READ_BACK, "title": "somebody else's"})).run(other)


@pytest.mark.parametrize(
    ("policy", "action"), [(IfExists.SKIP, "skipped"), (IfExists.UPDATE, "unchanged"), (IfExists.FAIL, None)]
)
def test_losing_the_race_to_create_is_meeting_an_existing_collection(policy, action):
    steps = Steps(answer(404), answer(409), answer(200, READ_BACK))

    if action is None:
        with pytest.raises(errors.GeoCatalogConflict):
            steps.run(begin_create_collection(WANTED, if_exists=policy))
    else:
        assert steps.run(begin_create_collection(WANTED, if_exists=policy)).action == action


def test_an_id_that_never_becomes_free_is_given_up_after_a_while():
    steps = Steps(lambda r: answer(409) if r.endpoint.method == "POST" else answer(404))

    with pytest.raises(errors.GeoCatalogConflict):
        steps.run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))
    assert 45 < sum(steps.pauses) < 120


def test_a_creation_that_was_not_taken_is_not_reported_as_one():
    steps = Steps(
        answer(404),
        answer(503),
        *[listed(creation("2020-01-01T00:00:01Z"), creation("2027-01-15T08:00:02Z", "AddItem"))] * 4,
    )

    with pytest.raises(errors.GeoCatalogServerError):
        steps.run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))
    assert steps.writes == ["create_collection"]


def test_a_creation_that_appears_late_is_found():
    late = listed(creation("2027-01-15T08:00:02Z"))
    steps = Steps(answer(404), CUT, listed(), listed(), late)

    change = steps.run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))

    assert change.started.operation.operation_id == "op-02"
    assert steps.requests[2].query == {"collectionId": "c"}


def test_a_refused_creation_is_not_repeated():
    steps = Steps(answer(404), answer(400))

    with pytest.raises(errors.GeoCatalogBadRequest):
        steps.run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))


@pytest.mark.parametrize(
    ("existing", "same"),
    [
        (READ_BACK, True),
        ({**WANTED, "assets": {"thumbnail": {}}}, True),
        ({**WANTED, "msft:short_description": "s"}, False),
        ({**WANTED, "title": "old"}, False),
        ({"id": "c", "extent": {"spatial": {}}}, False),
    ],
)
def test_what_the_service_adds_is_no_difference(existing, same):
    assert same_collection(WANTED, existing) is same


def test_an_extension_that_is_not_there_yet_is_a_difference():
    assert not same_collection({**WANTED, "stac_extensions": ["x", "y"]}, READ_BACK)
    assert same_collection({**WANTED, "stac_extensions": ["x"]}, {**READ_BACK, "stac_extensions": ["x", "y"]})


def test_replacing_sends_managed_assets_back_and_nothing_where_there_are_none():
    assets = {"thumbnail": {"href": "https://managed/t.png"}}
    existing = {**READ_BACK, "title": "old"}
    with_assets, without = (
        Steps(answer(200, {**existing, "assets": assets}), answer(200, existing)),
        Steps(answer(200, existing), answer(200, existing)),
    )

    assert with_assets.run(replace_collection(WANTED)).action == "updated"
    assert without.run(replace_collection(WANTED)).action == "updated"

    assert with_assets.requests[1].body == {**WANTED, "links": [], "assets": assets}
    assert "assets" not in without.requests[1].body


def test_replacing_needs_a_collection():
    with pytest.raises(errors.GeoCatalogNotFound):
        Steps(answer(404)).run(replace_collection(WANTED))


@pytest.mark.parametrize("status", [200, 204])
def test_a_deletion_may_end_at_once(status):
    change = Steps(answer(status)).run(begin_delete_collection("c"))

    assert (change.action, change.started.operation) == ("deleted", None)


def test_deleting_what_is_not_there_is_fine_unless_told_otherwise():
    assert Steps(answer(404)).run(begin_delete_collection("c")).action == "absent"
    with pytest.raises(errors.GeoCatalogNotFound):
        Steps(answer(404)).run(begin_delete_collection("c", missing_ok=False))


def test_a_new_collection_is_given_a_moment_to_be_seen():
    steps = Steps(answer(404), answer(404), answer(200, WANTED))

    assert steps.run(visible_collection("c")) == WANTED
    with pytest.raises(errors.GeoCatalogNotFound):
        Steps(lambda _: answer(404)).run(visible_collection("c"))
