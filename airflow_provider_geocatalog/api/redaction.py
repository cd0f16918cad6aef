"""Keep secrets out of everything that people read: bearer tokens, SAS signatures and client secrets."""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["MASK", "redact", "signatures"]

MASK = "***"

# The name may itself be percent-encoded or preceded by the separator in encoded form (a SAS URL inside a query string).
_SIGNATURE = re.compile(r"(?i)((?:^|[?&;\s\"']|%3F|%26|\\u0026)sig(?:=|%3D))([^&\s\"'<>)\]},]+)")
_BEARER = re.compile(r"(?i)(bearer\s+)[^\s\"',;<>]{8,}")
_SECRET_MEMBER = re.compile(
    r"(?i)(\b(?:client_secret|clientSecret|sasToken|sas_token|access_token|password)[\"']?\s*[:=]\s*[\"']?)[^\s\"'&,}]+"
)
#: A JSON Web Token, wherever it stands.
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")


def redact(text: str) -> str:
    """
    Return the text with every secret that can be recognised by its form replaced by ``***``.

    :param text: Text for a log, an exception, an XCom or a page.
    """
    text = _SIGNATURE.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _SECRET_MEMBER.sub(rf"\1{MASK}", text)
    return _JWT.sub(MASK, text)


def signatures(text: str) -> set[str]:
    """
    Return the SAS signatures in a text, as written and percent-decoded, to be handed to Airflow's secrets masker.

    :param text: A SAS token, a signed URL, or any text that may hold them.
    """
    found = {match.group(2) for match in _SIGNATURE.finditer(text)}
    return found | {unquote(value) for value in found}
