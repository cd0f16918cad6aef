"""
``python -m benchmarks.answering_server``: answer every request with the same operation, at next to no cost.

It prints its port and runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys

OPERATION_ID = "22222222-2222-4222-8222-222222222222"
#: As recorded (geocatalog-api 14).
_BODY = json.dumps(
    {
        "id": OPERATION_ID,
        "status": "Running",
        "statusHistory": [
            {"status": "Pending", "timestamp": "2026-04-16T20:41:46.06102Z"},
            {"status": "Running", "timestamp": "2026-04-16T20:41:47.082595Z"},
        ],
        "type": "AddItem",
        "creationTime": "2026-04-16T20:41:46.06102Z",
        "startTime": "2026-04-16T20:41:46.06102Z",
        "collectionId": "demo",
        "additionalInformation": {
            "TotalFailedItems": "0",
            "TotalItems": "1",
            "TotalPendingItems": "1",
            "TotalSuccessfulItems": "0",
        },
    }
).encode()
_HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
    "api-supported-versions: 2025-04-30-preview, 2026-04-15\r\nX-Request-ID: 0123456789abcdef0123456789abcdef\r\n"
    f"Content-Length: {len(_BODY)}\r\n\r\n"
).encode()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_HEAD + _BODY)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Serve until the standard input ends."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
