"""What is said while a search goes: a live table on a terminal, lines elsewhere, and what is kept of it in history.csv."""

import csv
import io
import os
import pty
import re
import shutil
import sys
import threading
from contextlib import suppress

import pytest
from cases import TINY
from rich.console import Console

from fluidgrad.app.cli import main
from fluidgrad.app.report.screen import QUIET, Screen, clock
from fluidgrad.app.runs.progress import COLUMNS

QUICK = TINY + "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    file = tmp_path_factory.mktemp("progress") / "tiny.toml"
    file.write_text(QUICK)
    return file


def history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_lines_where_nobody_looks_at_a_terminal(tiny, tmp_path, capsys):
    assert main(["run", str(tiny), "--runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split() == list(COLUMNS))
    assert any("compiling" in line for line in lines[:head]) and not any("\x1b" in line for line in lines)
    rows = [line.split() for line in lines[head + 1 : head + 5]]
    assert [int(r[0]) for r in rows] == [0, 0, 1, 2] and all(len(r) in (8, 9) for r in rows)
    assert len({len(line) for line in lines[head : head + 5]}) == 1, "columns are aligned"
    assert re.fullmatch(r"<\d:\d\d", rows[-1][8]), "less than this is left, once an iteration is done"
    assert [float(r[1]) for r in rows] == pytest.approx([float(r["dissipation()"]) for r in history(tmp_path / "tiny-1")], rel=1e-7)


def test_quiet_prints_the_folder_and_verbose_how_each_solve_went(tiny, tmp_path, capsys):
    assert main(["run", str(tiny), "--runs", str(tmp_path), "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "tiny-1")] * 2
    assert main(["run", str(tiny), "--runs", str(tmp_path), "--verbose"]) == 0
    assert len(re.findall(r"\d Newton steps; products of the adjoints: \d+, 0", capsys.readouterr().out)) == 4
    assert main(["run", str(tiny), "-q", "-v"]) == 2
    assert "both --quiet and --verbose; one of them" in capsys.readouterr().err


def test_seconds_are_kept_over_a_stop_and_enter_no_journal(search, tmp_path):
    before = [row["seconds"] for row in history(search)]
    assert all(float(s) > 0 for s in before) and b"second" not in (search / "journal.jsonl").read_bytes()
    copy = shutil.copytree(search, tmp_path / "copy")
    lines = (copy / "journal.jsonl").read_bytes().split(b"\n")
    (copy / "journal.jsonl").write_bytes(b"\n".join(lines[:4]) + b"\n")
    table = (copy / "history.csv").read_text().splitlines()
    (copy / "history.csv").write_text("\n".join(table[:3]) + "\n")
    assert main(["run", str(copy), "-q"]) == 0
    after = [row["seconds"] for row in history(copy)]
    assert after[:2] == before[:2] and after[2] == "" and float(after[3]) > 0, "the third was killed before its seconds were kept"
    (copy / "history.csv").write_text("damaged,\n1\n")
    assert main(["run", str(copy), "-q"]) == 0
    assert [row["seconds"] for row in history(copy)] == [""] * 4


def test_what_the_journal_answers_is_not_listed_again(search, tmp_path, capsys):
    copy = shutil.copytree(search, tmp_path / "copy")
    assert main(["run", str(copy)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    after = lines[lines.index(list(COLUMNS)) + 1]
    assert after == "answered by the journal: 4 evaluations".split()


def test_a_live_table_on_a_terminal():
    """Its last rows, the remark of a failed trial, the state of things; on a screen that cannot say more than that."""
    out = io.StringIO()
    screen = Screen(console=Console(file=out, force_terminal=True, width=100, height=30))
    with screen.table(("iteration", "objective")) as table:
        for i in range(20):
            table.add([str(i), f"{i / 7:.5f}"])
        table.add(["        20 failed: a tangled mesh"])
        table.state = "evaluation 20, iteration 20 of at most 30, at most 1:05 left"
    with screen.doing("drawing"):
        pass
    screen.say("done [bold]as it is[/bold]")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    last = shown[shown.rindex("iteration", 0, shown.rindex("of at most 30") - 30) :]
    assert "19" in last and "2.71429" in last and "at most 1:05 left" in last and "a tangled mesh" in last
    assert "2.00000" in last and " 7 " not in last.split("2.00000")[0].splitlines()[-2], "only the last rows"
    assert "done [bold]as it is[/bold]" in shown


def test_a_terminal_gets_a_table_that_moves(tiny, tmp_path, monkeypatch):
    ours, theirs = pty.openpty()
    shown = bytearray()

    def look():
        with suppress(OSError):  # a terminal that is closed
            while data := os.read(ours, 65536):
                shown.extend(data)

    looking = threading.Thread(target=look)
    looking.start()
    with open(theirs, "w") as terminal, monkeypatch.context() as here:
        here.setenv("TERM", "xterm")
        here.setenv("COLUMNS", "120")
        here.setattr(sys, "stdout", terminal)
        code = main(["run", str(tiny), "--runs", str(tmp_path)])
    looking.join()
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert code == 0 and b"\x1b[" in shown and "iteration 2 of at most 3" in text and "compiling, then the first new evaluation" in text
    assert text.splitlines()[0] == text.splitlines()[-1] == str(tmp_path / "tiny-1")


def test_losing_the_reader_ends_the_talking_only(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

        def fileno(self):
            return handle

    handle = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr(sys, "stdout", Gone())
    screen = Screen(console=None)
    screen.say("anything")
    assert screen.level < QUIET
    screen.say("and more")


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (65.9, "1:05"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_clocks(seconds, shown):
    assert clock(seconds) == shown
