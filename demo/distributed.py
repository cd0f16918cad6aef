"""``python -m demo.distributed``: the example DAGs on several workers and triggerers, some killed in between."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from demo.__main__ import run_command
from demo.cluster import cluster
from demo.killing import Findings, kill_and_look
from demo.progress import table, task_label
from demo.settings import is_on

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from demo.progress import Console


def main() -> int:
    """
    Run the demonstration.

    :return: Exit code: 0 if everything went well, 1 if not, 2 for bad input, 128 + signal number if interrupted.
    """
    return run_command(lambda: (_demonstrate, is_on(os.environ.get("KEEP", ""))))


def _demonstrate(console: Console, work: Path, resources: ExitStack) -> bool:
    started = resources.enter_context(cluster(work, console.step))
    console.step(f"Airflow's UI: {started.airflow.url}")
    findings = kill_and_look(started, console)
    _report(findings, console)
    console.line(f"Airflow UI    {started.airflow.url}")
    console.line(f"Logs          {os.path.relpath(work)}")
    return not findings.problems()


def _report(findings: Findings, console: Console) -> None:
    console.line()
    rows = [
        [task["dag_id"], task_label(task), str(task["state"]), str(task["try_number"])]
        for task in sorted(findings.tasks, key=lambda task: (task["dag_id"], str(task["start_date"])))
    ]
    console.line(table([["DAG", "Task", "State", "Tries"], *rows]))
    console.line()
    for problem in findings.problems():
        console.line(f"WRONG    {problem}")
    console.line(f"DAG runs      {', '.join(f'{dag} {state}' for dag, state in findings.dag_runs.items())}")
    console.line(f"Killed        {findings.worker}, running {', '.join(findings.struck_tasks) or 'nothing'}")
    console.line(
        f"              {findings.triggerer}, waiting for {', '.join(findings.struck_waits.values()) or 'nothing'}"
    )
    console.line(
        f"Taken over    {len(findings.taken_over)} of {len(findings.struck_waits)} waits by the other triggerer; "
        f"{findings.redelivered} messages of {findings.worker} delivered again at the end"
    )
    for collection, expected in findings.expected.items():
        there = len(findings.present[collection] & expected)
        console.line(f"Items         {there} of {len(expected)} in {collection}")
    runs = sum(map(len, findings.runs.values()))
    asked = ", ".join(f"{count} {name}" for name, count in sorted(findings.requests.items()))
    console.line(f"The service   {runs} runs of {len(findings.runs)} ingestions; asked for {asked}")


if __name__ == "__main__":
    sys.exit(main())
