from __future__ import annotations

import io

from airflow_provider_geocatalog.api.models import Counts
from demo.progress import Console, counts_text, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_one_line_for_each_change():
    stream = io.StringIO()
    console = Console(stream)

    for text in ("1 of 2", "1 of 2", "2 of 2", ""):
        console.status(text)

    assert [line.split("] ", 1)[1] for line in stream.getvalue().splitlines()] == ["1 of 2", "2 of 2"]


def test_a_terminal_keeps_the_status_below_the_lines():
    stream = Terminal()
    console = Console(stream)

    console.status("1 of 2")
    console.line("news")

    assert stream.getvalue() == "1 of 2\r\x1b[2Knews\n1 of 2"


def test_secrets_are_masked():
    stream = io.StringIO()

    Console(stream).line("see https://a/c?sp=rl&sig=abcdef")

    assert stream.getvalue() == "see https://a/c?sp=rl&sig=***\n"


def test_counts_are_shown_as_a_bar_and_in_words():
    text = counts_text(Counts(total=12, succeeded=5, failed=1, pending=6))

    assert text == "items [############............] 5 of 12 ingested, 1 failed"


def test_a_table_has_aligned_columns():
    assert table([["Task", "State"], ["create", "success"]]) == "Task    State\n------  -------\ncreate  success"
