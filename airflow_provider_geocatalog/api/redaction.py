"""Keep secrets out of everything that people read: bearer tokens, SAS signatures and client secrets."""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["MASK", "redact", "redact_json", "signatures"]

MASK = "***"

# Separators may be percent-encoded, more than once (a SAS URL inside a query string), or escaped as in JSON.
_BEFORE = r"(?:[?&]|&amp;|%(?:25)*(?:3F|26)|\\u00(?:3F|26))"
_EQUALS = r"(?:=|%(?:25)*3D|\\u003D)"
_VALUE = r"[^&\s\"'<>)\]},]+"
_SIGNATURE = re.compile(rf"(?i)((?:\b|{_BEFORE})sig{_EQUALS})({_VALUE})")
#: In a query string the end of a name tells enough. Elsewhere a token is also that of a page, and a code an error's.
_PARAMETER = re.compile(
    rf"(?i)({_BEFORE}(?:[\w.-]*(?:key|token|secret|signature|credential|password|passwd|pwd|auth|authorization)|code)"
    rf"{_EQUALS}){_VALUE}"
)
_AUTHORIZATION = re.compile(
    r"(?i)(\bbearer(?:\s|%(?:25)*20)+|\bauthorization\\?[\"']?\s*[:=]\s*\[?\\?[\"']?(?:basic|token|apikey|sharedkey)\s+)"
    r"[^\s\"',;<>]{8,}"
)
_SECRET_NAME = (
    r"(?<![\w-])[\w-]*(?:client[-_]?secret|sas[-_]?token|access[-_]?token|refresh[-_]?token|password|account[-_]?key|"
    r"access[-_]?key|api[-_]?key|subscription[-_]?key|X-Amz-Signature|X-Amz-Security-Token|X-Goog-Signature)"
)
#: A member of a JSON object or of a repr: the value ends at its own quote (as escaped as that), or with the text.
_QUOTED_MEMBER = re.compile(
    rf"(?is)((?:{_SECRET_NAME}|\bsig)\\?[\"']?\s*[:=]\s*\[?)(\\?[\"'])(?:(?!\2)(?:\\.|.))+(?:\2|$)"
)
_SECRET_MEMBER = re.compile(rf"(?i)({_SECRET_NAME}\s*(?::|{_EQUALS})\s*)[^\s\"'&,;}}]+")
#: A password before the host of a URL, which may hold an @ itself.
_USER_INFO = re.compile(r"(://[^/?#\s:@]*:)[^/?#\s]+(?=@)")
#: A JSON Web Token, wherever it stands.
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")
_ANY_PARAMETER = re.compile(r"([?&][^=&\s]+=)[^&\s]+")
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")


def redact(text: str) -> str:
    """
    Return the text with every secret that can be recognised by its form replaced by ``***``.

    :param text: Text for a log, an exception, an XCom or a page.
    """
    text = _SIGNATURE.sub(rf"\1{MASK}", text)
    text = _PARAMETER.sub(rf"\1{MASK}", text)
    text = _AUTHORIZATION.sub(rf"\1{MASK}", text)
    text = _QUOTED_MEMBER.sub(rf"\1\2{MASK}\2", text)
    text = _SECRET_MEMBER.sub(rf"\1{MASK}", text)
    text = _USER_INFO.sub(rf"\1{MASK}", text)
    return _JWT.sub(MASK, text)


def redact_json(value: Any) -> Any:
    """Return a JSON value with its texts redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redact_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [redact_json(one) for one in value]
    return value


def signatures(text: str) -> set[str]:
    """
    Return the SAS signatures in a text, to be handed to Airflow's secrets masker: as written, percent-decoded, and as
    what sends them writes them, whose escapes are in upper case.

    :param text: A SAS token, a signed URL, or any text that may hold them.
    """
    found = {match.group(2) for match in _SIGNATURE.finditer(text)}
    plain = {unquote(value) for value in found}
    encoded = {quote(value, safe="", errors="replace") for value in plain}
    return found | plain | encoded | {_ESCAPE.sub(lambda escape: escape.group().upper(), value) for value in found}


class _Redacted(logging.Filter):
    """Keep secrets out of what is logged of every request: nothing tells which parameter of a query string is none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask them; every record stays."""
        if isinstance(record.args, tuple) and record.args:
            record.args = tuple(_shown(value) for value in record.args)
        else:
            record.msg = _shown(record.msg)
        return True


def _shown(value: object) -> object:
    return _ANY_PARAMETER.sub(rf"\1{MASK}", redact(str(value))) if isinstance(value, str | Exception) else value


# At DEBUG urllib3 logs the query string of every request, pystac-client its header fields as well, and some of this
# package's go to signed URLs. Airflow's masker knows their signatures, but does not see to every copy of a task's log.
for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry", "pystac_client.stac_api_io"):
    logging.getLogger(_name).addFilter(_Redacted())
