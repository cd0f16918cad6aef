"""Who is calling: static bearer tokens, and tokens shaped like those of Microsoft Entra ID."""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.emulator.wire import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["role_of"]

#: Audiences of the public and the US Government cloud (2, 2.1).
_AUDIENCES = frozenset({"https://geocatalog.spatio.azure.com", "https://geocatalog.spatio.azure.us"})


def role_of(authorization: str | None, administrators: Sequence[str], readers: Sequence[str], now: float) -> str | None:
    """
    Return the caller's role, or ``None`` if the token is not accepted.

    :param authorization: The header's value.
    :param now: Epoch seconds, for a token's expiry.
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return None
    if _is_one_of(token, administrators):
        return Role.ADMINISTRATOR
    if _is_one_of(token, readers):
        return Role.READER
    return _role_of_jwt(token, now)


def _is_one_of(token: str, accepted: Sequence[str]) -> bool:
    # Every token is compared, each in constant time, so that timing tells nothing.
    return sum(hmac.compare_digest(token.encode(), one.encode()) for one in accepted) > 0


def _role_of_jwt(token: str, now: float) -> str | None:
    """Read a JSON Web Token's claims. The signature is not checked: the emulator guards nothing of value."""
    claims = _claims(token)
    try:
        in_time = float(claims.get("nbf", 0)) <= now < float(claims["exp"])
    except (KeyError, TypeError, ValueError):
        return None
    audience, roles = claims.get("aud"), claims.get("roles")
    if not in_time or not isinstance(audience, str) or audience.rstrip("/") not in _AUDIENCES:
        return None
    granted = roles if isinstance(roles, list) else [roles]
    return next((role for role in (Role.ADMINISTRATOR, Role.READER) if role in granted), Role.NONE)


def _claims(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
