"""What docs/versions.md says that each Airflow has."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "versions.md"


def supported(version: tuple[int, ...]) -> dict[str, str]:
    """
    Return the column of a version: what it says by the names of the lines.

    :param version: Major and minor.
    """
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    [head] = [number for number, cells in enumerate(rows) if "2.11" in cells]
    column = rows[head].index(".".join(map(str, version)))
    return {cells[0]: cells[column] for cells in rows[head + 2 :]}
