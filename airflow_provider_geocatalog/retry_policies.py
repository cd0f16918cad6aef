"""A retry policy that knows the service's errors; for Airflow 3.3 and later."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogError,
    GeoCatalogOperationError,
    GeoCatalogServerError,
    GeoCatalogThrottled,
    GeoCatalogUnreachable,
    GeoCatalogWaitTimeout,
)

try:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
except ImportError as error:
    raise ImportError(
        "GeoCatalogRetryPolicy needs Airflow 3.3 or later, the first with retry policies. On earlier versions give the "
        "task 'retries' and 'retry_delay'; operators fail at once for a cause that a retry cannot mend all the same."
    ) from error

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["GeoCatalogRetryPolicy"]


@dataclass(frozen=True)
class GeoCatalogRetryPolicy(RetryPolicy):
    """
    Fail at once where a retry cannot help, and wait as long as the cause asks for where it can.

    .. code-block:: python

        from airflow_provider_geocatalog.retry_policies import GeoCatalogRetryPolicy


        @task(retries=5, retry_policy=GeoCatalogRetryPolicy())
        def list_item_ids(collection_id: str) -> list[str]:
            return [item["id"] for item in GeoCatalogHook().client.list_items(collection_id)]

    ``retries`` remains the bound. ``Retry-After`` counts more than any delay below; each further try waits twice as
    long, up to ``longest``. Exceptions that are none of this package's follow the task's own ``retry_delay``.

    :param throttled: Seconds after 429 and 408.
    :param unreachable: Seconds where no answer came: DNS, TLS, refused, timed out, cut off.
    :param server_error: Seconds after 5xx.
    :param operation: Seconds after an operation or a run that failed for a reason that may pass.
    :param timeout: Seconds after a wait whose time was over.
    :param longest: Seconds that no delay exceeds, except that of ``Retry-After``.
    """

    throttled: float = 120.0
    unreachable: float = 30.0
    server_error: float = 60.0
    operation: float = 300.0
    timeout: float = 60.0
    longest: float = 3600.0

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by the cause of a failure."""
        if not isinstance(exception, GeoCatalogError):
            return RetryDecision.default()
        cause = f"{type(exception).__name__}{f' ({exception.code})' if exception.code else ''}"
        # A time-out is no error of the service, which may have gone on.
        if not exception.retryable and not isinstance(exception, GeoCatalogWaitTimeout):
            return RetryDecision.fail(f"{cause}: a retry cannot help")
        first = self._first_delay(exception)
        if exception.retry_after:
            delay = exception.retry_after
        elif first is not None:
            delay = min(self.longest, first * 2.0 ** min(max(0, try_number - 1), 30))
        else:
            return RetryDecision.default()
        return RetryDecision.retry(timedelta(seconds=delay), f"{cause}: trying again in {delay:.0f} s")

    def _first_delay(self, error: GeoCatalogError) -> float | None:
        """Return the seconds before the second try, ``None`` for errors without a delay of their own."""
        delays = {
            GeoCatalogThrottled: self.throttled,
            GeoCatalogUnreachable: self.unreachable,
            GeoCatalogServerError: self.server_error,
            GeoCatalogOperationError: self.operation,
            GeoCatalogWaitTimeout: self.timeout,
        }
        return next((delay for kind, delay in delays.items() if isinstance(error, kind)), None)

    def serialize(self) -> dict[str, Any]:
        """Return what makes this policy again, as a JSON object."""
        return asdict(self)

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> GeoCatalogRetryPolicy:
        """Make a policy from what :meth:`serialize` returned."""
        return cls(**data)
