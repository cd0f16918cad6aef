"""Managed storage: where the service puts files (7.4, 7.5), and the SAS tokens that open it (8)."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from airflow_provider_geocatalog.api.managed_storage import managed_container

__all__ = [
    "SasIssuer",
    "SasToken",
    "azure_container_name",
    "collection_asset_folder",
    "collection_asset_name",
    "container_name",
    "is_converted",
    "item_asset_name",
    "item_folder",
    "original_asset_name",
]

_SAS_VERSION = "2024-11-04"  # of the storage service; any well-formed one does
_KEY_LIFETIME = datetime.timedelta(days=7)  # recorded: ``ske`` is 7 days after ``skt`` (8)
_PERMISSIONS = "rl"
_AZURE_PREFIX = 63 - 1 - 8  # characters that Azure's rules for container names leave beside the hash
_CONVERTED_TYPES = frozenset({"image/tiff", "image/jpeg", "image/jp2", "image/png"})
_CONVERTED_SUFFIXES = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".jp2", ".png"})
#: What a signature covers, beside the container.
_SIGNED_FIELDS = ("st", "se", "sp", "sv", "sr", "skoid", "sktid", "skt", "ske", "sks", "skv")


def container_name(collection_id: str) -> str:
    """Return the name of a collection's container."""
    return managed_container(collection_id)


def azure_container_name(collection_id: str) -> str:
    """Return the name of a collection's container where Azure's rules for names hold; the same, if they allow it."""
    prefix = re.sub("[^a-z0-9]+", "-", collection_id.lower()).strip("-")[:_AZURE_PREFIX].rstrip("-")
    return f"{prefix or 'collection'}-{_sha256(collection_id)[:8]}"


def item_folder(item_id: str) -> str:
    """Return the folder of an item's files in its container; recorded too."""
    return f"{_sha256(item_id)[:3]}/{item_id}"


def item_asset_name(item_id: str, key: str, href: str) -> str:
    """Return the name of the blob with an item's asset that came from ``href``."""
    return f"{item_folder(item_id)}/{key}{_suffix(href)}"


def original_asset_name(item_id: str, key: str, href: str) -> str:
    """Return the name of the blob that ``keepOriginalAssets`` keeps; inferred. No asset key holds a tilde."""
    return f"{item_folder(item_id)}/{key}~original{_suffix(href)}"


def is_converted(media_type: str | None, href: str) -> bool:
    """Return whether the service makes a Cloud Optimized GeoTIFF of an asset (11.4)."""
    named = (media_type or "").split(";")[0].strip().lower()
    return named in _CONVERTED_TYPES or _suffix(href).lower() in _CONVERTED_SUFFIXES


def collection_asset_folder(key: str) -> str:
    """Return the folder of a collection's own asset in its container (7.4)."""
    return f"collection-assets/{key}"


def collection_asset_name(key: str, filename: str) -> str:
    """Return the name of the blob with a collection's own asset."""
    return f"{collection_asset_folder(key)}/{filename}"


def _suffix(href: str) -> str:
    suffix = PurePosixPath(unquote(urlsplit(href).path)).suffix
    return suffix if re.fullmatch(r"\.[\w+-]{1,32}", suffix, re.ASCII) else ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class SasToken:
    """
    A token for one container.

    :param text: The query string that opens the container, without ``?``.
    :param expires: Epoch seconds.
    """

    text: str
    expires: float

    def __repr__(self) -> str:
        return f"SasToken(expires={self.expires})"


class SasIssuer:
    """
    Make container-level user-delegation tokens (8) and tell which of them still count.

    Tokens are not kept: a token is valid if its signature was made with the current key, so revoking is a new key.
    """

    def __init__(self) -> None:
        self._object_id, self._tenant_id = str(uuid.uuid4()), str(uuid.uuid4())
        self._key = secrets.token_bytes(32)

    @property
    def secrets(self) -> tuple[str, str, str]:
        """What tokens are made with; an issuer that is given it knows the tokens of this one."""
        return self._object_id, self._tenant_id, self._key.hex()

    @secrets.setter
    def secrets(self, secrets: tuple[str, str, str]) -> None:
        self._object_id, self._tenant_id, self._key = *secrets[:2], bytes.fromhex(secrets[2])

    def revoke(self) -> None:
        """Make every token that was issued so far invalid."""
        self._key = secrets.token_bytes(32)

    def issue(self, container: str, now: float, lifetime: float) -> SasToken:
        """
        Return a token for reading and listing a container.

        :param lifetime: Seconds; Azure has no user-delegation key that outlives 7 days.
        """
        start = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
        end = start + datetime.timedelta(seconds=lifetime)
        fields = {
            "st": _sas_text(start),
            "se": _sas_text(end),
            "sp": _PERMISSIONS,
            "sv": _SAS_VERSION,
            "sr": "c",
            "skoid": self._object_id,
            "sktid": self._tenant_id,
            "skt": _sas_text(start),
            "ske": _sas_text(start + _KEY_LIFETIME),
            "sks": "b",
            "skv": _SAS_VERSION,
        }
        text = urlencode({**fields, "sig": self._signature(container, fields)})
        return SasToken(text, end.timestamp())

    def is_valid(self, token: str, container: str, now: float) -> bool:
        """
        Return whether a token opens a container: issued here for it, unchanged, not expired, not revoked.

        :param token: Query string of a request for a blob.
        :param now: Epoch seconds.
        """
        values = parse_qs(token)
        fields = {name: values.get(name, [""])[-1] for name in _SIGNED_FIELDS}
        signature = values.get("sig", [""])[-1]
        if not hmac.compare_digest(signature.encode(), self._signature(container, fields).encode()):
            return False
        start, end = (datetime.datetime.fromisoformat(fields[name]).timestamp() for name in ("st", "se"))
        return start <= now < end

    def _signature(self, container: str, fields: dict[str, str]) -> str:
        text = "\n".join([container, *(fields[name] for name in _SIGNED_FIELDS)])
        return base64.b64encode(hmac.digest(self._key, text.encode("utf-8", "replace"), "sha256")).decode()


def _sas_text(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
