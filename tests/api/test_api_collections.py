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
    try_create_collection,
    visible_collection,
)
from airflow_provider_geocatalog.api.flows.dry_run import planned
from tests.fakes.stepping import Steps, answer, listed

CUT = errors.GeoCatalogUnreachable("cut off", sent=True)
WANTED = {"id": "c", "title": "new", "extent": {"spatial": {}}}
READ_BACK = {**WANTED, "links": [{"rel": "self"}], "msft:_created": "2026", "keywords": None, "stac_extensions": ["x"]}


def creation(created_at, kind="AddCollection"):
    return {"id": f"op-{created_at[-3:-1]}", "status": "Running", "type": kind, "creationTime": created_at}


def deletion(status, ended="2027-01-15T08:00:00Z"):
    history = [{"status": status, "timestamp": ended}]
    return {
        "id": "del",
        "status": status,
        "type": "DeleteCollection",
        "creationTime": ended,
        "statusHistory": history,
    }


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
    steps = Steps(answer(200, READ_BACK), listed())

    assert steps.run(begin_create_collection(WANTED, if_exists=policy)).action == action
    assert steps.writes == []


@pytest.mark.parametrize("existing", [READ_BACK, {**READ_BACK, "title": "old"}])
def test_an_existing_collection_is_a_conflict_where_it_must_not_exist(existing):
    steps = Steps(answer(200, existing), listed(deletion("Succeeded")))

    with pytest.raises(errors.GeoCatalogConflict, match="exists already"):
        steps.run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))
    assert steps.writes == []


def test_a_second_try_finds_what_the_first_has_created():
    flow = begin_create_collection(WANTED, if_exists=IfExists.FAIL, resumed=True)
    other = begin_create_collection(WANTED, if_exists=IfExists.FAIL, resumed=True)

    assert Steps(answer(200, READ_BACK), listed()).run(flow).action == "created"
    with pytest.raises(errors.GeoCatalogConflict):
        Steps(answer(200, {**READ_BACK, "title": "somebody else's"}), listed()).run(other)


@pytest.mark.parametrize(
    ("policy", "action"), [(IfExists.SKIP, "skipped"), (IfExists.UPDATE, "unchanged"), (IfExists.FAIL, None)]
)
def test_losing_the_race_to_create_is_meeting_an_existing_collection(policy, action):
    steps = Steps(answer(404), answer(409), answer(200, READ_BACK), listed())

    if action is None:
        with pytest.raises(errors.GeoCatalogConflict):
            steps.run(begin_create_collection(WANTED, if_exists=policy))
    else:
        assert steps.run(begin_create_collection(WANTED, if_exists=policy)).action == action


def refusing(*operations):
    """Answer as long as the id is taken by a collection that is not there."""

    def rule(request):
        if request.endpoint.name == "list_operations":
            return listed(*operations)
        return answer(409) if request.endpoint.method == "POST" else answer(404)

    return rule


def test_an_id_that_never_becomes_free_is_given_up_after_a_while():
    steps = Steps(refusing())

    with pytest.raises(errors.GeoCatalogConflict):
        steps.run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))
    assert 45 < sum(steps.pauses) < 120


@pytest.mark.parametrize(
    ("ended", "wait"),
    [
        ("08:00:00", 46),
        ("07:59:30", 16),
        ("07:58:00", 5),  # it should be free; or the service's clock is behind ours
        ("08:05:00", 46),  # or ahead
    ],
)
def test_a_taken_id_is_waited_for_as_long_as_its_deletion_tells(ended, wait):
    steps = Steps(
        refusing(deletion("Succeeded", f"2027-01-15T{ended}Z"), deletion("Succeeded", "2027-01-15T07:00:00Z"))
    )

    taken = steps.run(try_create_collection(WANTED, if_exists=IfExists.FAIL))

    assert (taken.again_at - steps.clock.now, steps.pauses) == (pytest.approx(wait), [])


def test_a_collection_that_is_being_deleted_is_waited_for_and_then_created_anew():
    dying, gone = [answer(200, READ_BACK), listed(deletion("Running"))], listed(deletion("Succeeded"))
    steps = Steps(*dying, *dying, answer(404), answer(409), answer(404), gone, answer(201, WANTED))

    change = steps.run(begin_create_collection(WANTED, if_exists=IfExists.SKIP))

    assert (change.action, steps.pauses) == ("created", [5.0, 5.0, pytest.approx(36.0)])
    assert steps.writes == ["create_collection"] * 2


def test_a_deletion_that_does_not_end_is_waited_for_until_the_deadline():
    def dying(request):
        return listed(deletion("Running")) if request.endpoint.name == "list_operations" else answer(200, READ_BACK)

    steps = Steps(dying)
    deadline = steps.clock.now + 60

    with pytest.raises(errors.GeoCatalogWaitTimeout, match="did not become free in time"):
        steps.run(begin_create_collection(WANTED, if_exists=IfExists.UPDATE, deadline=deadline))
    assert steps.clock.now <= deadline
    assert steps.writes == []


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
    assert steps.requests[2].query == {"collectionId": "c", "$top": "100"}


def test_the_creation_of_a_collection_that_was_deleted_since_is_not_taken_for_a_new_one():
    before = listed(deletion("Succeeded", "2027-01-15T07:59:59Z"), creation("2027-01-15T07:59:30Z"))
    steps = Steps(answer(404), CUT, *[before] * 4)

    with pytest.raises(errors.GeoCatalogUnreachable):
        steps.run(begin_create_collection(WANTED, if_exists=IfExists.FAIL))


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
    steps = Steps(answer(status), listed(deletion("Succeeded", "2027-01-15T07:00:00Z")))

    change = steps.run(begin_delete_collection("c"))

    assert (change.action, change.started.operation) == ("deleted", None)


@pytest.mark.parametrize(
    ("status", "when"), [("Running", "07:00:00"), ("Succeeded", "08:00:01"), ("Failed", "08:00:01")]
)
def test_a_deletion_whose_answer_was_lost_is_found_by_its_operation(status, when):
    steps = Steps(CUT, answer(404), listed(deletion(status, f"2027-01-15T{when}Z")))

    change = steps.run(begin_delete_collection("c"))

    assert (change.action, change.started.operation.operation_id, change.own) == ("deleted", "del", True)


def test_what_somebody_else_is_deleting_is_waited_for_but_not_owned():
    steps = Steps(answer(404), listed(deletion("Pending")))

    change = steps.run(begin_delete_collection("c", missing_ok=False))

    assert (change.action, change.started.operation.operation_id, change.own) == ("deleted", "del", False)


def test_deleting_what_is_not_there_is_fine_unless_told_otherwise():
    before = listed(deletion("Succeeded"))

    assert Steps(answer(404), before).run(begin_delete_collection("c")).action == "absent"
    with pytest.raises(errors.GeoCatalogNotFound):
        Steps(answer(404), before).run(begin_delete_collection("c", missing_ok=False))


@pytest.mark.parametrize(
    ("pages", "most", "told"),
    [
        ([0], 0, None),
        ([3], 0, "holds 3 items"),
        ([3], 2, "holds 3 items"),
        ([3], 3, None),
        ([1000], 0, "holds at least 1000 items"),
        ([10_000, 5], 10_003, "holds 10005 items"),
        ([10_000, 5], 10_005, None),
    ],
)
def test_more_items_than_were_confirmed_are_counted_and_refused(pages, most, told):
    found = []
    for number, count in enumerate(pages):
        features = [{"id": f"{number}-{item}"} for item in range(count)]
        links = [{"rel": "next", "href": f"https://g/search?token={number}"}] if number + 1 < len(pages) else []
        found.append(answer(200, {"features": features, "links": links}))

    flow = begin_delete_collection("c", most_items=most)
    if told:
        steps = Steps(*found)
        with pytest.raises(errors.GeoCatalogConflict, match=told):
            steps.run(flow)
        assert steps.writes == []
    else:
        assert Steps(*found, answer(204), listed()).run(flow).action == "deleted"


def test_what_would_be_written_is_what_is_left_out():
    steps = Steps(answer(200, {**READ_BACK, "title": "old"}), listed())

    change, writes = steps.run(planned(begin_create_collection(WANTED, if_exists=IfExists.UPDATE)))

    assert (change.action, change.changed) == ("updated", ("title",))
    assert [str(write) for write in writes] == ["PUT /collections/c"]
    assert steps.writes == []


def test_a_plan_meets_the_errors_that_the_real_thing_would():
    with pytest.raises(errors.GeoCatalogNotFound):
        Steps(answer(404)).run(planned(replace_collection(WANTED)))
    with pytest.raises(errors.GeoCatalogConflict):
        Steps(answer(200, READ_BACK), listed()).run(planned(begin_create_collection(WANTED, if_exists=IfExists.FAIL)))


def test_a_new_collection_is_given_a_moment_to_be_seen():
    steps = Steps(answer(404), answer(404), answer(200, WANTED))

    assert steps.run(visible_collection("c")) == WANTED
    with pytest.raises(errors.GeoCatalogNotFound):
        Steps(lambda _: answer(404)).run(visible_collection("c"))
