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
    rotate_sources,
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
        self.active = {}
        self.before_post = None

    def __call__(self, request):
        method, path = request.endpoint.method, request.path
        if request.endpoint.name == "list_managed_identities":
            return listed(*({"objectId": oid, "resourceId": rid} for oid, rid in self.identities.items()))
        if request.endpoint.name == "list_operations":
            return listed(*self.active.get(request.query["status"], ()))
        if request.endpoint.name == "list_ingestions":
            return listed({"id": "i", "importType": "StaticCatalog", "sourceCatalogUrl": f"{URL}/catalog.json"})
        if path.endswith("/ingestion-sources"):
            if method == "GET":
                return listed(*({"id": sid, "kind": entry["kind"]} for sid, entry in self.kept.items()))
            if self.before_post:
                failure = self.before_post(self, request)
                if failure is not None:
                    return failure
            return self._store("new", request.body, 201)
        source_id = path.rsplit("/", 1)[-1]
        if source_id not in self.kept:
            return answer(404)
        if method == "GET":
            return answer(200, {"id": source_id, **self.kept[source_id]})
        if method == "DELETE":
            del self.kept[source_id]
            return answer(204)
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


def somebody_was_faster(service, request, lives=6 * DAY, named=True):
    service.kept["theirs"] = sas(lives=lives)
    told = f"Container url '{URL}' already contains a SAS token ingestion source with id 'theirs'"
    return answer(409, {"error": {"code": "DuplicatedEntity", "message": told if named else "already"}})


def somebody_was_faster_with_a_short_token(service, request):
    return somebody_was_faster(service, request, lives=60)


def somebody_was_faster_and_nobody_says_who(service, request):
    return somebody_was_faster(service, request, named=False)


def the_answer_was_lost(service, request):
    service._store("ours", request.body, 201)
    return errors.GeoCatalogUnreachable("cut off", sent=True)


@pytest.mark.parametrize(
    ("race", "action", "writes", "reads"),
    [
        (somebody_was_faster, "unchanged", [], ["get_source"]),
        (somebody_was_faster_and_nobody_says_who, "unchanged", [], ["list_sources", "get_source"]),
        (somebody_was_faster_with_a_short_token, "rotated", ["replace_source"], ["get_source"]),
        (the_answer_was_lost, "rotated", ["replace_source"], ["list_sources", "get_source"]),
    ],
)
def test_a_race_ends_with_one_source(race, action, writes, reads):
    service = Sources()
    service.before_post = race

    change, steps = ensure(service)

    assert change.action == action
    assert len(service.kept) == 1
    assert steps.sent == ["list_sources", "create_source", *reads, *writes]


def test_sources_of_the_other_kind_are_read_last():
    change, steps = ensure(Sources(identity(url="https://other/a"), identity(url="https://other/b"), sas()))

    assert (change.action, steps.sent) == ("unchanged", ["list_sources", "get_source"])


@pytest.mark.parametrize(("present", "action"), [([], "created"), ([sas(lives=0)], "rotated"), ([sas()], "unchanged")])
def test_a_dry_run_tells_what_would_be_done_without_a_token(present, action):
    service = Sources(*present)

    change, steps = ensure(service, dry_run=True, sas_token=lambda: pytest.fail("no token is needed"))

    assert (change.action, steps.writes) == (action, [])


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
    planning = Steps(Sources(identity()))
    plan = planning.run(ensure_identity_source(URL, object_id="bbbb", dry_run=True))
    assert (plan.action, plan.source_id, planning.writes) == ("replaced", "s0", [])


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


@pytest.mark.parametrize("word", ["Pending", "Running", "Canceling"])
@pytest.mark.parametrize("kind", ["IngestionStaticCatalog", "AddItem", "UpdateItem", "SomethingNew"])
def test_a_source_is_not_deleted_while_something_may_read_through_it(word, kind):
    service = Sources(sas())
    service.active = {word: [{"id": "o1", "status": word, "type": kind, "collectionId": "c"}]}

    with pytest.raises(errors.GeoCatalogConflict, match=rf"{kind} o1 \({word}\)") as refused:
        Steps(service).run(delete_source(source_id="s0"))

    assert refused.value.retryable
    assert (f"{URL}/catalog.json" in str(refused.value)) is kind.startswith("Ingestion")
    assert service.kept
    assert Steps(service).run(delete_source(source_id="s0", force=True)).action == "deleted"


@pytest.mark.parametrize("kind", ["AddCollection", "DeleteCollection", "DeleteItem", "DeleteIngestion"])
def test_what_reads_no_container_does_not_keep_a_source(kind):
    service = Sources(sas())
    service.active = {"Running": [{"id": "o1", "status": "Running", "type": kind}]}

    assert Steps(service).run(delete_source(container_url=URL)).action == "deleted"


def test_a_dry_run_deletes_nothing():
    service = Sources(sas())
    steps = Steps(service)

    assert (steps.run(delete_source(container_url=URL, dry_run=True)).action, steps.writes) == ("deleted", [])


def rotate(service, sas_token=None, **options):
    steps = Steps(service)
    changes = steps.run(rotate_sources(sas_token or (lambda url, now: token()), expires_within=DAY, **options))
    return {change.source_id: change for change in changes}, steps


def test_those_that_expire_soon_are_renewed_and_no_others():
    bound = {"kind": "SasToken", "connectionInfo": {"containerUrl": "https://a/bound"}}
    service = Sources(sas("https://a/soon", DAY - 1), sas("https://a/later", DAY + 1), identity(), bound)

    changes, steps = rotate(service)

    assert {name: change.action for name, change in changes.items()} == {
        "s0": "rotated",
        "s1": "unchanged",
        "s3": "unchanged",
    }
    assert (steps.writes, steps.requests[2].names) == (["replace_source"], {"source_id": "s0"})
    assert changes["s0"].container_url == "https://a/soon"


def test_each_container_gets_a_token_of_its_own():
    asked = []

    def make(url, now):
        asked.append((url, now))
        return token()

    rotate(Sources(sas("https://a/x", 0), sas("https://b/y", 0)), make)

    assert asked == [("https://a/x", FakeClock().now), ("https://b/y", FakeClock().now)]


def test_only_those_that_are_meant_are_looked_at():
    changes, _ = rotate(Sources(sas("https://a/x", 0), sas("https://b/y", 0)), is_meant=lambda url: "//b/" in url)

    assert list(changes) == ["s1"]


def test_one_that_fails_does_not_stop_the_others():
    def make(url, now):
        if "dead" in url:
            raise errors.GeoCatalogAuthenticationError("no key sig=SECRET", retryable=True)
        return token(60) if "stale" in url else token().replace("sp=rl", "sp=r") if "weak" in url else token()

    service = Sources(*(sas(f"https://a/{name}", 120) for name in ("dead", "stale", "weak", "fine")))

    changes, steps = rotate(service, make)

    assert [change.action for change in changes.values()] == ["failed", "failed", "failed", "rotated"]
    told = " ".join(change.to_json()["error"] for change in changes.values() if change.error)
    for reason in ("no key", "no later than the one that source s1 has", "permission list"):
        assert reason in told
    assert "SECRET" not in told
    assert steps.writes == ["replace_source"]


def test_a_short_gain_is_better_than_a_lapse():
    changes, _ = rotate(Sources(sas(lives=60)), lambda url, now: token(3600))

    assert changes["s0"].action == "rotated"


def test_a_dry_run_of_a_rotation_writes_nothing():
    changes, steps = rotate(Sources(sas(lives=0)), lambda url, now: pytest.fail("no token"), dry_run=True)

    assert (changes["s0"].action, steps.writes) == ("rotated", [])


def test_a_source_that_vanishes_during_a_rotation_is_passed_over():
    steps = Steps(listed({"id": "a", "kind": "SasToken"}), answer(404))

    assert steps.run(rotate_sources(lambda url, now: token(), expires_within=DAY)) == []
