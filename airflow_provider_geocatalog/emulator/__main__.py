"""``python -m airflow_provider_geocatalog.emulator``: run the emulator from a shell."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_geocatalog.emulator.app import Emulator
from airflow_provider_geocatalog.emulator.server import EmulatorServer, is_loopback
from airflow_provider_geocatalog.emulator.settings import EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

TOKEN_VARIABLE = "GEOCATALOG_EMULATOR_TOKEN"
DEFAULT_PORT = 8099


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return folder.resolve()


def _container(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not name or not equals or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=DIR")
    return name, _folder(folder)


def _parser() -> argparse.ArgumentParser:
    defaults = EmulatorSettings()
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_geocatalog.emulator",
        description="Emulate the control plane of a Microsoft Planetary Computer Pro GeoCatalog.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=DEFAULT_PORT, help="port to listen on; 0: any free one")
    add(
        "--allow-remote",
        action="store_true",
        help="needed as well to listen on an address that other machines reach; unsigned tokens are accepted there",
    )
    add(
        "--token",
        action="append",
        metavar="TOKEN",
        default=None,
        help=f"bearer token of an administrator, repeatable; else ${TOKEN_VARIABLE}, else a random one is printed",
    )
    add("--reader-token", action="append", metavar="TOKEN", default=[], help="bearer token of a reader, repeatable")
    add(
        "--allow-path",
        action="append",
        type=_folder,
        metavar="DIR",
        default=[],
        help="folder below which file: URLs may be read, repeatable",
    )
    for name, which in (("--container", "private"), ("--public-container", "public")):
        add(
            name,
            action="append",
            type=_container,
            metavar="NAME=DIR",
            default=[],
            help=f"folder that plays a {which} blob container, repeatable",
        )
    add("--items-per-second", type=float, default=defaults.items_per_second, help="speed of ingestion; 0: at once")
    add(
        "--collection-tick",
        type=float,
        default=defaults.collection_tick,
        help="seconds between pick-ups of operations on collections; 0: at once",
    )
    add(
        "--recreate-after",
        type=float,
        default=defaults.recreate_after,
        help="seconds for which the id of a deleted collection is refused",
    )
    add("--max-concurrent-runs", type=int, default=defaults.max_concurrent_runs, help="further runs stay Pending")
    add(
        "--pending-seconds",
        type=float,
        default=defaults.pending_seconds,
        help="seconds that item operations and runs stay Pending",
    )
    add("--relative-asset-hrefs", choices=("fail", "resolve"), default=defaults.relative_asset_hrefs, help="in runs")
    add(
        "--partial-failure-status",
        choices=("Failed", "Succeeded"),
        default=defaults.partial_failure_status,
        help="status of a run in which some items failed",
    )
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"), help="logging goes to stderr")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the emulator until it is told to stop.

    :param arguments: Command line; the process's own if not given.
    :return: The exit code.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if not is_loopback(options.host) and not options.allow_remote:
        parser.error(f"{options.host} can be reached from other machines; say --allow-remote as well if you mean it")
    from_environment = os.environ.get(TOKEN_VARIABLE)
    tokens = tuple(options.token or ((from_environment,) if from_environment else ()))
    try:
        settings = EmulatorSettings(
            admin_tokens=tokens,
            reader_tokens=tuple(options.reader_token),
            allowed_paths=tuple(options.allow_path),
            containers=dict(options.container),
            public_containers=dict(options.public_container),
            items_per_second=options.items_per_second,
            collection_tick=options.collection_tick,
            recreate_after=options.recreate_after,
            max_concurrent_runs=options.max_concurrent_runs,
            pending_seconds=options.pending_seconds,
            relative_asset_hrefs=options.relative_asset_hrefs,
            partial_failure_status=options.partial_failure_status,
        )
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    return _serve(EmulatorServer(Emulator(settings), options.host, options.port), print_token=not tokens)


def _serve(server: EmulatorServer, *, print_token: bool) -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with server:
            print(server.url, flush=True)
            if print_token:
                print(f"administrator token: {server.emulator.admin_token}", flush=True)
            stop.wait()
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
