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
from airflow_provider_geocatalog.emulator.azurite_store import DEV_ACCOUNT, DEV_KEY, AzuriteAccount
from airflow_provider_geocatalog.emulator.limits import LIMITS
from airflow_provider_geocatalog.emulator.server import EmulatorServer, is_loopback
from airflow_provider_geocatalog.emulator.settings import SWITCHES, EmulatorSettings
from airflow_provider_geocatalog.emulator.state import StateError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

TOKEN_VARIABLE = "GEOCATALOG_EMULATOR_TOKEN"
AZURITE_KEY_VARIABLE = "GEOCATALOG_EMULATOR_AZURITE_KEY"
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


def _switch(text: str) -> tuple[str, str | float]:
    name, equals, value = text.partition("=")
    if not equals or name not in SWITCHES:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with a name that --list-switches lists")
    try:
        return name, SWITCHES[name].read(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class _ListSwitches(argparse.Action):
    """Print the switches and stop, as ``--help`` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for switch in SWITCHES.values():
            print(f"{switch.name} ({switch.values}; default {switch.default}): {switch.about} [{switch.question}]")
        parser.exit()


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
    add("--state", type=Path, metavar="FILE", help="SQLite file that keeps everything over restarts; made if missing")
    add(
        "--managed-folder",
        type=Path,
        metavar="DIR",
        help="where copies of assets are kept; else beside the state file, or in a temporary folder",
    )
    add(
        "--managed-storage-url",
        metavar="URL",
        help="where hrefs of copies lead; else to the emulator, which serves them",
    )
    add("--copy-remote-assets", action="store_true", help="download assets elsewhere on the web instead of trusting")
    add("--azurite-url", metavar="URL", help="blob endpoint of an Azurite that keeps the copies and is read for real")
    add("--azurite-account", metavar="NAME", default=DEV_ACCOUNT, help="account in Azurite")
    add(
        "--azurite-key",
        metavar="KEY",
        default=argparse.SUPPRESS,
        help=f"the account's key; else ${AZURITE_KEY_VARIABLE}, else the one that every Azurite has",
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
    add(
        "--switch",
        action="append",
        type=_switch,
        metavar="NAME=VALUE",
        default=[],
        help="choose otherwise where it is not known what the service does, repeatable",
    )
    add("--list-switches", action=_ListSwitches, nargs=0, default=argparse.SUPPRESS, help="print them and stop")
    add("--articles-reading", action="store_true", help="have the codes and names that older articles still give")
    add("--limits", choices=tuple(LIMITS), default=defaults.limits, help="refuse what is beyond documented limits")
    add("--max-body-bytes", type=int, default=defaults.max_body_bytes, help="largest body of a request")
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
            managed_folder=options.managed_folder,
            state=options.state,
            managed_storage_url=options.managed_storage_url,
            copy_remote_assets=options.copy_remote_assets,
            azurite=_azurite(options),
            items_per_second=options.items_per_second,
            collection_tick=options.collection_tick,
            recreate_after=options.recreate_after,
            pending_seconds=options.pending_seconds,
            relative_asset_hrefs=options.relative_asset_hrefs,
            articles_reading=options.articles_reading,
            limits=options.limits,
            max_body_bytes=options.max_body_bytes,
            **{
                "max_concurrent_runs": options.max_concurrent_runs,
                "partial_failure_status": options.partial_failure_status,
                **dict(options.switch),
            },
        )
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    for name in ("urllib3", "azure"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below that they log addresses, which can hold signatures
    try:
        emulator = Emulator(settings)
    except StateError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    return _serve(EmulatorServer(emulator, options.host, options.port), print_token=not tokens)


def _azurite(options: argparse.Namespace) -> AzuriteAccount | None:
    if options.azurite_url is None:
        return None
    key = getattr(options, "azurite_key", None) or os.environ.get(AZURITE_KEY_VARIABLE) or DEV_KEY
    account = AzuriteAccount(options.azurite_url, options.azurite_account, key)
    account.check()
    return account


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
