"""Multipart bodies, read with Starlette's form parser (7.4)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from airflow_provider_geocatalog.emulator.wire import bad_request, parse_json

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["MULTIPART", "Upload", "read_upload"]

MULTIPART = "multipart/form-data"


@dataclass(frozen=True)
class Upload:
    """
    An uploaded file and what is said about it.

    :param data: The JSON value of the part ``data``.
    :param filename: The file's name without folders.
    :param content: The file.
    """

    data: Any
    filename: str
    content: bytes = field(repr=False)


def read_upload(request: Request) -> Upload:
    """
    Return the two parts of a form, on a thread that runs no event loop.

    :param request: Its body has been read.
    :raises ApiError: The form is malformed, or a part is missing.
    """
    try:
        return asyncio.run(_read_upload(request))
    except HTTPException as error:
        raise bad_request(f"The form is malformed: {error.detail}") from error


async def _read_upload(request: Request) -> Upload:
    async with request.form(max_files=2, max_fields=2) as form:
        data, file = form.get("data"), form.get("file")
        if data is None:
            raise bad_request("The form needs a part 'data' with JSON text.")
        if not isinstance(file, UploadFile):
            raise bad_request("The form needs a part 'file' with a file name.")
        filename = PurePosixPath(file.filename or "").name
        if not filename or not filename.isprintable():
            raise bad_request("The part 'file' needs a file name.")
        # Clients that treat every part as a file give 'data' a file name as well.
        text = await data.read() if isinstance(data, UploadFile) else data
        try:
            return Upload(parse_json(text), filename, await file.read())
        except (ValueError, RecursionError) as error:
            raise bad_request("The part 'data' is not valid JSON.") from error
