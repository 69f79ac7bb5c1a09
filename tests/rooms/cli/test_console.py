"""Tables and sentences on a narrow terminal: a number stays with its unit, and no word is cut."""

import os
import pty
import subprocess
import sys

import pytest

from edgeward.cli import console

ROWS = [
    (
        "openvino-bf16-int8-percentile-refit",
        "0.7646",
        "-0.008",
        "0.154 ms",
        "2.66×",
        "321.2 kB",
        "missed accuracy, p95",
    ),
    ("as-given", "0.7562", "+0.000", "57 µs", "1.00×", "86.5 kB", "chosen"),
]
COLUMNS = ("recipe", "top1", "drop", "p50", "speed", "size", "limits")


@pytest.mark.parametrize("width", [80, 72, 64])
def test_a_size_is_never_broken_across_lines(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    console.table("model on board", COLUMNS, ROWS, right=(1, 2, 3, 4, 5))
    lines = capsys.readouterr().out.splitlines()
    assert any("321.2 kB" in line and "0.154 ms" in line for line in lines)
    assert any("86.5 kB" in line and "57 µs" in line for line in lines)
    assert max(map(len, lines)) <= width


def test_eighty_columns_hold_a_row_of_the_search_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = ("openvino-bf16-int8-minmax", "0.7646", "-0.008", "0.154 ms", "2.66×", "321.2 kB", "kept")
    console.table("", COLUMNS, [row], right=(1, 2, 3, 4, 5))
    assert any(all(cell in line for cell in row) for line in capsys.readouterr().out.splitlines())


def on_a_terminal(code: str, width: int) -> str:
    """What a program writes to a real terminal of that width."""
    main, other = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as reader:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=other, env={**os.environ, "COLUMNS": str(width)}
        )
        os.close(other)
        told = b""
        while True:
            try:
                part = reader.read(4096)
            except OSError:  # the end of a terminal
                break
            if not part:
                break
            told += part
        assert process.wait() == 0
    return told.decode()


SENTENCE = "the chosen file takes 86.5 kB and answers in 57 µs, 27 % of what it was, on all the samples there are"


@pytest.mark.parametrize("width", [30, 36, 40, 47])
def test_a_sentence_is_folded_between_words_on_a_terminal(width: int) -> None:
    told = on_a_terminal(f"from edgeward.cli import console; console.paragraph({SENTENCE!r})", width)
    lines = told.split("\r\n")
    assert max(map(len, lines)) <= width
    assert " ".join(told.split()) == SENTENCE
    for figure in ("86.5 kB", "57 µs", "27 %"):
        assert any(figure in line for line in lines)


def test_what_is_folded_stands_under_its_beginning() -> None:
    told = on_a_terminal(f"from edgeward.cli import console; console.paragraph('  ' + {SENTENCE!r})", 40)
    first, *others = told.rstrip().split("\r\n")
    assert first.startswith("  the chosen")
    assert all(line.startswith("    ") for line in others)


def test_where_there_is_no_terminal_a_sentence_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.paragraph(SENTENCE)
    assert capsys.readouterr().out == SENTENCE + "\n"
