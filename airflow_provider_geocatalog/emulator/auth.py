"""Who is calling: static bearer tokens, and tokens shaped like those of Microsoft Entra ID."""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.emulator.wire import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bearer_token", "issued_at", "role_of"]

#: Audiences of the public and the US Government cloud (2, 2.1), and the application's id, which newer tokens have.
_AUDIENCES = frozenset(
    {
        "https://geocatalog.spatio.azure.com",
        "https://geocatalog.spatio.azure.us",
        "6388acc4-795e-43a9-a320-33075c1eb83b",
    }
)


def role_of(authorization: str | None, administrators: Sequence[str], readers: Sequence[str], now: float) -> str | None:
    """
    Return the caller's role, or ``None`` if the token is not accepted.

    :param authorization: The header's value.
    :param now: Epoch seconds, for a token's expiry.
    """
    token = bearer_token(authorization)
    if not token:
        return None
    if _is_one_of(token, administrators):
        return Role.ADMINISTRATOR
    if _is_one_of(token, readers):
        return Role.READER
    return _role_of_jwt(token, now)


def bearer_token(authorization: str | None) -> str:
    """Return the token of a header's value; an empty text if it has none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def issued_at(token: str) -> float | None:
    """Return when a JSON Web Token was issued, in epoch seconds; ``None`` if it does not tell."""
    moment = _claims(token).get("iat")
    try:
        return float(moment) if isinstance(moment, int | float) else None
    except OverflowError:
        return None


def _is_one_of(token: str, accepted: Sequence[str]) -> bool:
    # Every token is compared, each in constant time, so that timing tells nothing.
    return sum(hmac.compare_digest(token.encode(), one.encode()) for one in accepted) > 0


def _role_of_jwt(token: str, now: float) -> str | None:
    """
    Read a JSON Web Token's claims. The signature is not checked: the emulator guards nothing of value.

    A scope such as ``user_impersonation`` gives no role: what its user may do is decided by roles as well (2).
    """
    claims = _claims(token)
    try:
        in_time = float(claims.get("nbf", 0)) <= now < float(claims["exp"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    audience, roles = claims.get("aud"), claims.get("roles")
    audiences = audience if isinstance(audience, list) else [audience]
    if not in_time or not any(isinstance(one, str) and one.rstrip("/") in _AUDIENCES for one in audiences):
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
