from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest

from demo.leaks import find_secrets

SECRET = "pA/ss+word=="


@pytest.mark.parametrize("text", ["token pA/ss+word== used", "x=pA%2Fss%2Bword%3D%3D&y"])
def test_a_secret_is_found_in_every_form(text):
    assert find_secrets([("a.log", text.encode())], [SECRET]) == ["a.log: a secret of a connection"]


def test_a_secret_is_found_from_its_encoded_form():
    assert find_secrets([("a.log", SECRET.encode())], ["pA%2Fss%2Bword%3D%3D"])


@pytest.mark.parametrize("text", ["https://a/c?sp=rl&sig=abc", "sp%3Drl%26sig%3Dabc"])
def test_an_unmasked_signature_is_found(text):
    assert find_secrets([("XCom", text.encode())], []) == ["XCom: an unmasked 'sig='"]


@pytest.mark.parametrize("text", ["https://a/c?sp=rl&sig=***", "it has no signature ('sig=')", "nothing"])
def test_a_masked_signature_is_none(text):
    assert find_secrets([("a.log", text.encode())], [SECRET, ""]) == []


_WRITTEN = {
    "as it is": SECRET,
    "percent-encoded": quote(SECRET, safe=""),
    "percent-encoded, lower case": quote(SECRET, safe="")
    .replace("%2B", "%2b")
    .replace("%3D", "%3d")
    .replace("%2F", "%2f"),
    "in a URL inside a URL": quote(quote(SECRET, safe=""), safe=""),
    "JSON with escaped slashes": json.dumps({"token": SECRET}).replace("/", "\\/"),
    "JSON in JSON": json.dumps(json.dumps({"nested": [{"token": SECRET}]})),
    "HTML": html.escape(SECRET).replace("+", "&#43;").replace("=", "&#61;"),
    "hex": SECRET.encode().hex(),
    **{
        f"base64 after {before!r}": base64.b64encode(f"{before}{SECRET}:more".encode()).decode()
        for before in ("", "a", "ab", "user:")
    },
    "base64 for URLs": base64.urlsafe_b64encode(f"ü?>{SECRET}".encode()).decode(),
}


@pytest.mark.parametrize("how", _WRITTEN)
def test_a_planted_secret_is_found_however_it_is_written(how):
    assert find_secrets([("a.log", f"before {_WRITTEN[how]} after".encode())], [SECRET]) == [
        "a.log: a secret of a connection"
    ]


def test_what_only_resembles_a_secret_is_none():
    others = ["pA/ss+word", "pA%2Fss%2Bword", base64.b64encode(b"pA/ss+wurd==").decode()]
    assert find_secrets([("a.log", "\n".join(others).encode())], [SECRET]) == []
