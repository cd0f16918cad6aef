"""Waiting for what the service has done and does not show yet."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import Started
from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout
from airflow_provider_geocatalog.api.flows.waiting import complete
from airflow_provider_geocatalog.api.http import Request
from tests.fakes.stepping import Steps, answer

COLLECTION = Request(endpoints.GET_COLLECTION, {"collection_id": "demo"})
MISSING, THERE = answer(404), answer(200, {"id": "demo"})


@pytest.mark.parametrize(("removes", "seen", "patience"), [(False, MISSING, 30), (True, THERE, 180)])
@pytest.mark.parametrize("timeout", [None, 7, 1000])
def test_a_resource_that_stays_as_it_was_is_waited_for_within_the_time_out(removes, seen, patience, timeout):
    steps = Steps(lambda request: seen)
    started = Started(None, resource=COLLECTION, removes=removes)
    begun = steps.clock.now

    with pytest.raises(GeoCatalogWaitTimeout, match="/collections/demo"):
        steps.run(complete(started, timeout=timeout))

    assert steps.clock.now - begun == pytest.approx(min(patience, timeout or patience))


@pytest.mark.parametrize(("removes", "lagging", "settled"), [(False, MISSING, THERE), (True, THERE, MISSING)])
def test_a_resource_that_is_seen_late_is_returned(removes, lagging, settled):
    steps = Steps(lagging, lagging, settled)

    finished = steps.run(complete(Started(None, resource=COLLECTION, removes=removes), timeout=10))

    assert finished.resource == (None if removes else {"id": "demo"})


def test_a_resource_is_looked_for_once_although_the_time_is_over():
    steps = Steps(THERE)

    assert steps.run(complete(Started(None, resource=COLLECTION), timeout=0)).resource == {"id": "demo"}
