"""Keep secrets out of everything that people read: bearer tokens, SAS signatures and client secrets."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote

__all__ = ["MASK", "redact", "signatures"]

MASK = "***"

# Separators may be percent-encoded, more than once (a SAS URL inside a query string), or escaped as in JSON.
_SIGNATURE = re.compile(r"(?i)((?:\b|%(?:25)*(?:3F|26)|\\u00(?:3F|26))sig(?:=|%(?:25)*3D|\\u003D))([^&\s\"'<>)\]},]+)")
_BEARER = re.compile(r"(?i)(bearer\s+)[^\s\"',;<>]{8,}")
_SECRET_NAMES = (
    "client_secret|clientSecret|sasToken|sas_token|access_token|refresh_token|password|AccountKey|api_key|apikey|"
    "subscription-key|X-Amz-Signature|X-Amz-Security-Token|X-Goog-Signature"
)
#: A member of a JSON object or of a repr: the value ends at its own quote (as escaped as that), or with the text.
_QUOTED_MEMBER = re.compile(
    rf"(?is)(\b(?:{_SECRET_NAMES}|sig)\\?[\"']?\s*[:=]\s*\[?)(\\?[\"'])(?:(?!\2)(?:\\.|.))+(?:\2|$)"
)
_SECRET_MEMBER = re.compile(rf"(?i)(\b(?:{_SECRET_NAMES})\s*[:=]\s*)[^\s\"'&,;}}]+")
#: A password before the host of a URL.
_USER_INFO = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
#: A JSON Web Token, wherever it stands.
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")


def redact(text: str) -> str:
    """
    Return the text with every secret that can be recognised by its form replaced by ``***``.

    :param text: Text for a log, an exception, an XCom or a page.
    """
    text = _SIGNATURE.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _QUOTED_MEMBER.sub(rf"\1\2{MASK}\2", text)
    text = _SECRET_MEMBER.sub(rf"\1{MASK}", text)
    text = _USER_INFO.sub(rf"\1{MASK}", text)
    return _JWT.sub(MASK, text)


def signatures(text: str) -> set[str]:
    """
    Return the SAS signatures in a text, as written and percent-decoded, to be handed to Airflow's secrets masker.

    :param text: A SAS token, a signed URL, or any text that may hold them.
    """
    found = {match.group(2) for match in _SIGNATURE.finditer(text)}
    return found | {unquote(value) for value in found}


class _Redacted(logging.Filter):
    """Keep signatures out of what is logged of every request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask them; every record stays."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                redact(str(value)) if isinstance(value, str | Exception) else value for value in record.args
            )
        return True


# At DEBUG urllib3 logs the query string of every request, and some of this package's go to signed URLs. Airflow's
# masker knows these signatures, but does not see to every copy of a task's log.
logging.getLogger("urllib3.connectionpool").addFilter(_Redacted())
