from __future__ import annotations

from demo.reading import ItemDocument
from demo.verify import verify


def item(item_id: str, url: str | None = None) -> ItemDocument:
    document = {
        "type": "Feature",
        "id": item_id,
        "geometry": None,
        "properties": {"datetime": "2024-05-01T00:00:00Z"},
        "assets": {},
    }
    return ItemDocument(url or f"https://example.com/{item_id}.json", document)


def test_all_items_there_is_complete():
    result = verify([item("a"), item("b")], {"a", "b", "somebody-elses"})

    assert result.is_complete
    assert (result.total, result.ingested) == (2, {"a", "b"})


def test_missing_items_are_named_with_what_is_wrong_with_them():
    wrong = ItemDocument("https://example.com/c.json", item("c").document | {"properties": {}})

    result = verify([item("a"), item("b"), wrong], {"a"})

    assert not result.is_complete
    assert result.missing == {"b": "not in the collection", "c": "it has no 'datetime'"}


def test_a_broken_item_is_not_complete_even_if_all_others_are_there():
    broken = ItemDocument("https://example.com/x.json", reason="not JSON")

    result = verify([item("a"), broken], {"a"})

    assert not result.is_complete
    assert (result.total, result.broken) == (2, (broken,))


def test_an_id_that_two_items_have_is_counted_once():
    result = verify([item("a"), item("a", "https://example.com/again.json")], {"a"})

    assert result.is_complete
    assert (result.total, len(result.repeated)) == (2, 1)
