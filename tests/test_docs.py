"""What the README and docs say is true: commands exist, YAML loads, links lead somewhere, quotations are right."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import attrs
import click
import pytest

from saltpeter.cli import main
from saltpeter.domain import outcome as outcomes
from saltpeter.domain.config import Host, assemble, parse_file
from sp_wrapper import codes

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [*sorted((ROOT / "saltpeter").rglob("*.py")), *sorted((ROOT / "wrapper").rglob("*.py"))]
HOST = Host(statedir="/s", logdir="/l", zone=timezone.utc)
NOW = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)


@attrs.frozen
class Excerpt:
    """Part of a page; `language` is that of a fenced block, "" for code within a line."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Excerpt]:
    """The fenced blocks, without the indentation that a list gives them."""
    fence: tuple[int, str, str] | None = None
    held: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        opening = re.match(r"( *)```(\w*)$", line)
        if opening and fence is None:
            fence, held = (number, opening[1], opening[2]), []
        elif opening and fence is not None:
            yield Excerpt(page, fence[0], fence[2], "\n".join(held) + "\n")
            fence = None
        elif fence is not None:
            held.append(line.removeprefix(fence[1]))
    assert fence is None, f"{page}: the block of line {fence} has no end"


def indented(page: Path) -> Iterator[Excerpt]:
    """The lines that stand apart by their indentation."""
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.startswith("    "):
            yield Excerpt(page, number, "sh", line.strip())


def in_lines(page: Path) -> Iterator[Excerpt]:
    """The code within lines of text."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced:
            yield from (Excerpt(page, number, "", text) for text in re.findall(r"`([^`]+)`", line))


BLOCKS = [block for page in PAGES for block in blocks(page)]
CODE = [code for page in PAGES for code in in_lines(page)]


# --- commands -------------------------------------------------------------------------------------


def commands_in(excerpts: Iterable[Excerpt]) -> Iterator[tuple[Excerpt, list[str]]]:
    """The words of each `saltpeter ...`, whatever stands before it, without that first word."""
    for each in excerpts:
        for line in each.text.splitlines():
            for part in re.split(r"&&|\|", line.removeprefix("$ ")):
                words = split(part)
                if len(words) > 1 and PurePosixPath(words[0]).name == "saltpeter":
                    yield each, words[1:]


def split(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a line of a longer quotation: no command begins there
        return []


def parse(words: list[str]) -> None:
    """Raises click.UsageError when there is no such command, or it takes no such words. Carries nothing out."""
    command: click.Command = main
    name = "saltpeter"
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        known = command.get_command(click.Context(command), name)
        if known is None:
            raise click.UsageError(f"there is no command {name}")
        command = known
    try:
        command.make_context(name, list(words)).close()
    except click.exceptions.Exit:  # which is how --help and --version end
        pass
    except click.BadParameter as wrong:
        if "does not exist" not in wrong.message:  # the files of the docs are not on this machine
            raise


NAMES = {*main.list_commands(click.Context(main))}

IN_BLOCKS = [
    *commands_in(block for block in BLOCKS if block.language in ("sh", "ini")),
    *commands_in(line for page in PAGES for line in indented(page)),
]
IN_TEXT = [*commands_in(CODE)]


@pytest.mark.parametrize(("where", "words"), IN_BLOCKS, ids=str)
def test_a_command_in_a_block_can_be_given_like_that(where: Excerpt, words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize(("where", "words"), IN_TEXT, ids=str)
def test_a_command_that_the_text_names_exists(where: Excerpt, words: list[str]) -> None:
    with contextlib.suppress(click.MissingParameter):  # it may be named without what it needs
        parse(words)


def test_the_readme_names_every_command() -> None:
    named = {words[0] for where, words in IN_TEXT if where.page.name == "README.md"}
    assert named >= NAMES


def test_the_page_about_the_command_line_names_every_command() -> None:
    page = ROOT / "docs" / "command-line.md"
    rows = [re.findall(r"`([a-z-]+)", line.split(" | ")[0]) for line in page.read_text().splitlines() if "|" in line]
    assert {name for row in rows for name in row} >= NAMES


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    for line in ("saltpeter chekc DIR", "saltpeter run", "saltpeter kill --all backup", "saltpeter check a b"):
        [(_, words)] = commands_in([Excerpt(ROOT, 0, "sh", line)])
        with pytest.raises(click.UsageError):
            parse(words)


@pytest.mark.parametrize("word", ["lab", "test", "spread", "lock"])
def test_dev_py_knows_the_words_that_are_named(word: str) -> None:
    assert f"dev.py {word}" in "".join(page.read_text() for page in PAGES)
    assert f'"{word}": {word}' in (ROOT / "dev.py").read_text()


# --- YAML -----------------------------------------------------------------------------------------

YAML = [block for block in BLOCKS if block.language == "yaml"]
OF_SALT = ("# /etc/salt/", "# /srv/salt/")  # how a file of Salt's begins in our docs


@pytest.mark.parametrize("block", [block for block in YAML if not block.text.startswith(OF_SALT)], ids=str)
def test_a_file_of_jobs_in_the_docs_is_right(block: Excerpt) -> None:
    config = assemble([parse_file("/conf.d/docs.yaml", block.text)], None, HOST, NOW).config
    assert config.problems == ()


# --- links ----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have as targets of links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_script_of_the_page_is_explained() -> None:
    text = (ROOT / "docs" / "web.md").read_text()
    assert [each.name for each in (ROOT / "saltpeter" / "web").glob("*.js") if f"`{each.name}`" not in text] == []


def test_every_library_has_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|dev|fuzz) = \[(.*?)\]$", project, re.MULTILINE | re.DOTALL)
    names = set(re.findall(r'"([\w-]+)[^"]*"', "".join(lists)))
    assert len(names) > 25
    assert names - set(re.findall(r"[\w-]+", (ROOT / "docs" / "design.md").read_text())) == set()


def test_every_page_is_listed_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"](docs/{page.name})" not in text] == []


# --- what the code says ---------------------------------------------------------------------------


def test_the_exit_codes_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| ([\d-]+) \| ([^|]+) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    meaning = {code: text for code, _, text in rows}
    named = {
        codes.TIMED_OUT: "timeout",
        codes.KILLED: "killed",
        outcomes.HEARTBEAT_LOST: "heartbeat timeout",
        codes.REFUSED: "refused",
        outcomes.FAILED: "error",
        **dict.fromkeys((126, 127), "the wrapper is not"),  # Salt's shell says so
    }
    assert meaning.keys() == {"0", "1-123", *map(str, named)}
    for code, word in named.items():
        assert meaning[str(code)].startswith(word)


def test_every_way_to_end_is_named() -> None:
    text = (ROOT / "README.md").read_text()
    assert [end.value for end in outcomes.End if f"`{end.value}`" not in text] == []


def test_what_is_added_to_the_output_is_quoted_right() -> None:
    texts = {outcomes.TERMINATED_TEXT, outcomes.LOST_TEXT, outcomes.timed_out(7200).text}
    quoted = {code.text for code in CODE if code.page.name == "README.md" and re.fullmatch(r"\[.*\]", code.text)}
    assert texts == quoted


def log_texts() -> Iterator[re.Pattern[str]]:
    """What each text that the code logs may come out as."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log")), args=[ast.Constant(value=str(text)), *_]):
                    yield re.compile(re.sub("%[sd]", ".+", re.escape(text)))


LOG_TEXTS = [*log_texts()]
QUOTED_LINES = [
    (block, line) for block in BLOCKS for line in block.text.splitlines() if re.match(r"\d{4}-\S+ [A-Z]+ ", line)
]


@pytest.mark.parametrize(("where", "line"), QUOTED_LINES, ids=str)
def test_a_quoted_line_of_the_log_is_one_that_is_logged(where: Excerpt, line: str) -> None:
    _, _, text = line.split(" ", 2)
    assert any(pattern.fullmatch(text) for pattern in LOG_TEXTS), text


# Whoever watches the older saltpeter's log greps for these: they stay as they are.
KNOWN_LINES = (
    "Firing test_job_1762346049!",
    "Waiting for Salt to confirm wrapper execution for job 20231105123456789...",
    "Salt confirmed wrapper started on m1",
    "Wrapper execution failed on m1 (retcode=127): sp_wrapper.py: No such file or directory",
    "Monitoring WebSocket results for 3 confirmed target(s)...",
    "WebSocket: Client connected - test_job_1762346049:m1",
    "WebSocket: Job started - test_job_1762346049:m1 (PID: 4711)",
    "WebSocket: Heartbeat from test_job_1762346049:m1 at 2026-11-21T02:04:40+00:00",
    "WebSocket: Job completed - test_job_1762346049:m1 (exit code: 0)",
    "WebSocket: Kill command received for job test_job",
    "WebSocket: Sent kill signal to test_job_1762346049:m1",
    "WebSocket: Received complete message from test_job_1762346049:m1, retcode=143",
    "WebSocket: Updated state for test_job[m1] with endtime=2026-11-21T02:04:40+00:00, retcode=143",
    "WebSocket: Target m1 completed, removing from pending (retcode: 143)",
    "WebSocket: All targets completed for test_job, exiting monitor loop",
)


@pytest.mark.parametrize("line", KNOWN_LINES)
def test_the_lines_that_operators_know_are_logged(line: str) -> None:
    assert any(pattern.fullmatch(line) for pattern in LOG_TEXTS)
