"""Answers that are not what they should be."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.api.configuration_models import CollectionConfiguration, Mosaic, RenderOption
from airflow_provider_geocatalog.api.errors import GeoCatalogProtocolError


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (Mosaic, {"id": "x", "cql": 5}),
        (Mosaic, {"id": "x", "cql": {"op": "=", "args": []}}),
        (RenderOption, {"id": "x", "conditions": 5}),
        (CollectionConfiguration, {"mosaicInfo": 5}),
        (CollectionConfiguration, {"mosaicInfo": {"mosaics": 5}}),
        (CollectionConfiguration, {"mosaicInfo": {"renderOptions": {"id": "x"}}}),
        (CollectionConfiguration, {"mosaicInfo": {"mosaics": ["x"]}}),
    ],
)
def test_a_configuration_of_another_form_is_an_error_of_the_protocol(model, answer):
    with pytest.raises(GeoCatalogProtocolError):
        model.from_json(answer)


def test_lists_of_a_configuration_may_be_null_or_absent():
    assert Mosaic.from_json({"id": "x", "cql": None}).cql == ()
    assert RenderOption.from_json({"id": "x"}).conditions == ()
    assert CollectionConfiguration.from_json({"mosaicInfo": {"mosaics": None}}).mosaics == ()
