"""What happens to template fields when Airflow renders them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import BaseOperator
else:
    BaseOperator = object

__all__ = ["MaskedFields"]


class MaskedFields(BaseOperator):
    """Mix-in of operators and sensors: SAS signatures in template fields are masked before Airflow shows them."""

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Any, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """
        Render as usual; Airflow calls this for plain and for mapped tasks, and for fields of what is in a field.

        What has template fields is rendered in place. So it becomes this task instance's own: others of the same
        operator may be rendered in this process.
        """
        from airflow_provider_geocatalog.operators.credentials import mask_sas

        for name in template_fields:
            value = getattr(parent, name, None)
            mask_sas(str(value))  # Airflow logs a template that it cannot render
            if id(value) not in seen_oids and (own := _own(value)) is not value:
                setattr(parent, name, own)
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
        for name in template_fields:
            mask_sas(str(getattr(parent, name, "")))


def _own(value: Any) -> Any:
    """Return a copy of what has template fields, also of those in a list; else the value itself."""
    if isinstance(value, list):
        copies = [_own(one) for one in value]
        return copies if any(one is not it for one, it in zip(copies, value, strict=True)) else value
    return copy.copy(value) if hasattr(value, "template_fields") else value
