"""What an agent did wrong is told line by line, and what it did right is not."""

from pathlib import Path

import pytest

from optio_agents.cli.app import run_command

GOOD = "STATUS: 10% reading\nnarration\nDELIVERABLE: deliverables/a.txt\nDONE: all of it\n"


def told_of(tmp_path: Path, log: bytes, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    (tmp_path / "deliverables").mkdir()
    (tmp_path / "deliverables/a.txt").write_text("a")
    (tmp_path / "optio.log").write_bytes(log)
    code = run_command(["check", str(tmp_path / "optio.log")])
    return code, capsys.readouterr().out


def test_a_log_without_faults_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = told_of(tmp_path, GOOD.encode(), capsys)
    assert code == 0
    assert "nothing wrong" in told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"**DONE**\n", "nearly an entry: begin the line with DONE"),
        (b"- STATUS: x\n", "nearly an entry: begin the line with STATUS: "),
        (b"STATUS 50% no colon\n", "not as the grammar has it: STATUS: "),
        (b"CLIENT_MESSAGE: x {nan}\n", "not as the grammar has it: CLIENT_MESSAGE: "),
        (b"DELIVERABLE: deliverables/none\n", "there is no such file"),
        (b"DELIVERABLE: /etc/passwd\n", "leads out of"),
        (b"DELIVERABLE: deliverables/link\n", "leads out of deliverables/"),
        (b"DELIVERABLE: deliverables/dir\n", "not a regular file"),
        (b"DELIVERABLE: deliverables/loop\n", "nobody can open it: "),
        (
            b"DELIVERABLE: deliverables/%s\n" % (b"n" * 300),
            "nobody can open it: File name too long",
        ),
        (b"DELIVERABLE: deliverables/%s\n" % (b"d/" * 3000), "nobody can open it: "),
        (b"bad \xff byte\n", "not UTF-8"),
        (b"DONE\nSTATUS: more\n", "stands behind the DONE or ERROR of line 3"),
        (b"STATUS: half a li", "no newline at its end"),
        (b"x" * (1 << 20) + b"y\n", "1048577 bytes long"),
    ],
)
def test_each_fault_is_told_with_its_line(
    line: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deliverables/dir").mkdir(parents=True)
    (tmp_path / "deliverables/link").symlink_to("/etc/passwd")
    (tmp_path / "deliverables/loop").symlink_to("loop")
    (tmp_path / "deliverables").rename(tmp_path / "kept")
    code, before = told_of(tmp_path, b"STATUS: fine\nSTATUS: 2%\n", capsys)
    assert (code, "nothing wrong" in before) == (0, True)
    for child in (tmp_path / "kept").iterdir():
        child.rename(tmp_path / "deliverables" / child.name)
    with (tmp_path / "optio.log").open("ab") as log:
        log.write(line)
    code = run_command(["check", str(tmp_path / "optio.log")])
    out = capsys.readouterr().out
    where = 4 if line.startswith(b"DONE\n") else 3
    assert code == 1
    assert f"optio.log:{where}: " in out
    assert told in out
    assert out.count("optio.log:") == 1


def test_utf_16_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = told_of(tmp_path, GOOD.encode("utf-16"), capsys)
    assert code == 1
    assert "UTF-16" in told


def test_escape_sequences_of_a_faulty_line_are_shown_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, told = told_of(tmp_path, b"**DONE** \x1b[2J\n", capsys)
    assert "\x1b" not in told
