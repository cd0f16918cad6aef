"""The process of a transfer is killed at each step, and the next try goes on: nothing is lost or written twice."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.transfer.files import ItemFilesSource
from tests.fakes.crashing import Killed, Stop, Try, carry_out
from tests.fakes.transfers import items

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)  # the first test plays all of them

TOKEN = "crashes-test-token"
ITEMS, PORTION, BATCH = 1000, 200, 25
BATCHES = ITEMS // BATCH
SEND = r"POST /stac/collections/demo/items"
#: Where the process is killed: the requests and records of a transfer in their order.
STOPS = {
    "first look": Stop(r"POST /stac/search"),
    "first send": Stop(SEND),
    "at 60 %": Stop(SEND, nth=int(0.6 * BATCHES)),
    "last send": Stop(SEND, nth=BATCHES),
    "waiting": Stop(r"GET /inma/operations", nth=3),
    "before a record": Stop("store before", nth=6),
    "after a record": Stop("store after", nth=7),
    "before a deferral": Stop("deferral before", nth=2),
    "replacing at 60 %": Stop(r"PUT /stac", nth=int(0.6 * ITEMS)),
}


@dataclass(frozen=True)
class Cell:
    """A story: tries that are killed, and one that is not."""

    stops: tuple[str, ...]
    deferrable: bool = False
    slow: bool = False
    replaces: bool = False

    def __str__(self) -> str:
        return ", ".join([*self.stops, *(name for name in ("deferrable", "slow", "replaces") if getattr(self, name))])


CELLS = [
    *(Cell((stop,)) for stop in STOPS if stop not in {"before a deferral", "replacing at 60 %"}),
    *(Cell(("replacing at 60 %",), replaces=True, slow=slow) for slow in (False, True)),
    *(Cell((stop,), deferrable=True, slow=True) for stop in ("at 60 %", "after a record", "before a deferral")),
    Cell(("at 60 %",), slow=True),
    Cell(("first send", "at 60 %"), slow=True),
    Cell(("at 60 %", "waiting")),
]


@dataclass(frozen=True)
class Outcome:
    result: dict[str, Any]
    found: set[str]
    posted: int
    failed: int


def play(cell: Cell, folder: Path) -> Outcome:
    from airflow_provider_geocatalog.auth import ConnectionSettings
    from airflow_provider_geocatalog.client import GeoCatalogClient

    (folder / "items.ndjson").write_text("\n".join(map(json.dumps, items(ITEMS))))
    with EmulatorServer(Emulator(EmulatorSettings.fast(admin_tokens=(TOKEN,)))) as server:
        extra = {"auth_method": "static_token"}
        client = GeoCatalogClient(ConnectionSettings.from_fields(host=server.url, password=TOKEN, extra=extra))
        client.wait(
            client.create_collection(
                {
                    "type": "Collection",
                    "stac_version": "1.0.0",
                    "id": "demo",
                    "description": "d",
                    "license": "other",
                    "links": [],
                    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
                }
            )
        )
        written = "UpdateItem" if cell.replaces else "AddItem"
        if cell.slow:
            server.emulator.faults.add("hold", types=[written], status="Running", seconds=0.6)
        arguments = {
            "collection_id": "demo",
            "source": ItemFilesSource(path=str(folder / "items.ndjson")),
            "portion_items": PORTION,
            "batch_items": BATCH,
            "min_poll_interval": 0.1,
            "deferrable": cell.deferrable,
            "defer_after": 0.2,
        }
        this = Try(server.url, TOKEN, folder, "transfer", arguments, has_store=True)
        if cell.replaces:
            (folder / "before").mkdir()
            carry_out(replace(this, folder=folder / "before"))
            (folder / "items.ndjson").write_text("\n".join(map(json.dumps, items(ITEMS, gsd=2))))
        for number, stop in enumerate(cell.stops, 1):
            with pytest.raises(Killed):
                carry_out(replace(this, number=number, stop=STOPS[stop]))
        result = carry_out(replace(this, number=len(cell.stops) + 1))
        counts = [one.counts for one in client.list_operations() if one.type == written and one.counts]
        found = {item["id"] for item in client.list_items("demo", limit=1000)}
        return Outcome(result, found, sum(one.total for one in counts), sum(one.failed for one in counts))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory):
    with ThreadPoolExecutor(4) as pool:
        played = {cell: pool.submit(play, cell, tmp_path_factory.mktemp("cell")) for cell in CELLS}
    return played


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_nothing_is_lost_and_nothing_is_written_twice(cell, outcomes):
    outcome = outcomes[cell].result()
    assert outcome.found == {f"item-{number:06}" for number in range(ITEMS)}
    assert outcome.failed == 0, "something was sent that was there, or under way, already"
    assert outcome.posted == ITEMS
    counts = outcome.result["counts"]
    assert counts["seen"] == ITEMS
    assert counts["failed"] == counts["set_aside"] == 0
    assert counts["updated" if cell.replaces else "created"] + counts["unchanged"] == ITEMS
    # What an earlier try has settled is remembered, so that no more than a portion was looked at anew.
    assert counts["unchanged"] <= PORTION * len(cell.stops)
