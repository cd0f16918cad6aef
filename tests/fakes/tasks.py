"""Execute operators without a scheduler."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

#: The administrator's token of the emulator in these tests.
TOKEN = "operators-test-token"


@dataclass
class TaskInstance:
    """What operators use of a task instance."""

    dag_id: str = "dag"
    task_id: str = "task"
    run_id: str = "run"
    map_index: int = -1
    try_number: int = 1
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, *, key: str, **_where: Any) -> Any:
        return self.xcoms.get(key)


def execute(operator: Any, ti: TaskInstance) -> Any:
    import asyncio
    from importlib import import_module

    from airflow.providers.common.compat.sdk import TaskDeferred

    context: Any = {"ti": ti}
    operator.first_delay = 0.0
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        path, arguments = deferred.trigger.serialize()
        module, name = path.rsplit(".", 1)
        trigger = getattr(import_module(module), name)(**json.loads(json.dumps(arguments)))

        async def fire() -> Any:
            return await anext(trigger.run())

        event = asyncio.run(fire())
        return getattr(operator, deferred.method_name)(context, event=event.payload)
