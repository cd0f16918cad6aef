"""The answer of Blob storage to a request for the list of a container's blobs."""

from __future__ import annotations

import mimetypes
from email.utils import formatdate
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["listing"]


def listing(service_url: str, container: str, blobs: Iterable[tuple[str, Path]], prefix: str, delimiter: str) -> str:
    """
    Return the XML of *List Blobs*, all in one page.

    :param service_url: What precedes the container in its URL.
    :param blobs: Names and files.
    :param prefix: What names have to begin with.
    :param delimiter: What ends a folder, where folders are to be listed instead of what is below them.
    """
    found, folders = [], set()
    for name, file in sorted(blobs):
        rest = name[len(prefix) :]
        if not name.startswith(prefix):
            continue
        if delimiter and delimiter in rest:
            folders.add(prefix + rest.split(delimiter, 1)[0] + delimiter)
        else:
            found.append(_blob(name, file))
    found += [f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" for name in sorted(folders)]
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<EnumerationResults ServiceEndpoint={quoteattr(service_url)} ContainerName={quoteattr(container)}>"
        f"<Prefix>{escape(prefix)}</Prefix><Blobs>{''.join(found)}</Blobs><NextMarker /></EnumerationResults>"
    )


def _blob(name: str, file: Path) -> str:
    status = file.stat()
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    properties = {
        "Last-Modified": formatdate(status.st_mtime, usegmt=True),
        "Etag": f"0x{status.st_mtime_ns:X}",
        "Content-Length": str(status.st_size),
        "Content-Type": media_type,
        "BlobType": "BlockBlob",
    }
    inner = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in properties.items())
    return f"<Blob><Name>{escape(name)}</Name><Properties>{inner}</Properties></Blob>"
