"""
The service's ingestion error codes: whether the cause may pass by itself, what they mean, what to do.

Source: *Error codes for ingestion*, Planetary Computer Pro documentation, 06/2025 (35 codes).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CANCELED", "FAULT_CODES", "NOT_THERE", "TAKEN", "TOO_MANY", "FaultCode", "fault_code"]

#: Codes that decide what is done next.
CANCELED = "CanceledOperation"
TAKEN = "ItemAlreadyExistsInCollection"
TOO_MANY = "PostItemCollectionSizeExceeded"
NOT_THERE = frozenset({"NoRecordsToUpdate", "NoRecordsToPatch", "NoRecordsToDelete"})


@dataclass(frozen=True)
class FaultCode:
    """
    What an ingestion error code says.

    :param code: The code on the wire.
    :param transient: Whether the same work can succeed later without anybody changing anything.
    :param meaning: What happened.
    :param action: What to do.
    """

    code: str
    transient: bool
    meaning: str
    action: str


_ASSET = "Look at the asset file; repair or leave it out."
_LATER = "Run it again later."
_ACCESS = "Check the ingestion source of the container: its token's expiry and its permissions (read and list)."

FAULT_CODES: dict[str, FaultCode] = {
    fault.code: fault
    for fault in (
        FaultCode("AssetTransformationError", False, "converting an asset failed", _ASSET),
        FaultCode("CanceledOperation", False, "the operation was cancelled", "Run it again if that was not meant."),
        FaultCode("CogTransformationError", False, "converting to Cloud Optimized GeoTIFF failed", _ASSET),
        FaultCode("CogTransformationTimeout", False, "converting ran out of time", "Split or convert the large file."),
        FaultCode("CollectionDoesNotExist", False, "the target collection is missing", "Create it upstream."),
        FaultCode("EmptyAsset", False, "an asset file has zero bytes", _ASSET),
        FaultCode("ErrorsInBatchOperation", False, "at least one item failed", "Look at the items that failed."),
        FaultCode("GenericHttpIngestionError", True, "fetching failed over HTTP", _LATER),
        FaultCode("GenericIngestionError", True, "the service gives no closer reason", _LATER),
        FaultCode("ImportFileValidationFailed", False, "the catalog file is not valid", "Validate the catalog."),
        FaultCode("IngestionAuthenticationFailed", False, "the source's credentials were rejected", _ACCESS),
        FaultCode("IngestionResourceConnectionFailed", True, "the host could not be reached", "Check the URL's host."),
        FaultCode("IngestionResourceForbidden", False, "access was denied", _ACCESS),
        FaultCode("IngestionResourceTimeout", True, "fetching timed out", _LATER),
        FaultCode("IngestionResourceUriNotFound", False, "nothing is at that URL", "Correct the URL, or upload it."),
        FaultCode("InternalError", True, "the service failed", _LATER),
        FaultCode("InternalIntermitentError", True, "the service failed for a moment", _LATER),
        FaultCode("InvalidAssetHref", False, "an asset's href is malformed or relative", "Make asset hrefs absolute."),
        FaultCode("InvalidGeoparquet", False, "the parquet file cannot be used", "Write it as stac-geoparquet."),
        FaultCode("InvalidInputData", False, "the request's data is not acceptable", "Correct the data."),
        FaultCode("InvalidStacCatalog", False, "the document is no STAC Catalog or Collection", "Correct the URL."),
        FaultCode("ItemAlreadyExistsInCollection", False, "the item's id is taken", "Skip or replace existing items."),
        FaultCode("ItemSizeExceeded", False, "an item document is too large", "Shorten the item."),
        FaultCode("ItemTransformationError", False, "an item could not be transformed", "Validate the item."),
        FaultCode("ManagedIdentityInfoNotFound", False, "no such managed identity", "Attach it to the GeoCatalog."),
        FaultCode("NoRecordsToDelete", False, "there is nothing to delete", "Check the id."),
        FaultCode("NoRecordsToPatch", False, "there is nothing to patch", "Check the id."),
        FaultCode("NoRecordsToUpdate", False, "there is nothing to replace", "Create the item instead."),
        FaultCode("OperationIsCanceled", False, "the operation was cancelled already", "Run it again if need be."),
        FaultCode("OperationNotExistsInCollection", False, "the operation is another collection's", "Check the ids."),
        FaultCode("PatchValidation", False, "the patch document is not valid", "Correct the patch."),
        FaultCode("PostItemCollectionSizeExceeded", False, "too many items in one call", "Use a bulk ingestion."),
        FaultCode("PublicAccessRestricted", False, "no source, and no public access", "Register an ingestion source."),
        FaultCode("StacValidationFailed", False, "STAC validation failed", "Validate the items."),
        FaultCode("TotalAssetsExceeded", False, "an item has too many assets", "Split the item."),
    )
}


def fault_code(code: str | None) -> FaultCode | None:
    """Return what is known of a code, ``None`` if it is not documented."""
    return FAULT_CODES.get(code or "")
