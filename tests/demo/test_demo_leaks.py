from __future__ import annotations

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
