"""What is made of items before they are sent."""

from __future__ import annotations

import copy
import functools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.transfer.fingerprint import fingerprint
from airflow_provider_geocatalog.transfer.transforms import (
    DEFAULT_TRANSFORMS,
    SOURCE_ID,
    SOURCE_KEY,
    SOURCE_URL,
    Pipeline,
    TransformError,
    add_provenance,
    carries_signature,
    choose_assets,
    drop_assets,
    drop_properties,
    drop_service_fields,
    keep_properties,
    make_hrefs_absolute,
    note_source_url,
    remove_signatures,
    rename_assets,
    sanitise_ids,
    set_collection,
    sign_hrefs,
    strip_links,
)
from tests.fakes.items import stac_item
from tests.fakes.real_items import damaged, full_item, json_values, real_items

EVERYTHING = [
    make_hrefs_absolute(base="https://example.org/folder/"),
    note_source_url(),
    *DEFAULT_TRANSFORMS,
    sanitise_ids({":": "_", "/": "-", "_": "__"}, asset_keys=True),
    rename_assets({"B04": "red"}),
    drop_assets(roles=["thumbnail"], pattern="^visual", media_types=["application/json"]),
    drop_properties(pattern="^eo:"),
    keep_properties(["gsd", "platform"], pattern="^proj:"),
]
SECRET = "aVerySecretSignature%3D"


def made(item, *transforms):
    return Pipeline("demo", list(transforms)).content(item)


# --- the pipeline as a whole ------------------------------------------------------------------------------------------


def test_by_default_an_item_keeps_its_files_and_loses_what_belongs_to_its_catalog():
    item = Pipeline("demo").content(full_item())

    assert item["collection"] == "demo"
    assert item["assets"].keys() == {"B04", "metadata", "thumbnail"}
    assert item["assets"]["B04"]["href"] == "https://example.com/data/B04.tif"
    assert item["assets"]["B04"]["alternate"]["s3"]["href"] == "https://bucket.s3.amazonaws.com/B04.tif"
    assert item["assets"]["metadata"]["href"] == "https://example.com/stac/collections/elsewhere/items/metadata.xml"
    assert item["links"] == [
        {"rel": "license", "href": "https://example.com/stac/collections/elsewhere/items/license.txt"},
        {"rel": "derived_from", "href": "https://example.com/l1c"},
    ]
    assert not [name for name in item if "msft" in name]
    assert item["properties"] == full_item()["properties"]


@pytest.mark.skipif(not real_items(), reason="the sample datasets are not there")
def test_real_items_are_made_once_and_stay_what_they_were():
    before = json.dumps(real_items())
    pipeline = Pipeline("demo")

    for item in real_items():
        once = pipeline.content(item)
        assert pipeline.content(once) == once
        assert not {"tilejson", "rendered_preview", "preview"} & once["assets"].keys()
        assert once["assets"].items() <= item["assets"].items()

    assert json.dumps(real_items()) == before


@given(damaged([full_item(), *real_items()[:3]]), st.sampled_from([list(DEFAULT_TRANSFORMS), EVERYTHING]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_an_item_is_like_a_second_pass_changes_nothing(item, transforms):
    before = copy.deepcopy(item)
    pipeline = Pipeline("demo", transforms)

    try:
        once = pipeline.content(item)
    except TransformError:  # two assets of one key
        once = item if transforms is EVERYTHING else None
    else:
        assert repr(pipeline.content(once)) == repr(once)

    assert once is not None
    assert repr(item) == repr(before)


@given(json_values())
@settings(max_examples=60, deadline=None)
def test_an_href_of_any_kind_breaks_nothing(value):
    item = {**stac_item("x"), "assets": {"a": {"href": value}, "b": value}, "links": [value, {"rel": value}]}

    once = Pipeline("demo").content(item)

    assert "a" in once["assets"]


def test_an_item_that_a_transform_leaves_out_is_none_and_later_ones_do_not_see_it():
    seen = []

    def only_clear(item):
        return item if item["properties"].get("eo:cloud_cover", 0) < 10 else None

    pipeline = Pipeline("demo", [only_clear, lambda item: seen.append(item["id"]) or item])

    assert pipeline.content(full_item()) is None
    assert pipeline.content(stac_item("clear"))["id"] == "clear"
    assert seen == ["clear"]


def test_a_callable_that_changes_its_argument_changes_nothing_but_its_result():
    def scribble(item):
        item["properties"]["changed"] = True
        item["assets"].clear()
        return item

    item = full_item()

    assert made(item, scribble)["properties"]["changed"] is True
    assert item == full_item()


@pytest.mark.parametrize("rubbish", [[], "item", 5, True, object()])
def test_a_callable_that_returns_rubbish_is_named(rubbish):
    def wrong(item):
        return rubbish

    with pytest.raises(TransformError, match=rf"wrong: it returned {type(rubbish).__name__}, neither an item nor"):
        made(stac_item("x"), wrong)


def test_a_callable_that_hands_out_a_coroutine_is_named_and_the_coroutine_is_closed():
    async def later(item):
        return item

    with pytest.raises(TransformError, match="it returned coroutine"):
        made(stac_item("x"), lambda item: later(item))


def test_an_error_names_the_transform_and_tells_no_secret():
    def broken(item):
        raise KeyError(f"https://account.blob.core.windows.net/c/b.tif?sp=r&sig={SECRET}")

    with pytest.raises(TransformError, match=r"broken raised KeyError: .*sig=\*\*\*") as caught:
        made(stac_item("x"), broken)

    assert caught.value.transform.endswith("broken")
    assert caught.value.__cause__ is None
    assert SECRET not in f"{caught.value}{caught.value!r}"


async def asynchronous(item):
    return item


class AsynchronousCall:
    async def __call__(self, item):
        return item


@pytest.mark.parametrize(
    ("transforms", "complaint"),
    [
        ("drop_assets", "they are a list, not str"),
        (["drop_assets"], "'drop_assets' is no transform"),
        ([None], "None is no transform"),
        ([strip_links], "strip_links is a class; call it: strip_links()"),
        ([asynchronous], "asynchronous is asynchronous"),
        ([functools.partial(asynchronous)], "asynchronous is asynchronous"),
        ([AsynchronousCall()], "AsynchronousCall is asynchronous"),
        ([drop_assets("tilejson")], "drop_assets: keys is a list of texts"),
        ([drop_assets(pattern="(")], "drop_assets: pattern is no regular expression"),
        ([choose_assets()], "choose_assets: it says no asset"),
        ([drop_properties()], "drop_properties: give names or a pattern"),
        ([strip_links(keep_rels="license")], "keep_rels is a list of texts"),
        ([make_hrefs_absolute(base="folder/")], "base is no URL: 'folder/'"),
        ([sanitise_ids()], "give either replace or rule"),
        ([sanitise_ids({":": 1})], "replace is an object of texts"),
        ([sanitise_ids(rule="_")], "rule is no function"),
        ([rename_assets({"a": "b", "b": "a"})], "'b' is both a new key and one that is replaced"),
        ([sign_hrefs("secret")], "signer is no function"),
        ([add_provenance()], "it says no property"),
        ([add_provenance(datetime="now")], "'datetime' is not for it to set"),
        ([set_collection("a b")], "collection id 'a b' may only"),
    ],
)
def test_what_is_no_transform_is_refused_before_there_are_items(transforms, complaint):
    with pytest.raises(GeoCatalogInvalidInput) as caught:
        Pipeline("demo", transforms)

    assert complaint in str(caught.value)


def test_arguments_are_shown_without_secrets_and_functions_by_name():
    def my_signer(href):
        return href

    shown = repr(
        [
            drop_assets(roles=["overview"]),
            sign_hrefs(functools.partial(my_signer, token=SECRET)),
            make_hrefs_absolute(base=f"https://example.com/?sig={SECRET}"),
            add_provenance(run_id="{{ run_id }}", client_secret=SECRET),
        ]
    )

    assert "drop_assets(roles=['overview'])" in shown
    assert "my_signer" in shown
    assert "run_id" in shown
    assert SECRET not in shown


# --- single transforms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "left"),
    [
        (drop_assets(), {"B04", "metadata", "thumbnail"}),
        (drop_assets(["B04"]), {"metadata", "thumbnail", "tilejson"}),
        (drop_assets(roles=["thumbnail", "tiles"]), {"B04", "metadata"}),
        (drop_assets(pattern=r"^B\d+$"), {"metadata", "thumbnail", "tilejson"}),
        (drop_assets(media_types=["image/tiff"]), {"metadata", "thumbnail", "tilejson"}),
        (choose_assets(["B04", "missing"]), {"B04"}),
        (choose_assets(roles=["data"], pattern="^meta"), {"B04", "metadata"}),
        (choose_assets(media_types=["image/jpeg", "image/tiff"]), {"B04", "thumbnail"}),
        (rename_assets({"B04": "red", "nir": "x"}), {"red", "metadata", "thumbnail", "tilejson"}),
    ],
)
def test_assets_are_told_by_key_role_pattern_and_type(transform, left):
    assert set(transform(full_item())["assets"]) == left


def test_renaming_an_asset_never_loses_another():
    with pytest.raises(TransformError, match="two assets would have the key 'thumbnail'"):
        made(full_item(), rename_assets({"B04": "thumbnail"}))


@pytest.mark.parametrize(
    ("href", "left"),
    [
        (
            "https://a.blob.core.windows.net/c/b.tif?sv=1&st=2&se=3&sr=c&sp=rl&sig=x%3D",
            "https://a.blob.core.windows.net/c/b.tif",
        ),
        ("https://a/b?item=1&SE=3&SIG=x&page=2#part", "https://a/b?item=1&page=2#part"),
        ("https://a/b?se=south-east&sp=species", "https://a/b?se=south-east&sp=species"),
        ("https://a/b?X-Amz-Algorithm=A&X-Amz-Credential=C&X-Amz-Signature=S&x=1", "https://a/b?x=1"),
        ("https://a/b?AWSAccessKeyId=A&Signature=S&Expires=1", "https://a/b"),
        ("https://a/b?expires=1", "https://a/b?expires=1"),
        ("https://a/b?X-Goog-Algorithm=A&X-Goog-Signature=S", "https://a/b"),
        ("https://a/b?subscription-key=S&access_token=T&q=1", "https://a/b?q=1"),
        (
            "https://a/tile?url=https%3A%2F%2Fb%2Fx.tif%3Fse%3D1%26sig%3DS&z=1",
            "https://a/tile?url=https%3A%2F%2Fb%2Fx.tif&z=1",
        ),
        (
            "https://a/tile?url=https%3A%2F%2Fb%2Fx.tif%3Fv%3D1&z=1",
            "https://a/tile?url=https%3A%2F%2Fb%2Fx.tif%3Fv%3D1&z=1",
        ),
        ("https://a/b.tif", "https://a/b.tif"),
        ("https://a/b?", "https://a/b?"),
    ],
)
def test_signatures_leave_hrefs_and_nothing_else_does(href, left):
    item = {**stac_item("x"), "assets": {"a": {"href": href}}, "links": [{"rel": "via", "href": href}]}

    clean = remove_signatures()(item)

    assert clean["assets"]["a"]["href"] == clean["links"][0]["href"] == left
    assert carries_signature(href) is (href != left)
    assert not carries_signature(left)


def test_further_secret_parameters_can_be_named():
    item = {**stac_item("x"), "assets": {"a": {"href": "https://a/b?Key=1&x=2"}}}

    assert remove_signatures(["key"])(item)["assets"]["a"]["href"] == "https://a/b?x=2"


@pytest.mark.parametrize(
    ("base", "own", "href", "absolute"),
    [
        (None, "https://a/b/item.json", "./c.tif", "https://a/b/c.tif"),
        (None, "https://a/b/item.json", "../c.tif", "https://a/c.tif"),
        (None, "https://a/b/item.json", "/c.tif", "https://a/c.tif"),
        (None, "https://a/b/item.json", "//h/c.tif", "https://h/c.tif"),
        (None, "https://a/b/item.json", "s3://bucket/c.tif", "s3://bucket/c.tif"),
        ("https://x/y/", "https://a/b/item.json", "c.tif", "https://x/y/c.tif"),
        (None, "./item.json", "c.tif", "c.tif"),
        (None, None, "c.tif", "c.tif"),
        (None, "https://a/b/item.json", "http://[", "http://["),
        (None, "https://a/b/item.json", "", ""),
    ],
)
def test_hrefs_become_absolute_where_something_says_how(base, own, href, absolute):
    links = [{"rel": "self", "href": own}] if own else []
    item = {**stac_item("x"), "assets": {"a": {"href": href}}, "links": links}

    assert make_hrefs_absolute(base)(item)["assets"]["a"]["href"] == absolute


def test_ids_are_changed_by_the_given_rule_and_the_old_ones_are_kept():
    item = {**stac_item("S1A:2024/01"), "assets": {"vv:db": {"href": "https://a/b"}}}
    by_rule = sanitise_ids(rule=str.lower)

    replaced = sanitise_ids({":": "_", "/": "-"}, asset_keys=True)(item)

    assert (replaced["id"], replaced["properties"][SOURCE_ID]) == ("S1A_2024-01", "S1A:2024/01")
    assert replaced["assets"] == {"vv_db": {"href": "https://a/b", SOURCE_KEY: "vv:db"}}
    assert sanitise_ids({":": "_"})(item)["assets"] == item["assets"]
    assert (by_rule(item)["id"], by_rule(by_rule(item))["properties"][SOURCE_ID]) == ("s1a:2024/01", "S1A:2024/01")
    assert SOURCE_ID not in sanitise_ids({"!": "_"})(item)["properties"]


def test_two_keys_that_become_one_set_the_item_aside():
    item = {**stac_item("x"), "assets": {"a:b": {"href": "https://a/1"}, "a_b": {"href": "https://a/2"}}}

    with pytest.raises(TransformError, match="two assets would have the key 'a_b'"):
        made(item, sanitise_ids({":": "_"}, asset_keys=True))


def test_a_rule_that_makes_no_text_is_named():
    with pytest.raises(TransformError, match="the rule makes NoneType of 'x', no text"):
        made(stac_item("x"), sanitise_ids(rule=lambda name: None))


def test_properties_go_by_name_and_the_time_stays():
    properties = full_item()["properties"]

    assert "gsd" not in drop_properties(["gsd", "datetime"])(full_item())["properties"]
    assert drop_properties(["gsd", "datetime"])(full_item())["properties"]["datetime"] == properties["datetime"]
    kept = keep_properties(["gsd"], pattern="^proj:")(full_item())["properties"]
    assert kept.keys() == {"datetime", "gsd", "proj:epsg"}


def test_what_a_geocatalog_added_goes_and_other_members_stay():
    item = {**stac_item("x"), "_msft:ts": "t", "msft:_created": "t", "msft:datacube_converted": True}
    item["properties"] = {**item["properties"], "msft:_updated": "t", "msft:short_description": "d", "s2:x": 1}

    left = drop_service_fields()(item)

    assert left.keys() - stac_item("x").keys() == {"msft:datacube_converted"}
    assert left["properties"].keys() == {"datetime", "s2:x"}


def test_the_url_at_the_source_is_noted_without_its_signature():
    item = {**stac_item("x"), "links": [{"rel": "self", "href": f"https://a/items/x?sig={SECRET}"}]}

    noted = made(item, note_source_url(), strip_links())

    assert noted["properties"][SOURCE_URL] == "https://a/items/x"
    assert noted["links"] == []


# --- finishing --------------------------------------------------------------------------------------------------------


def test_what_differs_from_run_to_run_comes_after_the_fingerprint():
    numbers = iter(range(10))
    pipeline = Pipeline(
        "demo",
        [sign_hrefs(lambda href: f"{href}?sig={next(numbers)}"), add_provenance(run="r1"), *DEFAULT_TRANSFORMS],
    )
    content = pipeline.content(full_item())

    sent = [pipeline.finish(content) for _ in range(2)]

    assert sent[0] != sent[1]
    assert fingerprint(content) == fingerprint(Pipeline("demo").content(full_item()))
    assert sent[0]["properties"]["run"] == "r1"
    assert sent[0]["assets"]["thumbnail"]["href"].startswith("https://example.com/t.jpg?sig=")
    # What was sent leads back to the same content, as a repair run needs.
    again = pipeline.content(sent[0])
    assert again["assets"] == content["assets"]


def test_only_chosen_assets_are_signed_and_links_never():
    signed = sign_hrefs(lambda href: href + "?sig=1", keys=["thumbnail"])(full_item())

    assert signed["assets"]["thumbnail"]["href"] == "https://example.com/t.jpg?sig=1"
    assert signed["assets"]["metadata"] == full_item()["assets"]["metadata"]
    assert signed["links"] == full_item()["links"]


def test_a_signer_of_whole_items_gets_a_copy():
    def sign(item):
        for asset in item["assets"].values():
            asset["href"] += "?sig=1"
        return item

    item = full_item()
    pipeline = Pipeline("demo", [sign_hrefs(sign, whole_items=True)])

    assert pipeline.finish(item)["assets"]["thumbnail"]["href"].endswith("?sig=1")
    assert item == full_item()


@pytest.mark.parametrize(
    ("signer", "whole", "complaint", "retryable"),
    [
        (lambda href: 1 / 0, False, "ZeroDivisionError", False),
        (lambda href: None, False, "the signer returned NoneType, no URL", False),
        (lambda item: "x", True, "the signer returned str, no item", False),
    ],
)
def test_a_signer_that_fails_is_not_passed_over(signer, whole, complaint, retryable):
    pipeline = Pipeline("demo", [sign_hrefs(signer, whole_items=whole)])

    with pytest.raises(TransformError, match=f"sign_hrefs raised .*{complaint}") as caught:
        pipeline.finish(full_item())

    assert caught.value.retryable is retryable


@pytest.mark.parametrize("parameter", ["sig", "X-Amz-Signature", "X-Goog-Signature", "subscription-key", "api_key"])
def test_a_signer_whose_server_does_not_answer_can_be_asked_again_and_tells_no_secret(parameter):
    def signer(href):
        raise ConnectionError(f"GET https://sign.example.com/?href={href}&{parameter}={SECRET} timed out")

    with pytest.raises(TransformError) as caught:
        Pipeline("demo", [sign_hrefs(signer)]).finish(full_item())

    assert caught.value.retryable
    assert SECRET not in str(caught.value)


def test_a_finishing_callable_of_ones_own_runs_last_and_cannot_leave_items_out():
    def drop(item):
        return None

    drop.finishing = True
    pipeline = Pipeline("demo", [drop])

    assert pipeline.content(stac_item("x"))["id"] == "x"
    with pytest.raises(TransformError, match="drop: a finishing transform cannot leave an item out"):
        pipeline.finish(stac_item("x"))
