"""
Faults that tests have the emulator commit: which requests, operations and items they strike, and how often.

A rule is written the same way in Python (:meth:`Faults.add`) and in JSON (``POST /_emulator/faults``): the name of its
effect, and options. What rules do to answers is in ``faulty_answers``; what they do to operations in ``engine`` and
``runs``.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.fault_codes import FAULT_CODES
from airflow_provider_geocatalog.emulator.auth import issued_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_geocatalog.emulator.clock import Clock
    from airflow_provider_geocatalog.emulator.state import Operation

__all__ = ["METHODS", "OPERATION_TYPES", "RULES", "Fault", "Faults", "OperationRule", "RequestRule", "Rule", "Strike"]

_REMEMBERED_TOKENS = 10_000
_LONGEST = 3600.0  # seconds of the machine that an answer can be held up
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OPERATION_TYPES = (
    *("AddCollection", "DeleteCollection", "AddItem", "UpdateItem", "DeleteItem"),
    *("IngestionStaticCatalog", "IngestionStacGeoparquet", "DeleteIngestion"),
)
_SHOWN_PROBLEMS = 3


def _as_tuple(value: Any) -> Any:
    """Take one name for a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list | set | frozenset) else value


def _among(known: Mapping[str, Any] | tuple[str, ...]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    def check(names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"{', '.join(map(repr, unknown))} not among {', '.join(known)}")
        return names

    return check


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


def _code(code: str) -> str:
    if code not in FAULT_CODES:
        raise ValueError(f"{code!r} is not among the documented codes: {', '.join(FAULT_CODES)}")
    return code


def _header(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("a header holds printable ASCII characters only")
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Regex = Annotated[str, AfterValidator(_regex)]
Code = Annotated[str, AfterValidator(_code)]
Header = Annotated[str, AfterValidator(_header)]
Seconds = Annotated[float, Field(ge=0, le=_LONGEST, allow_inf_nan=False)]


class Rule(BaseModel):
    """
    What every rule says. The matches that it counts are those of all its other conditions.

    :param skip: Matches that are let off first.
    :param nth: The only match that is struck, counted from 1.
    :param times: How many matches are struck; without it all are.
    :param probability: Share of the matches that is struck.
    :param seed: Makes what ``probability`` chooses repeatable.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    effect: ClassVar[str]

    skip: int = Field(0, ge=0)
    nth: int | None = Field(None, ge=1)
    times: int | None = Field(None, ge=1)
    probability: float = Field(1.0, gt=0, le=1)
    seed: int = 0


# --- requests -------------------------------------------------------------------------------------------------------


class RequestRule(Rule):
    """
    A rule about requests; without conditions every request matches, but those to ``/_emulator/``.

    :param operations: Names of operations, as the client's methods have them.
    :param methods: HTTP methods.
    :param path: Regular expression, found anywhere in the path.
    """

    operations: Annotated[Names, AfterValidator(_among(ENDPOINTS))] = ()
    methods: Annotated[Names, AfterValidator(_among(METHODS))] = ()
    path: Regex | None = None
    api_versions: Annotated[Names, AfterValidator(_among(DIALECTS))] = ()

    def matches(self, request: AskedRequest) -> bool:
        """Return whether it is about a request."""
        return (
            (not self.operations or request.operation in self.operations)
            and (not self.methods or request.method in self.methods)
            and (not self.api_versions or request.api_version in self.api_versions)
            and (self.path is None or re.search(self.path, request.path) is not None)
        )


class Latency(RequestRule):
    """
    The answer comes late. Other rules strike the request as well.

    :param seconds: Of the machine, not of the emulator's clock: it is the client that waits.
    :param handled: Whether the request is handled before the wait.
    """

    effect = "latency"
    seconds: Seconds
    handled: bool = False


class Status(RequestRule):
    """
    An HTTP error.

    :param retry_after: Seconds for the header ``Retry-After``; without it there is no such header (10.2).
    :param retry_after_form: How they are written: as seconds, or as the date when they have passed.
    :param body: ``service``: as the service answers (401 without a body, all else in envelope A); ``problem``:
        envelope B; or what a gateway answers.
    :param code: Error code of ``service``.
    :param headers: Further ones.
    :param handled: Whether the request is handled before, as behind a gateway that lost patience.
    """

    effect = "status"
    status: int = Field(ge=400, le=599)
    retry_after: Seconds | None = None
    retry_after_form: Literal["seconds", "date"] = "seconds"
    body: Literal["service", "problem", "empty", "html"] = "service"
    code: Header | None = None
    message: str | None = None
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9\-]+$")], Header] = Field(default_factory=dict)
    handled: bool = False


class Drop(RequestRule):
    """
    The connection ends without an answer.

    :param handled: Whether the request is handled before: its effect stays, and the client does not know.
    """

    effect = "drop"
    handled: bool = False


class Truncate(RequestRule):
    """
    The request is handled, but the connection ends within the answer's body.

    :param keep: Share of the body that is sent.
    :param chunked: Whether its length is not announced, but the last chunk is missing.
    """

    effect = "truncate"
    keep: float = Field(0.5, ge=0, lt=1)
    chunked: bool = False


class Html(RequestRule):
    """
    Somebody else answers with a page, as a proxy or a sign-in does.

    :param handled: Whether the request is handled before.
    """

    effect = "html"
    status: int = Field(200, ge=200, le=299)
    handled: bool = False


class ContentType(RequestRule):
    """The right answer under another media type."""

    effect = "content_type"
    content_type: Header = "text/plain"


class Drip(RequestRule):
    """
    The answer comes in small pieces, and the connection ends with it.

    :param seconds: Of the machine, between two pieces.
    :param size: Bytes of a piece.
    :param part: What comes in pieces.
    """

    effect = "drip"
    seconds: Seconds = 0.05
    size: int = Field(1, ge=1)
    part: Literal["headers", "body"] = "body"


class ExpireTokens(RequestRule):
    """
    Tokens that were used before the rule was made are answered with 401, and so are JSON Web Tokens issued before.

    :param issued_before: Epoch seconds; without it the second in which the rule was made.
    """

    effect = "expire_tokens"
    issued_before: float | None = Field(None, ge=0, allow_inf_nan=False)


# --- operations -----------------------------------------------------------------------------------------------------


class OperationRule(Rule):
    """
    A rule about long-running operations; without conditions every operation matches.

    :param types: Types of operations.
    :param collections: Ids of collections.
    :param operation_ids: Ids of operations, which are those of runs.
    """

    types: Annotated[Names, AfterValidator(_among(OPERATION_TYPES))] = ()
    collections: Names = ()
    operation_ids: Names = ()

    def concerns(self, operation: Operation) -> bool:
        """Return whether it is about an operation."""
        return (
            (not self.types or operation.type in self.types)
            and (not self.collections or operation.collection_id in self.collections)
            and (not self.operation_ids or operation.id in self.operation_ids)
        )


class FailItems(OperationRule):
    """
    Items of item operations and runs fail. What ``probability`` chooses depends on the item's id and the seed alone.

    :param items: Ids of items.
    :param item_pattern: Regular expression for the whole of an item's id.
    :param code: One of the documented ingestion error codes (10.3).
    """

    effect = "fail_items"
    items: Names = ()
    item_pattern: Regex | None = None
    code: Code = "GenericIngestionError"
    message: str = "The emulator was told to fail this item."

    def concerns_item(self, operation: Operation, item_id: str | None) -> bool:
        """Return whether it is about an item."""
        return (
            self.concerns(operation)
            and (not self.items or item_id in self.items)
            and (self.item_pattern is None or re.fullmatch(self.item_pattern, item_id or "") is not None)
        )


class Hold(OperationRule):
    """
    Operations stay in a status until the rule is removed.

    :param status: ``Canceling`` is what was seen to last for hours (6.2).
    :param seconds: How long it holds at most, on the emulator's clock.
    """

    effect = "hold"
    status: Literal["Pending", "Running", "Canceling"] = "Pending"
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)


class ShowStatus(OperationRule):
    """
    Operations are shown in another status than they are in. Every time that one is shown is a match.

    :param word: What is shown.
    :param instead_of: The statuses that it hides; without it all that are not final.
    :param seconds: How long after an operation was created, on the emulator's clock.
    """

    effect = "show_status"
    word: str
    instead_of: Names = ()
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)


class ShowHistory(OperationRule):
    """
    The status history has another word. Every time that one is shown is a match.

    :param instead_of: The words that it replaces; without it, it is added before the last entry.
    """

    effect = "show_history"
    word: str
    instead_of: Names = ()


class LoseCancel(OperationRule):
    """Asking to cancel is accepted, but comes too late: the operation goes on to its end."""

    effect = "lose_cancel"


class EndOperation(OperationRule):
    """
    Operations that were not cancelled end in a status, whatever became of their items.

    :param code: Error code of a failure.
    """

    effect = "end_operation"
    status: Literal["Succeeded", "Failed"]
    code: Code = "GenericIngestionError"
    message: str = "The emulator was told to fail this operation."


RULES: dict[str, type[Rule]] = {
    rule.effect: rule
    for rule in (
        *(Latency, Status, Drop, Truncate, Html, ContentType, Drip, ExpireTokens),
        *(FailItems, Hold, ShowStatus, ShowHistory, LoseCancel, EndOperation),
    )
}

_R = TypeVar("_R", bound=OperationRule)


# --- the controller -------------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """
    A rule in force.

    :param matches: How often its conditions were met.
    :param hits: How often it struck.
    """

    id: str
    rule: Rule
    matches: int = 0
    hits: int = 0
    _random: random.Random = field(default_factory=random.Random, repr=False)
    _tokens: frozenset[int] = field(default=frozenset(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return what the control API tells of it: only the options that were given."""
        options = self.rule.model_dump(mode="json", exclude_unset=True)
        return {"id": self.id, "effect": self.rule.effect, **options, "matches": self.matches, "hits": self.hits}


@dataclass(frozen=True)
class AskedRequest:
    """
    What rules look at in a request.

    :param operation: Name of the endpoint that it is for, if there is one.
    :param token: Its bearer token.
    """

    method: str
    path: str
    operation: str | None
    api_version: str
    token: str


@dataclass(frozen=True)
class Strike:
    """
    What happens to one request.

    :param before: Seconds to wait before it is handled.
    :param after: Seconds to wait between handling and answering.
    :param fault: What becomes of the answer.
    """

    before: float = 0.0
    after: float = 0.0
    fault: Fault | None = None


class Faults:
    """
    The rules in force, in the order in which they were made; they can change at any time, from any thread.

    :param clock: The emulator's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._faults: dict[str, Fault] = {}
        self._used_tokens: set[int] = set()  # hashes
        self._on_removal: list[Callable[[], None]] = []
        #: Whether there are rules of a kind; read without the lock, for every request and item.
        self.on_requests = self.on_operations = False

    # --- setting ------------------------------------------------------------------------------------------------

    def add(self, effect: str, /, **options: Any) -> Fault:
        """
        Make a rule.

        :param effect: One of :data:`RULES`.
        :param options: Those of the rule's class.
        :raises ValueError: There is no such effect, or an option is wrong.
        """
        if effect not in RULES:
            raise ValueError(f"'effect' has to be one of {', '.join(RULES)}, not {effect!r}")
        try:
            rule = RULES[effect].model_validate(options)
        except ValidationError as error:
            raise ValueError(f"{effect}: {_problems(error)}") from error
        with self._lock:
            fault = Fault(f"fault-{next(self._numbers)}", rule, _random=random.Random(rule.seed))
            if isinstance(rule, ExpireTokens):
                fault._tokens = frozenset(self._used_tokens)
                if rule.issued_before is None:
                    fault.rule = rule.model_copy(update={"issued_before": float(int(self._clock.now()))})
            self._faults = {**self._faults, fault.id: fault}
            self._look()
        return fault

    def remove(self, fault: Fault | str) -> bool:
        """Remove a rule, and let go what it holds; tell whether it was there."""
        fault_id = fault if isinstance(fault, str) else fault.id
        with self._lock:
            found = fault_id in self._faults
            self._faults = {one.id: one for one in self._faults.values() if one.id != fault_id}
            self._look()
        self._tell()
        return found

    def clear(self) -> None:
        """Remove every rule, and let go what they hold."""
        with self._lock:
            self._faults = {}
            self._look()
        self._tell()

    def get(self, fault_id: str) -> Fault | None:
        """Return a rule by its id."""
        return self._faults.get(fault_id)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults.values())

    def __len__(self) -> int:
        return len(self._faults)

    def _look(self) -> None:
        rules = [fault.rule for fault in self._faults.values()]
        self.on_requests = any(isinstance(rule, RequestRule) for rule in rules)
        self.on_operations = any(isinstance(rule, OperationRule) for rule in rules)

    def on_removal(self, listener: Callable[[], None]) -> None:
        """Have somebody told, without a lock held, that rules were removed."""
        self._on_removal.append(listener)

    def _tell(self) -> None:
        for listener in self._on_removal:
            listener()

    # --- striking -----------------------------------------------------------------------------------------------

    def saw_token(self, token: str) -> None:
        """Remember, not readably, that a token was accepted."""
        if len(self._used_tokens) < _REMEMBERED_TOKENS:
            self._used_tokens.add(hash(token))

    def strike(self, request: AskedRequest) -> Strike | None:
        """Return what happens to a request: every latency that matches, and the first of the other rules."""
        before = after = 0.0
        struck = None
        with self._lock:
            for fault in self._faults.values():
                rule = fault.rule
                if not isinstance(rule, RequestRule) or not rule.matches(request):
                    continue
                if isinstance(rule, ExpireTokens) and not _is_expired(fault, rule, request.token):
                    continue
                if isinstance(rule, Latency):
                    if _hits(fault):
                        before, after = before + rule.seconds * (not rule.handled), after + rule.seconds * rule.handled
                elif struck is None and _hits(fault):
                    struck = fault
        return Strike(before, after, struck) if before or after or struck else None

    def failure_of(self, operation: Operation, item_id: str | None) -> FailItems | None:
        """Return the rule that fails an item."""
        if not self.on_operations:
            return None
        with self._lock:
            for fault in self._faults.values():
                rule = fault.rule
                if isinstance(rule, FailItems) and rule.concerns_item(operation, item_id) and _hits(fault, item_id):
                    return rule
        return None

    def hold_of(self, operation: Operation, status: str) -> tuple[str, float | None] | None:
        """Return the id of the rule that holds an operation in a status, and for how long."""
        found = self._first(Hold, operation, lambda rule: rule.status == status)
        return (found[0].id, found[1].seconds) if found else None

    def loses_cancel(self, operation: Operation) -> bool:
        """Return whether the cancellation of an operation comes too late."""
        return self._first(LoseCancel, operation) is not None

    def end_of(self, operation: Operation) -> EndOperation | None:
        """Return the rule that says how an operation ends."""
        found = self._first(EndOperation, operation)
        return found[1] if found else None

    def shown_status(self, operation: Operation, status: str) -> str:
        """Return the status in which an operation is shown."""

        def hides(rule: ShowStatus) -> bool:
            if rule.seconds is not None and self._clock.now() - operation.created >= rule.seconds:
                return False
            return status in rule.instead_of if rule.instead_of else not operation.is_final

        found = self._first(ShowStatus, operation, hides)
        return found[1].word if found else status

    def shown_history(self, operation: Operation, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the status history that is shown of an operation."""
        found = self._first(ShowHistory, operation)
        if found is None or not history:
            return history
        word, replaced = found[1].word, found[1].instead_of
        if replaced:
            return [{**one, "status": word} if one["status"] in replaced else one for one in history]
        return [*history[:-1], {**history[-1], "status": word}, history[-1]]

    def _first(
        self, kind: type[_R], operation: Operation, also: Callable[[_R], bool] = lambda rule: True
    ) -> tuple[Fault, _R] | None:
        if not self.on_operations:
            return None
        with self._lock:
            for fault in self._faults.values():
                rule = fault.rule
                if isinstance(rule, kind) and rule.concerns(operation) and also(rule) and _hits(fault):
                    return fault, rule
        return None


def _hits(fault: Fault, item_id: str | None = None) -> bool:
    """Count a match, and decide whether it is struck."""
    fault.matches += 1
    rule = fault.rule
    if fault.matches <= rule.skip or (rule.nth is not None and fault.matches != rule.nth):
        return False
    if rule.times is not None and fault.hits >= rule.times:
        return False
    if rule.probability < 1:
        # An item meets the same fate in every run and in whatever order items come.
        chance = fault._random if item_id is None else random.Random(f"{rule.seed} {item_id}")
        if chance.random() >= rule.probability:
            return False
    fault.hits += 1
    return True


def _is_expired(fault: Fault, rule: ExpireTokens, token: str) -> bool:
    if not token:
        return False
    issued = issued_at(token)
    return hash(token) in fault._tokens or (issued is not None and issued < (rule.issued_before or 0.0))


def _problems(error: ValidationError) -> str:
    return "; ".join(_problem(one) for one in error.errors(include_url=False)[:_SHOWN_PROBLEMS])


def _problem(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    said = str(detail["msg"]).removeprefix("Value error, ")
    said = "no such option" if detail["type"] == "extra_forbidden" else said[:1].lower() + said[1:]
    return f"'{where}': {said}" if where else said
