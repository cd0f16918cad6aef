"""Say in the user's words why there is no token, or why one was refused, and what to do about it."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
from typing import Any
from urllib.parse import urlsplit

__all__ = ["claims_of", "refusal_of", "sign_in_hint", "sign_in_reason"]

_CODE = re.compile(r"AADSTS(\d+)")
#: Lines of DefaultAzureCredential: what it has tried, and why that gave nothing.
_TRIED = re.compile(r"^\t(\w+): (?:\1 authentication unavailable\. )?(.+)$", re.MULTILINE)
_TENANT_IS_WRONG = ("Unable to get authority configuration", "Invalid tenant")
#: What requests says when nobody answers at the sign-in address.
_UNREACHABLE = (
    "Failed to resolve",
    "Failed to establish",
    "Connection refused",
    "Max retries",
    "timed out",
    "ProxyError",
)

_ASK_ENTRA = ("client_secret", "client_certificate", "workload_identity")
_LECTURE = " Authority would typically be"  # on what addresses can look like

_TENANT_HINT = (
    "The tenant is wrong: in the field 'Tenant ID' put the 'Directory (tenant) ID' of the application's overview page "
    "in Microsoft Entra; for Azure Government, check 'Cloud' as well."
)
_HINTS_BY_CODE = {
    **dict.fromkeys(("90002", "90013", "900021", "900023", "900382"), _TENANT_HINT),
    "700016": (
        "The tenant has no such application: check the client id, and that 'Tenant ID' is the tenant in which the "
        "application is registered."
    ),
    "500011": (
        "The tenant does not know the GeoCatalog service: 'Tenant ID' has to be the tenant of the GeoCatalog, and "
        "'Cloud' its cloud."
    ),
    "7000215": "The client secret is wrong: it is the secret's value, not its id.",
    "7000222": "The client secret has expired: make a new one in Microsoft Entra and put it in the connection.",
    "700027": "The application does not know the certificate: upload it in Microsoft Entra, or choose the right file.",
}
_ELSEWHERE = "The connection test runs where the api-server runs; tasks need the credential where they run."
_HINTS_BY_METHOD = {
    "default": (
        "No credential was found: give the process a managed or workload identity, or the variables AZURE_CLIENT_ID, "
        f"AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or choose another 'Authentication' in the connection. {_ELSEWHERE}"
    ),
    "managed_identity": (
        "Assign a managed identity to the machine, and its client id to the field 'Client ID' if it is user-assigned. "
        f"There is none outside of Azure. {_ELSEWHERE}"
    ),
    "workload_identity": f"Kubernetes mounts the token if the pod's service account is federated. {_ELSEWHERE}",
    "azure_cli": f"Install the Azure CLI and run `az login` as the user of this process. {_ELSEWHERE}",
}
_OTHER_HINT = "Check the client id, the secret or certificate, and the tenant of the connection."


def sign_in_reason(text: str) -> str:
    """
    Return a credential's own account of its failure in one line.

    :param text: What azure-identity said. Of a chain, each link's first sentence is kept.
    """
    tried = [f"{name}: {reason.split('. ')[0].rstrip('.')}" for name, reason in _TRIED.findall(text)]
    return (
        f"none of what it tried has one ({'; '.join(tried)})"
        if tried
        else " ".join(text.partition(_LECTURE)[0].split())
    )


def sign_in_hint(text: str, method: str, authority: str) -> str:
    """
    Return what to do when a credential gives no token.

    :param text: What azure-identity said.
    :param method: Name of the authentication method.
    :param authority: Host of the sign-in service.
    """
    code = _CODE.search(text)
    if code and code[1] in _HINTS_BY_CODE:
        return _HINTS_BY_CODE[code[1]]
    if any(words in text for words in _TENANT_IS_WRONG):
        return _TENANT_HINT
    if method in _ASK_ENTRA and any(words in text for words in _UNREACHABLE):
        return f"This process has to reach https://{authority}: check its DNS, firewall and proxy."
    return _HINTS_BY_METHOD.get(method, _OTHER_HINT)


def refusal_of(token: str, scope: str, now: float) -> tuple[str, str]:
    """
    Return why a GeoCatalog may have answered 401 to a token, as far as the token itself tells, and what to do.

    :param scope: The scope that a token needs.
    :param now: Epoch seconds.
    """
    claims = claims_of(token)
    wanted = scope.removesuffix("/.default")
    expiry, audience, tenant = expiry_of(claims), str(claims.get("aud") or ""), str(claims.get("tid") or "")
    if expiry is not None and expiry <= now:
        moment = datetime.datetime.fromtimestamp(expiry, datetime.UTC)
        return (
            f"the token has expired, at {moment:%Y-%m-%d %H:%M:%S} UTC",
            "A static token is not renewed: put a new one in the connection, or choose another 'Authentication'.",
        )
    # Newer tokens name the application's id instead of its address.
    if "://" in audience and urlsplit(audience).hostname != urlsplit(wanted).hostname:
        return (
            f"the token is for {audience}, not for a GeoCatalog",
            f"Get a token for the scope {scope}; check 'Cloud' as well.",
        )
    if tenant:
        return (
            f"it does not accept tokens of the tenant {tenant}",
            "The tenant may be wrong: 'Tenant ID' has to be the tenant of the GeoCatalog's subscription.",
        )
    return (
        "it does not know the token",
        "It may have expired, or be for another GeoCatalog, tenant or cloud: put a valid token in the connection.",
    )


def claims_of(token: str) -> dict[str, Any]:
    """Return what a JSON Web Token claims; nothing of any other token."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError, binascii.Error):
        return {}
    return claims if isinstance(claims, dict) else {}


def expiry_of(claims: dict[str, Any]) -> int | None:
    """Return when a token expires, in epoch seconds, if it tells."""
    try:
        return int(claims["exp"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
