"""Signing hrefs into managed storage on request (7.6, 8)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.azurite_store import is_signed
from airflow_provider_geocatalog.emulator.managed_store import located

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.managed import SasToken
    from airflow_provider_geocatalog.emulator.routing import Context
    from airflow_provider_geocatalog.emulator.wire import Call

__all__ = ["Signer", "lifetime"]

_DEFAULT_MINUTES = 24 * 60  # recorded (8)
_MAX_MINUTES = 7 * 24 * 60  # of a user-delegation key


def lifetime(call: Call) -> float:
    """
    Return the lifetime that ``duration`` asks for, in seconds; on the wire it is minutes (service-open-questions C12).

    :raises ApiError: It is no number of minutes that a token can live.
    """
    text = call.query.get("duration")
    if text is None:
        return _DEFAULT_MINUTES * 60.0
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= _MAX_MINUTES:
        raise wire.bad_request(f"'duration' has to be a whole number of minutes from 1 to {_MAX_MINUTES}.")
    return int(text) * 60.0


class Signer:
    """
    Sign what one request asks for, with one token for each container, and tell where stored files are.

    Hold the world's lock while making one.

    :param signs: Whether the addresses of assets are signed, or only told.
    """

    def __init__(self, context: Context, call: Call, *, signs: bool = True) -> None:
        self._context, self._call, self._signs = context, call, signs
        self._managed = context.blobs.managed
        self._lifetime = lifetime(call) if signs else 0.0
        self._containers = {self._managed.container(name) for name in context.world.collections} if signs else set()
        self._tokens: dict[str, SasToken] = {}

    @classmethod
    def wanted(cls, context: Context, call: Call) -> Signer:
        """
        Return what completes the asset hrefs of a read, with signatures if the read asks for them.

        :raises ApiError: ``sign`` or ``duration`` is malformed.
        """
        sign = call.query.get("sign", "false").lower()
        if sign not in ("true", "false"):
            raise wire.bad_request("'sign' has to be true or false.")
        with context.world.lock:
            return cls(context, call, signs=sign == "true")

    def token_for(self, container: str) -> SasToken:
        """Return the token of a container."""
        if container not in self._tokens:
            sas = self._context.world.sas
            self._tokens[container] = self._managed.issue(sas, container, self._call.now, self._lifetime)
        return self._tokens[container]

    def sign(self, href: str) -> tuple[str, SasToken | None]:
        """Return a signed href and its token; it stays as it is where it has a signature or leads elsewhere."""
        container = self._managed.container_of(href)
        if container not in self._containers or container is None or is_signed(href):
            return href, None
        token = self.token_for(container)
        parts = urlsplit(href)
        query = f"{parts.query}&{token.text}" if parts.query else token.text
        return parts._replace(query=query).geturl(), token

    def sign_assets(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return an item or collection as a client reads it: with addresses of assets, signed if that was asked for."""
        document = located(document, self._call.managed_url)
        if not self._signs or "assets" not in document:
            return document
        assets = {key: {**asset, "href": self.sign(asset["href"])[0]} for key, asset in document["assets"].items()}
        return {**document, "assets": assets}
