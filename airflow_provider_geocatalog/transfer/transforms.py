"""
What is made of items between their source and the service: small changes by name, applied in order.

A transform is any callable that takes an item and returns it changed, or ``None`` to leave it out; an argument that has
been handed to it stays as it is. Those here may be applied to what they made before without changing it any further,
so that a repair run can start from an item in either state. Their arguments are attributes of the same names, which
Airflow renders.

*Finishing* transforms (those with a true attribute ``finishing``) differ from run to run: signatures, ids of runs. They
are applied last, once it is known whether the item has changed at all.
"""

from __future__ import annotations

import functools
import inspect
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote

from airflow_provider_geocatalog.api.errors import GeoCatalogError
from airflow_provider_geocatalog.api.redaction import redact, signatures
from airflow_provider_geocatalog.api.validation import collection_id_problems, refuse
from airflow_provider_geocatalog.static_catalog import join_href
from airflow_provider_geocatalog.transfer.fingerprint import FINGERPRINT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

__all__ = [
    "DEFAULT_TRANSFORMS",
    "DYNAMIC_ASSETS",
    "KEPT_RELS",
    "SOURCE_ID",
    "SOURCE_KEY",
    "SOURCE_URL",
    "Pipeline",
    "Transform",
    "TransformError",
    "add_provenance",
    "carries_signature",
    "mask_signatures",
    "choose_assets",
    "drop_assets",
    "drop_properties",
    "drop_service_fields",
    "keep_properties",
    "make_hrefs_absolute",
    "note_source_url",
    "remove_signatures",
    "rename_assets",
    "sanitise_ids",
    "set_collection",
    "sign_hrefs",
    "strip_links",
]

#: Assets of the public catalog that are made on request, not files (geocatalog-api 7.5).
DYNAMIC_ASSETS = ("tilejson", "rendered_preview", "preview")
#: Links that say something about the data, not about the catalog that the item was in.
KEPT_RELS = ("cite-as", "derived_from", "describedby", "license", "via")
#: Properties that hold the id and the place that an item had at its source; a member of an asset with its key there.
SOURCE_ID, SOURCE_URL, SOURCE_KEY = "transfer:source_id", "transfer:source_url", "transfer:source_key"
#: What the GeoCatalog adds to items (geocatalog-api 7.5).
_SERVICE_PREFIXES = ("_msft:", "msft:_")
_SERVICE_MEMBERS = frozenset({"msft:short_description"})
#: Properties without which an item is none, or would not be known again.
_ALWAYS_KEPT = frozenset({"datetime", "start_datetime", "end_datetime", FINGERPRINT, SOURCE_ID, SOURCE_URL})

#: Parameters of a query string that are a credential by themselves, in lower case.
_CREDENTIALS = frozenset({"access_token", "api_key", "apikey", "subscription-key", "token"})
_SIGNING_PREFIXES = ("x-amz-", "x-goog-")
# fmt: off
_OF_A_SAS = frozenset({
    "sig", "se", "sp", "sv", "sr", "st", "spr", "sip", "si", "ss", "srt", "ses", "sdd", "skoid", "sktid", "skt", "ske",
    "sks", "skv", "skdutid", "saoid", "suoid", "scid", "rscc", "rscd", "rsce", "rscl", "rsct",
})
# fmt: on
#: Parameters that are part of a signature if the one that holds it is there: a SAS of Azure, and the older forms of
#: Amazon and Google.
_SIGNED_WITH = {
    "sig": _OF_A_SAS,
    "signature": frozenset({"signature", "awsaccesskeyid", "googleaccessid", "expires", "key-pair-id", "policy"}),
}
_MOST_NESTED_URLS = 3  # URLs in the query strings of URLs
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class TransformError(GeoCatalogError):
    """
    A transform cannot make anything of an item; the item is to be set aside.

    :param name: The transform.
    :param cause: What it raised, or a sentence.
    """

    def __init__(self, name: str, cause: BaseException | str) -> None:
        self.transform = name
        if isinstance(cause, str):
            super().__init__(f"{name}: {cause}")
            return
        text = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        # A signer that asks a server may have got no answer.
        retryable = cause.retryable if isinstance(cause, GeoCatalogError) else isinstance(cause, OSError)
        super().__init__(f"{name} raised {text}", retryable=retryable)


class Transform:
    """Base of the transforms here, which never change what they are given."""

    #: Whether its result differs from run to run.
    finishing: ClassVar[bool] = False
    #: Attributes that are templates, as for operators.
    template_fields: ClassVar[Sequence[str]] = ()

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return what is made of an item, which stays as it is; the item itself if there is nothing to change."""
        return self._made(item)

    def problems(self) -> list[str]:
        """Return what is wrong with its arguments, once they are rendered."""
        return self._problems()

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def _problems(self) -> list[str]:
        return []

    def __repr__(self) -> str:
        # Airflow shows this as the rendered field.
        told = ", ".join(f"{name}={_told(value)}" for name, value in vars(self).items() if value not in (None, ()))
        return f"{type(self).__name__}({told})"


class Pipeline:
    """
    Transforms in order, for items that go to one collection.

    :param collection_id: The collection, which every item gets in the end.
    :param transforms: Transforms of this module and callables of one's own; :data:`DEFAULT_TRANSFORMS` if not given.
    :raises GeoCatalogInvalidInput: Something among them is no transform, or has arguments that make no sense.
    """

    def __init__(self, collection_id: str, transforms: Sequence[Any] | None = None) -> None:
        chosen = DEFAULT_TRANSFORMS if transforms is None else transforms
        problems = collection_id_problems(collection_id)
        if isinstance(chosen, str | bytes) or not isinstance(chosen, list | tuple):
            refuse("the transforms cannot be used", [*problems, f"they are a list, not {type(chosen).__name__}"])
        for transform in chosen:
            problems += _transform_problems(transform)
        refuse("the transforms cannot be used", problems)
        all_of_them = [_Step(transform) for transform in chosen]
        last = _Step(set_collection(collection_id))
        self._content = [*(step for step in all_of_them if not step.finishing), last]
        self._finish = [step for step in all_of_them if step.finishing]
        self._removals = [_Step(transform) for transform in chosen if isinstance(transform, remove_signatures)]

    @property
    def names(self) -> list[str]:
        """The transforms by name, in the order in which they are applied."""
        return [step.name for step in (*self._content, *self._finish)]

    def content(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """
        Return what an item is made of that does not differ from run to run; ``None`` if it is left out.

        :param item: The item as its source has it; it stays as it is.
        :raises TransformError: A transform failed.
        """
        made: dict[str, Any] | None = item
        for step in self._content:
            made = step(made)
            if made is None:
                return None
        return made

    def unsigned(self, item: dict[str, Any]) -> dict[str, Any]:
        """
        Return an item of which :meth:`content` could make nothing, without what the transforms know to be secret.

        :param item: The item as its source has it; it stays as it is.
        """
        for step in self._removals:
            with suppress(TransformError):
                item = step(item) or item
        return item

    def finish(self, item: dict[str, Any]) -> dict[str, Any]:
        """
        Return an item as it is sent.

        :param item: What :meth:`content` made of it, with the fingerprint.
        :raises TransformError: A transform failed.
        """
        for step in self._finish:
            made = step(item)
            if made is None:
                raise TransformError(step.name, "a finishing transform cannot leave an item out")
            item = made
        return item

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(self.names)})"


class _Step:
    """A transform with a name, that keeps to its contract."""

    def __init__(self, transform: Callable[[dict[str, Any]], Any]) -> None:
        self.name = _name_of(transform)
        self.finishing = bool(getattr(transform, "finishing", False))
        self._transform = transform
        #: Whoever wrote it may have thought that the item is theirs to change.
        self._guarded = not isinstance(transform, Transform)

    def __call__(self, item: Any) -> dict[str, Any] | None:
        try:
            made = self._transform(_copied(item) if self._guarded else item)
        except MemoryError:
            raise
        except Exception as error:
            # Without the cause: its traceback would tell what is masked here.
            raise TransformError(self.name, error) from None
        if made is None or isinstance(made, dict):
            return made
        if inspect.iscoroutine(made):
            made.close()
        raise TransformError(self.name, f"it returned {type(made).__name__}, neither an item nor None")


def _transform_problems(transform: Any) -> list[str]:
    name = _name_of(transform)
    if inspect.isclass(transform):
        return [f"{name} is a class; call it: {name}()"]
    if not callable(transform):
        return [f"{_told(transform)} is no transform: it cannot be called"]
    call = transform.func if isinstance(transform, functools.partial) else transform
    if any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (call, type(call).__call__)):
        return [f"{name} is asynchronous; a transform is a plain function"]
    return [f"{name}: {problem}" for problem in transform.problems()] if isinstance(transform, Transform) else []


def _name_of(transform: Any) -> str:
    """Return what a callable is called, without its arguments, which may be secret."""
    if isinstance(transform, functools.partial):
        transform = transform.func
    name = getattr(transform, "__qualname__", None)
    if not isinstance(name, str):
        return type(transform).__name__
    return name.replace("<locals>.", "")


def _told(value: Any) -> str:
    """Return a value for people, without secrets."""
    if callable(value):
        return _name_of(value)
    return redact(repr(value))


def _copied(value: Any) -> Any:
    """Return a copy of a JSON value; several times faster than the library's for any value."""
    if isinstance(value, dict):
        return {name: _copied(one) if isinstance(one, dict | list) else one for name, one in value.items()}
    if isinstance(value, list):
        return [_copied(one) if isinstance(one, dict | list) else one for one in value]
    return value


# --- whole items ------------------------------------------------------------------------------------------------------


class set_collection(Transform):
    """
    Set the collection. A pipeline does so by itself in the end.

    :param collection_id: The collection.
    """

    template_fields = ("collection_id",)

    def __init__(self, collection_id: str) -> None:
        self.collection_id = collection_id

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        return item if item.get("collection") == self.collection_id else {**item, "collection": self.collection_id}

    def _problems(self) -> list[str]:
        return collection_id_problems(self.collection_id)


class drop_service_fields(Transform):
    """Drop what a GeoCatalog adds to items: ``_msft:...`` and ``msft:_...``, of the item and of its properties."""

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        item = _without(item, _is_of_the_service)
        properties = item.get("properties")
        if isinstance(properties, dict):
            kept = _without(properties, _is_of_the_service)
            if kept is not properties:
                item = {**item, "properties": kept}
        return item


def _is_of_the_service(name: Any) -> bool:
    return isinstance(name, str) and (name.startswith(_SERVICE_PREFIXES) or name in _SERVICE_MEMBERS)


def _without(members: dict[str, Any], unwanted: Callable[[Any], bool]) -> dict[str, Any]:
    """Return an object without some members; itself if it has none of them."""
    if not any(map(unwanted, members)):
        return members
    return {name: value for name, value in members.items() if not unwanted(name)}


class sanitise_ids(Transform):
    """
    Make ids that the service takes, by a rule that is given.

    The id that the item had is kept as its property :data:`SOURCE_ID`, the key that an asset had as its member
    :data:`SOURCE_KEY`. A result that is no good either is left for the check of the item.

    :param replace: What is replaced by what, in this order: ``{":": "_", "/": "-"}``.
    :param rule: A function from the id at the source to the new one, instead.
    :param asset_keys: Whether the keys of assets are treated in the same way.
    """

    template_fields = ("replace",)

    def __init__(
        self,
        replace: Mapping[str, str] | None = None,
        *,
        rule: Callable[[str], str] | None = None,
        asset_keys: bool = False,
    ) -> None:
        self.replace = replace
        self.rule = rule
        self.asset_keys = asset_keys

    def _problems(self) -> list[str]:
        if (self.replace is None) == (self.rule is None):
            return ["give either replace or rule: ids are not changed without saying how"]
        if self.rule is not None:
            return [] if callable(self.rule) else ["rule is no function"]
        pairs = self.replace.items() if isinstance(self.replace, dict) else [(None, None)]
        if not all(isinstance(old, str) and old and isinstance(new, str) for old, new in pairs):
            return ["replace is an object of texts: what is replaced, by what"]
        return []

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        item = self._with_new_id(item)
        assets = item.get("assets")
        if self.asset_keys and isinstance(assets, dict):
            renamed = _renamed(assets, self._new_key)
            if renamed is not assets:
                item = {**item, "assets": renamed}
        return item

    def _with_new_id(self, item: dict[str, Any]) -> dict[str, Any]:
        item_id, properties = item.get("id"), item.get("properties")
        if not isinstance(item_id, str):
            return item
        properties = properties if isinstance(properties, dict) else {}
        known = properties.get(SOURCE_ID)
        if isinstance(known, str) and self._new(known) == item_id:
            return item
        new = self._new(item_id)
        if new == item_id:
            return item
        return {**item, "id": new, "properties": {**properties, SOURCE_ID: item_id}}

    def _new_key(self, key: str, asset: Any) -> tuple[str, Any]:
        known = asset.get(SOURCE_KEY) if isinstance(asset, dict) else None
        if isinstance(known, str) and self._new(known) == key:
            return key, asset
        new = self._new(key)
        return new, {**asset, SOURCE_KEY: key} if new != key and isinstance(asset, dict) else asset

    def _new(self, name: str) -> str:
        if self.rule is not None:
            new = self.rule(name)
            if not isinstance(new, str):
                raise TypeError(f"the rule makes {type(new).__name__} of {name!r}, no text")
            return new
        for old, replacement in (self.replace or {}).items():
            name = name.replace(old, replacement)
        return name


# --- assets -----------------------------------------------------------------------------------------------------------


class _Selection(Transform):
    """Assets by any of: key, role, pattern of the key, media type (with or without its parameters)."""

    template_fields = ("keys", "roles", "pattern", "media_types")

    def __init__(
        self,
        keys: Collection[str] = (),
        *,
        roles: Collection[str] = (),
        pattern: str | None = None,
        media_types: Collection[str] = (),
    ) -> None:
        self.keys = keys
        self.roles = roles
        self.pattern = pattern
        self.media_types = media_types

    def _problems(self) -> list[str]:
        problems = [
            f"{name} is a list of texts"
            for name in ("keys", "roles", "media_types")
            if not _is_list_of_texts(getattr(self, name))
        ]
        problems += _pattern_problems(self.pattern)
        if not (self.keys or self.roles or self.pattern or self.media_types):
            problems.append("it says no asset: give keys, roles, pattern or media_types")
        return problems

    def selects(self, key: str, asset: Any) -> bool:
        """Return whether an asset is one of those."""
        if key in self.keys or (self.pattern and re.search(self.pattern, key)):
            return True
        if not isinstance(asset, dict):
            return False
        if self.roles:
            roles = asset.get("roles")
            if isinstance(roles, list) and any(_is_one_of(role, self.roles) for role in roles):
                return True
        if self.media_types:
            kind = asset.get("type")
            if isinstance(kind, str) and {kind, kind.partition(";")[0].strip()} & set(self.media_types):
                return True
        return False


class drop_assets(_Selection):
    """
    Drop assets that have any of these; without arguments :data:`DYNAMIC_ASSETS`, which are no files.

    :param keys: Their keys.
    :param roles: Their roles.
    :param pattern: A regular expression that is searched in their keys.
    :param media_types: Their types, with or without parameters.
    """

    def __init__(
        self,
        keys: Collection[str] = (),
        *,
        roles: Collection[str] = (),
        pattern: str | None = None,
        media_types: Collection[str] = (),
    ) -> None:
        some = keys or roles or pattern or media_types
        super().__init__(keys if some else DYNAMIC_ASSETS, roles=roles, pattern=pattern, media_types=media_types)

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        return _with_assets(item, lambda key, asset: not self.selects(key, asset))


class choose_assets(_Selection):
    """
    Keep only assets that have any of these.

    :param keys: Their keys.
    :param roles: Their roles.
    :param pattern: A regular expression that is searched in their keys.
    :param media_types: Their types, with or without parameters.
    """

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        return _with_assets(item, self.selects)


def _with_assets(item: dict[str, Any], wanted: Callable[[str, Any], bool]) -> dict[str, Any]:
    assets = item.get("assets")
    if not isinstance(assets, dict):
        return item
    kept = {key: asset for key, asset in assets.items() if wanted(key, asset)}
    return item if len(kept) == len(assets) else {**item, "assets": kept}


class rename_assets(Transform):
    """
    Give assets other keys.

    :param names: New keys by the present ones.
    """

    template_fields = ("names",)

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def _problems(self) -> list[str]:
        names = self.names if isinstance(self.names, dict) else None
        if not names or not all(isinstance(one, str) for pair in names.items() for one in pair):
            return ["names is an object of texts: new keys by the present ones"]
        # Applied twice, they would change places again.
        return [f"{new!r} is both a new key and one that is replaced" for new in names.values() if new in names]

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        assets = item.get("assets")
        if not isinstance(assets, dict):
            return item
        renamed = _renamed(assets, lambda key, asset: (self.names.get(key, key), asset))
        return item if renamed is assets else {**item, "assets": renamed}


def _renamed(assets: dict[str, Any], new: Callable[[str, Any], tuple[str, Any]]) -> dict[str, Any]:
    """Return assets with other keys; themselves if none changes. Two of the same key would be one asset less."""
    renamed: dict[str, Any] = {}
    for key, asset in assets.items():
        new_key, new_asset = new(key, asset)
        if new_key in renamed:
            raise ValueError(f"two assets would have the key {new_key!r}")
        renamed[new_key] = new_asset
    return assets if list(renamed) == list(assets) else renamed


# --- properties -------------------------------------------------------------------------------------------------------


class drop_properties(Transform):
    """
    Drop properties; those that make an item what it is stay, such as its time.

    :param names: Their names.
    :param pattern: A regular expression that is searched in their names.
    """

    template_fields = ("names", "pattern")

    def __init__(self, names: Collection[str] = (), *, pattern: str | None = None) -> None:
        self.names = names
        self.pattern = pattern

    def _problems(self) -> list[str]:
        problems = [] if _is_list_of_texts(self.names) else ["names is a list of texts"]
        problems += _pattern_problems(self.pattern)
        return problems if self.names or self.pattern else [*problems, "give names or a pattern"]

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        properties = item.get("properties")
        if not isinstance(properties, dict):
            return item
        kept = _without(properties, lambda name: name not in _ALWAYS_KEPT and self._is_unwanted(name))
        return item if kept is properties else {**item, "properties": kept}

    def _is_named(self, name: str) -> bool:
        return name in self.names or bool(self.pattern and re.search(self.pattern, name))

    _is_unwanted = _is_named


class keep_properties(drop_properties):
    """
    Drop all other properties, but those that make an item what it is, such as its time.

    :param names: The names of those that stay.
    :param pattern: A regular expression that is searched in their names.
    """

    def _is_unwanted(self, name: str) -> bool:
        return not self._is_named(name)


class note_source_url(Transform):
    """
    Keep the URL that the item has at its source (its ``self`` link) as a property; to be put before links are dropped.

    :param name: The property.
    """

    template_fields = ("name",)

    def __init__(self, name: str = SOURCE_URL) -> None:
        self.name = name

    def _problems(self) -> list[str]:
        return [] if isinstance(self.name, str) and self.name else ["name is the name of a property"]

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        url = _self_url(item)
        if url is None:
            return item
        properties = item.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        return {**item, "properties": {**properties, self.name: _without_signature(url)}}


class add_provenance(Transform):
    """
    Set properties that tell where an item comes from: ``add_provenance(**{"transfer:run_id": "{{ run_id }}"})``.

    They are set after it is known whether the item has changed, so that another run's values change nothing.

    :param properties: Values by name.
    """

    finishing = True
    template_fields = ("properties",)

    def __init__(self, **properties: Any) -> None:
        self.properties = properties

    def _problems(self) -> list[str]:
        problems = [] if self.properties else ["it says no property"]
        return problems + [f"{name!r} is not for it to set" for name in self.properties if name in _ALWAYS_KEPT]

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        properties = item.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        return {**item, "properties": {**properties, **_copied(self.properties)}}


# --- links and hrefs --------------------------------------------------------------------------------------------------


class strip_links(Transform):
    """
    Drop links into the catalog that the item was in; the service makes its own.

    :param keep_rels: The relations of links that stay.
    """

    template_fields = ("keep_rels",)

    def __init__(self, keep_rels: Collection[str] = KEPT_RELS) -> None:
        self.keep_rels = keep_rels

    def _problems(self) -> list[str]:
        return [] if _is_list_of_texts(self.keep_rels) else ["keep_rels is a list of texts"]

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        links = item.get("links")
        if links is None:
            return {**item, "links": []}  # an item without them is none
        if not isinstance(links, list):
            return item
        kept = [link for link in links if isinstance(link, dict) and _is_one_of(link.get("rel"), self.keep_rels)]
        return item if len(kept) == len(links) else {**item, "links": kept}


class make_hrefs_absolute(Transform):
    """
    Make relative hrefs of assets and links absolute; to be put before links are dropped.

    An href that cannot be made absolute stays for the check of the item to say.

    :param base: The URL that they are relative to, with a slash at its end if it is a folder's; by default that of the
        item itself, its ``self`` link.
    """

    template_fields = ("base",)

    def __init__(self, base: str | None = None) -> None:
        self.base = base

    def _problems(self) -> list[str]:
        good = self.base is None or (isinstance(self.base, str) and _ABSOLUTE.match(self.base))
        return [] if good else [f"base is no URL: {self.base!r}"]

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        base = self.base or _self_url(item)
        if base is None:
            return item

        def absolute(href: str) -> str:
            if _ABSOLUTE.match(href) or not href:
                return href
            try:
                return join_href(base, href)
            except ValueError:
                return href

        return _with_hrefs(item, absolute)


def _self_url(item: dict[str, Any]) -> str | None:
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "self":
            href = link.get("href")
            if isinstance(href, str) and _ABSOLUTE.match(href):
                return href
    return None


class remove_signatures(Transform):
    """
    Remove signatures and tokens from the hrefs of assets and links: a SAS of Azure, what Amazon and Google sign with,
    subscription keys.

    :param parameters: Further parameters of query strings that are secret.
    """

    template_fields = ("parameters",)

    def __init__(self, parameters: Collection[str] = ()) -> None:
        self.parameters = parameters

    def _problems(self) -> list[str]:
        return [] if _is_list_of_texts(self.parameters) else ["parameters is a list of texts"]

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        also = frozenset(map(str.lower, self.parameters))
        return _with_hrefs(item, lambda href: _without_signature(href, also) if "?" in href else href)


def carries_signature(href: str) -> bool:
    """Return whether a URL carries a signature or a token."""
    return ("?" in href and _without_signature(href) != href) or bool(signatures(href))


def mask_signatures(value: Any) -> Any:
    """Return a JSON value with the signatures in its texts masked."""
    if isinstance(value, str):
        return redact(value) if carries_signature(value) else value
    if isinstance(value, dict):
        return {mask_signatures(name): mask_signatures(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [mask_signatures(one) if isinstance(one, str | dict | list | tuple) else one for one in value]
    return value


def _without_signature(href: str, also: Collection[str] = (), depth: int = _MOST_NESTED_URLS) -> str:
    start, _, rest = href.partition("?")
    query, hash_mark, fragment = rest.partition("#")
    pairs = query.split("&")
    names = [unquote(pair.partition("=")[0]).lower() for pair in pairs]
    secret = {*_CREDENTIALS, *also}
    for holder, parameters in _SIGNED_WITH.items():
        if holder in names:
            secret |= parameters
    kept = []
    for name, pair in zip(names, pairs, strict=True):
        if name not in secret and not name.startswith(_SIGNING_PREFIXES):
            kept.append(_with_unsigned_value(pair, also, depth) if depth and "%3f" in pair.lower() else pair)
    if kept == pairs:
        return href
    return start + ("?" if kept else "") + "&".join(kept) + hash_mark + fragment


def _with_unsigned_value(pair: str, also: Collection[str], depth: int) -> str:
    """Return a parameter whose value is a URL, without the signature in that."""
    name, equals, value = pair.partition("=")
    url = unquote(value)
    cleaned = _without_signature(url, also, depth - 1)
    return pair if cleaned == url else name + equals + quote(cleaned, safe="")


class sign_hrefs(Transform):
    """
    Sign the hrefs of assets, for sources that the service cannot read otherwise. They stay in no fingerprint.

    :param signer: A function from an href to a signed one, such as ``planetary_computer.sign_url``.
    :param keys: The assets; all by default.
    :param whole_items: Whether the signer takes the item instead, and returns it signed.
    """

    finishing = True
    template_fields = ("keys",)

    def __init__(
        self, signer: Callable[[Any], Any], *, keys: Collection[str] | None = None, whole_items: bool = False
    ) -> None:
        self.signer = signer
        self.keys = keys
        self.whole_items = whole_items

    def _problems(self) -> list[str]:
        problems = [] if callable(self.signer) else ["signer is no function"]
        if self.keys is not None and not _is_list_of_texts(self.keys):
            problems.append("keys is a list of texts")
        if self.keys is not None and self.whole_items:
            problems.append("a signer of whole items chooses the assets itself: leave keys out")
        return problems

    def _made(self, item: dict[str, Any]) -> dict[str, Any]:
        if self.whole_items:
            signed = self.signer(_copied(item))
            if not isinstance(signed, dict):
                raise TypeError(f"the signer returned {type(signed).__name__}, no item")
            return signed
        return _with_hrefs(item, self._signed, keys=self.keys, links=False)

    def _signed(self, href: str) -> str:
        signed = self.signer(href)
        if not isinstance(signed, str) or not signed:
            raise TypeError(f"the signer returned {type(signed).__name__}, no URL")
        return signed


def _with_hrefs(
    item: dict[str, Any], change: Callable[[str], str], *, keys: Collection[str] | None = None, links: bool = True
) -> dict[str, Any]:
    """Return an item with the hrefs of assets (of their alternates too) and links changed; itself if none changes."""
    changed: dict[str, Any] = {}
    assets = item.get("assets")
    if isinstance(assets, dict):
        new = {
            key: _with_href(asset, change) if keys is None or key in keys else asset for key, asset in assets.items()
        }
        if any(new[key] is not asset for key, asset in assets.items()):
            changed["assets"] = new
    found = item.get("links")
    if links and isinstance(found, list):
        with_new = [_with_href(link, change) for link in found]
        if any(one is not link for one, link in zip(with_new, found, strict=True)):
            changed["links"] = with_new
    return {**item, **changed} if changed else item


def _with_href(holder: Any, change: Callable[[str], str], *, alternates: bool = True) -> Any:
    if not isinstance(holder, dict):
        return holder
    changed: dict[str, Any] = {}
    href = holder.get("href")
    if isinstance(href, str):
        new = change(href)
        if new != href:
            changed["href"] = new
    others = holder.get("alternate") if alternates else None
    if isinstance(others, dict):
        changed["alternate"] = {name: _with_href(one, change, alternates=False) for name, one in others.items()}
    return {**holder, **changed} if changed else holder


# --- arguments --------------------------------------------------------------------------------------------------------


def _is_one_of(value: Any, texts: Collection[str]) -> bool:
    return isinstance(value, str) and value in texts


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(one, str) for one in value)


def _pattern_problems(pattern: Any) -> list[str]:
    if pattern is None:
        return []
    if not isinstance(pattern, str):
        return [f"pattern is a text, not {type(pattern).__name__}"]
    try:
        re.compile(pattern)
    except re.error as error:
        return [f"pattern is no regular expression: {error}"]
    return []


#: What is done where nothing else is said: an item without its catalog's links, the assets that are no files, what a
#: service adds, and any signature, with hrefs that lead somewhere from anywhere.
DEFAULT_TRANSFORMS: tuple[Transform, ...] = (
    make_hrefs_absolute(),
    strip_links(),
    drop_assets(),
    remove_signatures(),
    drop_service_fields(),
)
