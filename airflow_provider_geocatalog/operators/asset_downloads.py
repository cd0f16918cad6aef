"""Download files of items."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from airflow_provider_geocatalog.api.numbers import whole_number
from airflow_provider_geocatalog.asset_files import Destination
from airflow_provider_geocatalog.operators.base import GeoCatalogOperator
from airflow_provider_geocatalog.operators.choices import choice
from airflow_provider_geocatalog.operators.item_changes import item_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_geocatalog.asset_downloads import AssetDownloads, DownloadedFile
    from airflow_provider_geocatalog.asset_files import AssetChoice, AssetFile

__all__ = ["GeoCatalogDownloadAssetsOperator"]

_NAMED_IN_ERROR = 20
_NAMED_IN_RESULT = 100
_PAGE = 100  # items whose assets are in memory at once
_MANIFEST = ".manifest.ndjson"


class _StoredFile(Destination):
    """
    A file in an object store: written on this machine first, since a store takes it as a whole or not at all.

    :param target: Where it goes.
    :param draft: Where it is written.
    """

    def __init__(self, target: ObjectStoragePath, draft: Path) -> None:
        self._target, self._draft = target, draft

    @property
    def path(self) -> str:
        """The path as Airflow's object storage takes it."""
        return str(self._target)

    def exists(self) -> bool:
        """Return whether it is there."""
        return bool(self._target.fs.exists(self._target.path))

    def open(self, etag: str | None, *, append: bool) -> IO[bytes]:
        """Begin to write."""
        self._draft.parent.mkdir(parents=True, exist_ok=True)
        return self._draft.open("ab" if append else "wb")

    def finish(self) -> None:
        """Hand it to the store."""
        self._target.fs.put_file(str(self._draft), self._target.path)
        self.discard()

    def discard(self) -> None:
        """Remove what was written."""
        self._draft.unlink(missing_ok=True)


class _Files:
    """
    A folder, on disk or in an object store.

    :param path: The folder.
    :param drafts: Where files are written that go to an object store.
    :raises GeoCatalogInvalidInput: There is no way to such a store.
    """

    def __init__(self, path: str, conn_id: str | None, drafts: Path) -> None:
        parts = urlsplit(path)
        self._drafts = drafts
        self._folder = Path(unquote(parts.path) if parts.scheme == "file" else path)
        self._store: ObjectStoragePath | None = None
        if parts.scheme != "file" and "://" in path:
            self._store = self._opened(path, conn_id)

    @staticmethod
    def _opened(path: str, conn_id: str | None) -> ObjectStoragePath:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

        try:
            folder = ObjectStoragePath(path, conn_id=conn_id)
            _ = folder.fs
        except (ValueError, ImportError) as error:
            raise GeoCatalogInvalidInput(f"{path} cannot be opened: {error}") from error
        return folder

    def __call__(self, name: Sequence[str]) -> Destination:
        """Return a file in the folder."""
        from airflow_provider_geocatalog.asset_files import LocalFile

        if self._store is None:
            return LocalFile(self._folder.joinpath(*name))
        return _StoredFile(self._store.joinpath(*name), self._drafts.joinpath(*name))


class _Result:
    """
    What came of files so far.

    :param manifest: Where each is written down.
    """

    def __init__(self, manifest: IO[bytes] | None) -> None:
        self._manifest = manifest
        self.counts = {"downloaded": 0, "skipped": 0, "failed": 0}
        self.bytes = 0
        self.items = 0
        self.without = 0  # items that have none of the assets
        self.files: list[dict[str, Any]] = []
        self.failed: list[DownloadedFile] = []
        self.may_pass = False

    def observe(self, file: DownloadedFile) -> None:
        """Take note of a file."""
        self.counts[file.status] += 1
        self.bytes += file.size or 0
        told = file.to_json()
        if self._manifest is not None:
            self._manifest.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")
        if file.error is not None:
            self.may_pass = self.may_pass or file.error.retryable
            if len(self.failed) < _NAMED_IN_RESULT:
                self.failed.append(file)
        elif len(self.files) < _NAMED_IN_RESULT:
            self.files.append({name: told[name] for name in ("item", "asset", "path", "bytes") if name in told})


class GeoCatalogDownloadAssetsOperator(GeoCatalogOperator):
    """
    Download files of items, to the worker's disk or an object store.

    Files in the GeoCatalog's storage are opened with a signature that is got just before; files elsewhere are
    downloaded as they are if they are public. A broken connection is gone on with where it broke. On disk so is a file
    that an earlier try has left unfinished. A file appears under its name when it is whole and its checksum is right:
    ``collection/item/asset key.extension`` below the path, each name percent-encoded where it is more than letters,
    digits and the like. Tasks that run at the same time need paths of their own.

    :param collection_id: The collection.
    :param ids: Ids of the items, or JSON text of a list of them. Give either these or a search.
    :param search: Conditions of the items, as for
        :class:`~airflow_provider_geocatalog.operators.item_changes.GeoCatalogDeleteItemsOperator`; ``{}`` means every
        item of the collection.
    :param path: Folder on the worker, or in an object store that Airflow's object storage paths know. What goes to an
        object store is written to a temporary folder of the worker before.
    :param assets: Keys of the assets; all that is given of these three has to hold, all assets if nothing is.
    :param roles: Roles, of which an asset has one at least.
    :param media_types: Media types, of which an asset has one; without parameters it stands for those with any.
    :param storage_conn_id: Connection of the object store.
    :param if_exists: What is done with files that are there: ``skip``, ``replace`` or ``fail``. What is there when a
        task is retried may be its own, and is left alone where it would fail.
    :param checksum: What files are held against: ``item`` takes the item's ``file:checksum``, where it has one of a
        usual kind, and else the storage's; ``storage`` takes the storage's MD5 always. The item's is that of the source
        where the service has converted the file. The length is checked in any case.
    :param max_items: The most items; if more match, nothing is downloaded and the task fails.
    :param max_bytes: The most bytes that a try may download; a file that would exceed it fails the task.
    :param max_failed_files: Failed files that are tolerated.
    :param concurrency: Files at once.
    :param sign_duration: Minutes that signatures last; about a day if not given. They are renewed when they end.
    :param manifest: Whether to write down every file, a JSON object in each line, in ``collection.manifest.ndjson``
        below the path; or the path of that file. Its lines have ``item``, ``asset``, ``status`` (``downloaded``,
        ``skipped``, ``failed``), ``path``, ``bytes``, ``checksum``, ``code`` and ``reason``, as far as there are any.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``collection_id``, ``items`` (their number), ``items_without_assets`` (those with none of the assets),
        ``downloaded``, ``skipped``, ``failed``, ``bytes``, ``files`` (up to 100, each with ``item``, ``asset``,
        ``path`` and ``bytes``), ``manifest`` (its path) and, if files failed, ``failed_files`` (up to 100), as XCom.
    :raises GeoCatalogInvalidInput: The arguments make no sense; nothing was downloaded.
    :raises GeoCatalogConflict: More items match than ``max_items``; nothing was downloaded.
    :raises GeoCatalogItemsFailed: More files failed than are tolerated; the others stay.
    """

    template_fields: Sequence[str] = (
        "collection_id",
        "ids",
        "search",
        "path",
        "assets",
        "roles",
        "media_types",
        "storage_conn_id",
        "manifest",
        *GeoCatalogOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"search": "json"}

    def __init__(
        self,
        *,
        collection_id: str,
        path: str,
        ids: Sequence[str] | str | None = None,
        search: dict[str, Any] | None = None,
        assets: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
        media_types: Sequence[str] | None = None,
        storage_conn_id: str | None = None,
        if_exists: str = "skip",
        checksum: str = "item",
        max_items: int | None = None,
        max_bytes: int | None = None,
        max_failed_files: int = 0,
        concurrency: int = 8,
        sign_duration: int | None = None,
        manifest: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.path = path
        self.ids = ids
        self.search = search
        self.assets = assets
        self.roles = roles
        self.media_types = media_types
        self.storage_conn_id = storage_conn_id
        self.if_exists = if_exists
        self.checksum = checksum
        self.max_items = None if max_items is None else whole_number(max_items, "max_items")
        self.max_bytes = None if max_bytes is None else whole_number(max_bytes, "max_bytes")
        self.max_failed_files = whole_number(max_failed_files, "max_failed_files")
        self.concurrency = whole_number(concurrency, "concurrency")
        self.sign_duration = sign_duration
        self.manifest = manifest
        self._downloads: AssetDownloads | None = None

    def _execute(self, context: Context) -> dict[str, Any]:
        """Find the items, and download their files."""
        with tempfile.TemporaryDirectory(prefix="geocatalog-") as drafts:
            return self._download(context, Path(drafts))

    def _download(self, context: Context, drafts: Path) -> dict[str, Any]:
        from airflow_provider_geocatalog.asset_downloads import (
            AssetDownloads,
            ChecksumOf,
            IfFileExists,
            Signatures,
        )
        from airflow_provider_geocatalog.measures import FILES
        from airflow_provider_geocatalog.operators.credentials import mask_sas
        from airflow_provider_geocatalog.operators.submissions import Submissions

        if_exists = choice(IfFileExists, self.if_exists, "if_exists")
        checksum_of = choice(ChecksumOf, self.checksum, "checksum")
        if if_exists is IfFileExists.FAIL and Submissions(context).is_repeated:
            if_exists = IfFileExists.SKIP
        chosen, items = self._checked()
        files = _Files(self.path, self.storage_conn_id, drafts)
        client = self.hook.client
        signatures = Signatures(client, self.collection_id, duration=self.sign_duration, told=mask_sas)
        self._downloads = AssetDownloads(
            client,
            signatures,
            files,
            if_exists=if_exists,
            checksum_of=checksum_of,
            max_bytes=self.max_bytes,
            concurrency=self.concurrency,
        )
        draft = drafts / _MANIFEST
        with draft.open("wb") as out:
            result = _Result(out if self.manifest else None)
            try:
                self._downloads.run(self._files_of(items(), chosen, result), result.observe)
            except BaseException:
                out.flush()
                try:
                    self._write_manifest(draft, files)
                except Exception as error:  # what happened before is what counts
                    self.log.warning("The manifest cannot be written: %s", error)
                raise
            finally:
                self._downloads = None
                FILES.count_each(
                    result.counts, {"conn_id": self.geocatalog_conn_id, "collection_id": self.collection_id}
                )
        return self._judged(result, self._write_manifest(draft, files))

    def on_kill(self) -> None:
        """Stop; what is on disk is gone on with by the next try."""
        if self._downloads is not None:
            self._downloads.stop()

    # --- which files --------------------------------------------------------------------------------------------------

    def _checked(self) -> tuple[AssetChoice, Callable[[], Iterator[list[dict[str, Any]]]]]:
        """Return the chosen assets, and what reads the items, page by page."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
        from airflow_provider_geocatalog.api.flows.item_changes import checked_conditions
        from airflow_provider_geocatalog.api.operations.arguments import minutes
        from airflow_provider_geocatalog.api.validation import collection_id_problems, refuse
        from airflow_provider_geocatalog.asset_files import AssetChoice

        problems = collection_id_problems(self.collection_id)
        if not isinstance(self.path, str) or not self.path or "\0" in self.path:
            problems.append("path is missing")
        if (self.ids is None) == (self.search is None):
            problems.append("give either ids or search; search={} means every item of the collection")
        if self.concurrency == 0:
            problems.append("concurrency has to be 1 at least")
        given = {"assets": self.assets, "roles": self.roles, "media_types": self.media_types}
        problems += [
            f"{name} has to be a list of strings, with one at least"
            for name, value in given.items()
            if value is not None
            and (not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) for one in value))
        ]
        refuse("files cannot be downloaded", problems)
        minutes(self.sign_duration)
        chosen = AssetChoice(*(None if value is None else frozenset(value) for value in given.values()))
        if self.ids is None:
            conditions = checked_conditions(self.search)
            return chosen, lambda: self._pages_of_search(conditions)
        ids = item_ids(self.ids)
        if self.max_items is not None and len(ids) > self.max_items:
            raise GeoCatalogInvalidInput(f"there are {len(ids)} ids, but max_items is {self.max_items}")
        return chosen, lambda: self._pages_of_ids(ids)

    def _pages_of_search(self, conditions: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogConflict
        from airflow_provider_geocatalog.api.flows.ingestion import require_collection
        from airflow_provider_geocatalog.api.flows.item_changes import count_text, matching_item_ids
        from airflow_provider_geocatalog.api.operations.items import search

        self.hook.run(require_collection(self.collection_id))
        if self.max_items is not None:
            _, count = self.hook.run(matching_item_ids(self.collection_id, conditions, most=self.max_items))
            if count > self.max_items:
                raise GeoCatalogConflict(
                    f"{count_text(count, self.max_items)} items of collection {self.collection_id!r} match, but "
                    f"max_items is {self.max_items}",
                    hint="Nothing was downloaded. Narrow the search, or raise max_items.",
                )
        fields = {"include": ["id", "collection", "assets"]}
        pages = search(collections=[self.collection_id], limit=_PAGE, fields=fields, **conditions)
        while (page := self.hook.run(pages.next_page())) is not None:
            yield page

    def _pages_of_ids(self, ids: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogNotFound
        from airflow_provider_geocatalog.api.flows.ingestion import require_collection
        from airflow_provider_geocatalog.api.flows.items import items_by_id, present_items

        self.hook.run(require_collection(self.collection_id))
        present = self.hook.run(present_items(self.collection_id, ids))
        missing = [item_id for item_id in ids if item_id not in present]
        if missing:
            raise GeoCatalogNotFound(
                f"{len(missing)} items are not in collection {self.collection_id!r}: "
                f"{', '.join(missing[:_NAMED_IN_ERROR])}",
                hint="Nothing was downloaded.",
            )
        for start in range(0, len(ids), _PAGE):
            batch = ids[start : start + _PAGE]
            yield list(self.hook.run(items_by_id(self.collection_id, batch, include=["assets"])).values())

    def _files_of(
        self, pages: Iterator[list[dict[str, Any]]], chosen: AssetChoice, result: _Result
    ) -> Iterator[AssetFile]:
        from airflow_provider_geocatalog.asset_files import asset_files

        for page in pages:
            for item in page:
                files = asset_files(item, self.collection_id, chosen)
                result.items += 1
                if not files:
                    result.without += 1
                yield from files

    # --- results ------------------------------------------------------------------------------------------------------

    def _write_manifest(self, draft: Path, files: _Files) -> str | None:
        """Put the manifest where it belongs, if one is wanted."""
        from airflow_provider_geocatalog.asset_files import file_name

        if not self.manifest:
            return None
        if isinstance(self.manifest, str):
            folder, _, name = self.manifest.rpartition("/")
            destination = _Files(folder or ".", self.storage_conn_id, draft.parent)((name,))
        else:
            destination = files((file_name(self.collection_id) + _MANIFEST,))
        with destination.open(None, append=False) as out, draft.open("rb") as written:
            shutil.copyfileobj(written, out)
        destination.finish()
        return destination.path

    def _judged(self, result: _Result, manifest: str | None) -> dict[str, Any]:
        """
        Return the task's result.

        :raises GeoCatalogItemsFailed: More files failed than are tolerated.
        """
        from airflow_provider_geocatalog.api.errors import GeoCatalogItemsFailed

        if result.without:
            self.log.warning("%d of %d items have none of the assets.", result.without, result.items)
        told: dict[str, Any] = {
            "collection_id": self.collection_id,
            "items": result.items,
            "items_without_assets": result.without,
            **result.counts,
            "bytes": result.bytes,
            "files": result.files,
            "manifest": manifest,
        }
        self.log.info("Collection %r: %s files, %d bytes.", self.collection_id, result.counts, result.bytes)
        if not result.failed:
            return told
        told["failed_files"] = [file.to_json() for file in result.failed]
        for file in result.failed:
            self.log.error("Item %s, asset %s: %s", file.item_id, file.key, file.error)
        if result.counts["failed"] <= self.max_failed_files:
            return told
        named = "; ".join(str(file.error) for file in result.failed[:_NAMED_IN_ERROR])
        raise GeoCatalogItemsFailed(
            f"{result.counts['failed']} files could not be downloaded: {named}",
            hint=f"At most {self.max_failed_files} failed files are tolerated (max_failed_files); the others stay.",
            retryable=result.may_pass,
            summary=told,
        )
