"""One container, one source: found, created, rotated in place, never deleted to be made anew."""

from __future__ import annotations

import datetime

import pytest

from airflow_provider_geocatalog.api import errors
from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.flows.sources import (
    Rotate,
    delete_source,
    ensure_identity_source,
    ensure_sas_source,
    find_source,
    normal_container_url,
)
from tests.fakes.clock import FakeClock
from tests.fakes.stepping import Steps, answer, listed

NEWEST = DIALECTS["2026-04-15"]
URL = "https://acct.blob.core.windows.net/data"
DAY = 86400.0


def at(seconds):
    return datetime.datetime.fromtimestamp(FakeClock().now + seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def token(lifetime=6 * DAY):
    return f"sv=1&st={at(-60)}&se={at(lifetime)}&sr=c&sp=rl&sig=SECRET"


class Sources:
    """The sources of a GeoCatalog: a list without containers, one source for each container."""

    def __init__(self, *present):
        self.kept = {f"s{n}": entry for n, entry in enumerate(present)}
        self.identities = {"aaaa": "/x/ids/reader", "bbbb": "/x/ids/writer"}
        self.before_post = None

    def __call__(self, request):
        method, path = request.endpoint.method, request.path
        if request.endpoint.name == "list_managed_identities":
            return listed(*({"objectId": oid, "resourceId": rid} for oid, rid in self.identities.items()))
        if path.endswith("/ingestion-sources"):
            if method == "GET":
                return listed(*({"id": sid, "kind": entry["kind"]} for sid, entry in self.kept.items()))
            if self.before_post:
                failure = self.before_post(self, request)
                if failure is not None:
                    return failure
            return self._store("new", request.body, 201)
        source_id = path.rsplit("/", 1)[-1]
        if method == "GET":
            return answer(200, {"id": source_id, **self.kept[source_id]})
        if method == "DELETE":
            return answer(204 if self.kept.pop(source_id, None) else 404)
        return self._store(source_id, request.body, 200)

    def _store(self, source_id, body, status):
        info = {k: v for k, v in body["connectionInfo"].items() if k != "sasToken"}
        self.kept[source_id] = {"kind": body["kind"], "connectionInfo": info}
        return answer(status, {"id": source_id, **self.kept[source_id]})


def sas(url=URL, lives=6 * DAY):
    return {"kind": "SasToken", "connectionInfo": {"containerUrl": url, "expiration": at(lives)}}


def identity(object_id="aaaa", url=URL):
    return {"kind": "BlobManagedIdentity", "connectionInfo": {"containerUrl": url, "objectId": object_id}}


def ensure(service, **options):
    steps = Steps(service)
    options = {"sas_token": token, "min_lifetime": DAY, **options}
    return steps.run(ensure_sas_source(URL, **options)), steps


def test_a_container_without_a_source_gets_one():
    change, steps = ensure(Sources(sas("https://other/data")))

    assert (change.action, change.source_id, steps.writes) == ("created", "new", ["create_source"])
    assert steps.requests[-1].body["connectionInfo"] == {"containerUrl": URL, "sasToken": token()}
    assert "SECRET" not in str(change.to_json())


@pytest.mark.parametrize(
    ("rotate", "lives", "action"),
    [
        (Rotate.WHEN_NEEDED, 2 * DAY, "unchanged"),
        (Rotate.WHEN_NEEDED, DAY - 1, "rotated"),
        (Rotate.WHEN_NEEDED, -DAY, "rotated"),
        (Rotate.ALWAYS, 6 * DAY, "rotated"),
        (Rotate.NEVER, -DAY, "unchanged"),
    ],
)
def test_an_existing_source_is_rotated_in_place_when_it_has_to_be(rotate, lives, action):
    asked = []

    def sas_token():
        asked.append(1)
        return token()

    change, steps = ensure(Sources(sas(lives=lives)), sas_token=sas_token, rotate=rotate)

    assert (change.action, change.source_id) == (action, "s0")
    assert steps.writes == (["replace_source"] if action == "rotated" else [])
    assert len(asked) == len(steps.writes)


def test_a_source_without_expiry_lives_on():
    bound = {"kind": "SasToken", "connectionInfo": {"containerUrl": URL}}

    assert ensure(Sources(bound))[0].action == "unchanged"


@pytest.mark.parametrize("bad", [token(-60), token(DAY / 2), token().replace("sp=rl", "sp=r"), "hello", ""])
def test_a_token_that_cannot_serve_is_refused_before_anything_is_written(bad):
    steps = Steps(Sources(sas(lives=0)))

    with pytest.raises(errors.GeoCatalogInvalidInput) as caught:
        steps.run(ensure_sas_source(URL, lambda: bad, min_lifetime=DAY))
    assert steps.writes == []
    assert "SECRET" not in str(caught.value)


def somebody_was_faster(service, request):
    service.kept["theirs"] = sas()
    return answer(409, {"error": {"code": "DuplicatedEntity", "message": "already"}})


def the_answer_was_lost(service, request):
    service._store("ours", request.body, 201)
    return errors.GeoCatalogUnreachable("cut off", sent=True)


@pytest.mark.parametrize("race", [somebody_was_faster, the_answer_was_lost])
def test_a_race_ends_with_one_source(race):
    service = Sources()
    service.before_post = race

    change, steps = ensure(service)

    assert change.action == "rotated"
    assert len(service.kept) == 1
    assert steps.writes == ["create_source", "replace_source"]


def test_a_lost_race_is_a_conflict_where_no_source_may_exist():
    service = Sources()
    service.before_post = somebody_was_faster

    with pytest.raises(errors.GeoCatalogConflict):
        ensure(service, if_exists_fail=True)


def test_a_creation_that_did_not_go_through_is_an_error():
    service = Sources()
    service.before_post = lambda *_: answer(503)

    with pytest.raises(errors.GeoCatalogServerError):
        ensure(service)


def test_a_source_of_the_other_kind_is_refused_and_left_alone():
    service = Sources(identity())

    with pytest.raises(errors.GeoCatalogConflict, match="already has a BlobManagedIdentity source with id s0"):
        ensure(service)
    with pytest.raises(errors.GeoCatalogConflict, match="SasToken"):
        Steps(Sources(sas())).run(ensure_identity_source(URL, object_id="aaaa"))
    assert service.kept == {"s0": identity()}


def test_a_source_that_vanishes_between_two_reads_is_passed_over():
    steps = Steps(
        listed({"id": "a", "kind": "SasToken"}, {"id": "b", "kind": "SasToken"}),
        answer(404),
        answer(200, {"id": "b", **sas()}),
    )

    assert steps.run(find_source(URL)).source_id == "b"


@pytest.mark.parametrize(
    "spelling",
    [
        URL + "/",
        URL.upper().replace("/DATA", "/data"),
        URL.replace(".net/", ".net:443/"),
        URL.replace("data", "d%61ta"),
    ],
)
def test_a_container_is_recognised_however_it_is_spelled(spelling):
    assert normal_container_url(spelling) == normal_container_url(URL)
    assert Steps(Sources(sas(spelling))).run(find_source(URL)).source_id == "s0"


@pytest.mark.parametrize("other", ["https://acct.blob.core.windows.net/Data", URL + "2", URL.replace("https", "http")])
def test_another_container_is_not_taken_for_it(other):
    assert Steps(Sources(sas(other))).run(find_source(URL)) is None


def choose(service, object_id):
    steps = Steps(service)
    return steps.run(ensure_identity_source(URL, object_id=object_id)), steps


def test_an_identity_is_chosen_by_id_whatever_its_case():
    change, steps = choose(Sources(), "BBBB")

    assert (change.action, steps.requests[-1].body["connectionInfo"]["objectId"]) == ("created", "bbbb")


@pytest.mark.parametrize("object_id", [None, "cccc"])
def test_a_choice_that_is_not_clear_lists_the_identities(object_id):
    with pytest.raises(errors.GeoCatalogInvalidInput, match=r"aaaa \(reader\), bbbb \(writer\)"):
        choose(Sources(), object_id)


def test_the_only_identity_needs_no_name():
    one, none = Sources(), Sources()
    one.identities, none.identities = {"aaaa": "/x/ids/reader"}, {}

    assert choose(one, None)[0].action == "created"
    with pytest.raises(errors.GeoCatalogInvalidInput, match="none"):
        choose(none, None)


def test_an_identity_source_is_kept_or_changed_in_place():
    assert choose(Sources(identity()), "AAAA")[0].action == "unchanged"
    assert choose(Sources(identity()), None)[0].action == "unchanged"

    change, steps = choose(Sources(identity()), "bbbb")

    assert (change.action, steps.writes) == ("replaced", ["replace_source"])


def test_a_source_is_deleted_by_id_or_by_container():
    by_id, by_container = Sources(sas()), Sources(sas())

    assert Steps(by_id).run(delete_source(source_id="s0")).action == "deleted"
    assert Steps(by_container).run(delete_source(container_url=URL)).action == "deleted"
    assert by_id.kept == by_container.kept == {}


@pytest.mark.parametrize("which", [{"source_id": "s9"}, {"container_url": URL}])
def test_deleting_a_source_that_is_not_there(which):
    assert Steps(Sources()).run(delete_source(**which)).action == "absent"
    with pytest.raises(errors.GeoCatalogNotFound):
        Steps(Sources()).run(delete_source(**which, missing_ok=False))
    with pytest.raises(errors.GeoCatalogInvalidInput):
        Steps(Sources()).run(delete_source())
