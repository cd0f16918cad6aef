"""Render options, mosaics and tile settings of a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.operators.base import GeoCatalogOperator, GeoCatalogPlanningOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

__all__ = ["GeoCatalogConfigureCollectionOperator"]

#: How the files of a configuration folder begin (published sample datasets name them ``render_config.json`` or
#: ``render_configuration.json``).
_FILE_PREFIXES = {"render_options": "render", "mosaics": "mosaic", "tile_settings": "tile"}


class GeoCatalogConfigureCollectionOperator(GeoCatalogPlanningOperator):
    """
    Bring a collection's render options, mosaics and tile settings in line with what is given.

    What is not given is left alone; what is the same already is not written, so a second run writes nothing.

    :param collection_id: The collection.
    :param render_options: List of render options: a list, JSON text, or a path or URL of a JSON document.
    :param mosaics: List of mosaics, in the same forms.
    :param tile_settings: Tile settings, in the same forms.
    :param config_folder: Path or URL of a folder with any of ``render*.json``, ``mosaic*.json`` and ``tile*.json``,
        readable by Airflow's object storage paths; used for what is not given otherwise.
    :param prune: Remove render options and mosaics that are not given.
    :param dry_run: Send nothing that changes anything; log and return what would be written.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: Lists of what was ``created``, ``replaced``, ``unchanged`` and ``removed``, as XCom. Of a dry run of what
        would be, with ``dry_run`` and ``plan``.
    :raises GeoCatalogInvalidInput: Everything that is wrong, at once; nothing was sent.
    :raises GeoCatalogNotFound: There is no such collection.
    """

    template_fields: Sequence[str] = (
        "collection_id",
        "render_options",
        "mosaics",
        "tile_settings",
        "config_folder",
        *GeoCatalogOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "render_options": "json",
        "mosaics": "json",
        "tile_settings": "json",
    }

    def __init__(
        self,
        *,
        collection_id: str,
        render_options: Sequence[Mapping[str, Any]] | str | None = None,
        mosaics: Sequence[Mapping[str, Any]] | str | None = None,
        tile_settings: Mapping[str, Any] | str | None = None,
        config_folder: str | None = None,
        prune: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.render_options = render_options
        self.mosaics = mosaics
        self.tile_settings = tile_settings
        self.config_folder = config_folder
        self.prune = prune

    def _execute(self, context: Context) -> dict[str, Any]:
        """Make the writes that are needed."""
        from airflow_provider_geocatalog.api import validation
        from airflow_provider_geocatalog.api.flows.configuration import configure_collection
        from airflow_provider_geocatalog.operators.documents import load_document

        given: dict[str, Any] = {name: getattr(self, name) for name in _FILE_PREFIXES}
        if self.config_folder:
            given = {**_find_documents(self.config_folder), **{k: v for k, v in given.items() if v is not None}}
        wanted = {
            name: load_document(value, name.replace("_", " ")) for name, value in given.items() if value is not None
        }
        checks = {
            "render_options": validation.render_option_problems,
            "mosaics": validation.mosaic_problems,
            "tile_settings": validation.tile_settings_problems,
        }
        problems = validation.collection_id_problems(self.collection_id)
        for name, value in wanted.items():
            problems += checks[name](value)
        validation.refuse(f"the configuration of collection {self.collection_id!r} cannot be sent", problems)
        change = self._carry_out(configure_collection(self.collection_id, **wanted, prune=self.prune))
        summary = change.to_json()
        self.log.info(
            "%sCollection %r: %s.",
            "It would be: " if self._is_dry_run else "",
            self.collection_id,
            "; ".join(f"{action} {', '.join(names)}" for action, names in summary.items() if names)
            or "there was nothing to configure",
        )
        return self._told({"collection_id": self.collection_id, **summary})


def _find_documents(folder: str) -> dict[str, str]:
    """Return the paths of a configuration folder's documents by argument name."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

    try:
        paths = sorted((str(path) for path in ObjectStoragePath(folder).iterdir()), key=str)
    except (OSError, ValueError, ImportError) as error:
        raise GeoCatalogInvalidInput(f"the configuration folder {folder} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for name, prefix in _FILE_PREFIXES.items():
        fitting = [p for p in paths if (base := p.rsplit("/", 1)[-1]).startswith(prefix) and base.endswith(".json")]
        if len(fitting) > 1:
            raise GeoCatalogInvalidInput(f"the configuration folder {folder} has several {prefix}*.json: {fitting}")
        if fitting:
            found[name] = fitting[0]
    if not found:
        raise GeoCatalogInvalidInput(f"the configuration folder {folder} has no render*, mosaic* or tile*.json")
    return found
