"""The README and the pages under docs, held to what they say.

Every Python block there begins with the name of its file, ``# hello.py``. Every block of console is
a transcript: its commands are run in fresh processes, in a folder that holds the page's files, and
must print what the page shows. A diff changes a file of its page.
"""

import inspect
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import DEADLINE_SECONDS
from redis_server import unique_group
from warm_python import run_python

from deferrable.aio.backend import (
    DocketsBackendFactory,
    InMemoryBackendFactory,
    SQLiteBackendFactory,
    SQSBackendFactory,
)
from deferrable.lifecycle import backoff_seconds

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
REDIS_URL = "redis://localhost:6379/0"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Transcripts of workers and terminals, whose commands test_cli.py and test_cli_worker.py run.
# Those of operator-tools.md build on each other, in test_operator_tools.py.
RUN_ELSEWHERE = {"command-line.md", "operator-tools.md"}
PAGES = [
    "README.md",
    *(
        f"docs/{path.name}"
        for path in sorted((ROOT / "docs").glob("*.md"))
        if path.name not in RUN_ELSEWHERE
    ),
]


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    text: str

    @property
    def file_name(self) -> str:
        """The file that the block is, or changes."""
        first_line = self.text.partition("\n")[0]
        assert re.fullmatch(r"# \w+\.py", first_line), f"{self.page}: which file is {first_line!r}?"
        return first_line[2:]


def blocks_of(page: str) -> list[Block]:
    return [Block(page, *found) for found in BLOCK.findall((ROOT / page).read_text())]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
WORKER = "$ deferrable worker "
"""How the transcript of a worker begins, which ends by a signal."""
CONSOLES = [block for block in BLOCKS if block.language == "console"]
TRANSCRIPTS = [block for block in CONSOLES if not block.text.startswith(WORKER)]


class Folder:
    """The files of one page, and the commands that are run among them."""

    def __init__(self, path: Path, page: str, redis_url: str | None) -> None:
        self.path = path
        self.redis_url = redis_url
        # The Redis may be another's, so the page's group gets a name that nobody has.
        self.group = unique_group()
        for block in blocks_of(page):
            if block.language == "python":
                (path / block.file_name).write_text(self._elsewhere(block.text))
        (path / "sqlite_queue.py").write_text((ROOT / "tests/third_party_backend.py").read_text())

    def _elsewhere(self, text: str) -> str:
        """The same on the Redis of the tests, in a separate group."""
        if self.redis_url is None or REDIS_URL not in text:
            return text
        return self._in_own_group(text.replace(REDIS_URL, self.redis_url))

    def _in_own_group(self, text: str) -> str:
        return re.sub(r'(?<=_for_group\()"\w+"', f'"{self.group}"', text)

    def change(self, diff: Block) -> None:
        """Apply a diff of one file, whose lines each occur once."""
        assert self.redis_url is not None
        path = self.path / diff.file_name
        lines = diff.text.splitlines()
        path.write_text(self._in_own_group(path.read_text()))
        for old, new in zip(marked("-", lines), marked("+", lines), strict=True):
            text = path.read_text()
            assert text.count(old) == 1, f"{diff.page} changes a line that is not there: {old}"
            path.write_text(text.replace(old, new.replace(REDIS_URL, self.redis_url)))

    def run(self, command: str) -> str:
        """What a command of a transcript prints, in a fresh process.

        Variables may stand before it, as in a shell: ``NAME=value python file.py``.
        """
        words = shlex.split(command)
        if self.redis_url is not None:
            words = [word.replace(REDIS_URL, self.redis_url) for word in words]
        variables = list(itertools.takewhile(lambda word: "=" in word, words))
        program, *args = words[len(variables) :]
        folder = ROOT if program.startswith(".venv/") else self.path
        arguments = (
            ["-m", "pytest", "-p", "no:cacheprovider", *args] if program == "pytest" else args
        )
        # A pytest that finds libraries imported cannot rewrite their asserts, and says so.
        done = run_python(
            arguments,
            is_warm="pytest" not in arguments,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTEST_ADDOPTS": "-p no:asyncio",  # a plugin that no page asks for
                **dict(each.split("=", 1) for each in variables),
            },
            timeout=DEADLINE_SECONDS,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def marked(sign: str, lines: list[str]) -> list[str]:
    return [line[1:] for line in lines if line.startswith(sign)]


def transcript_of(block: Block) -> list[tuple[str, str]]:
    """The commands of a transcript, and what each is shown to print."""
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
    assert parts[0] == "", f"{block.page}: a transcript begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def without_times(text: str) -> str:
    return re.sub(r"(?:, \d+ deselected)? in \d+\.\d+s\b", "", text)


@pytest.mark.parametrize(
    "block", TRANSCRIPTS, ids=[f"{b.page}-{b.text.split(chr(10))[0][2:]}" for b in TRANSCRIPTS]
)
def test_what_a_page_shows_is_what_its_files_print(
    block: Block, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = [each for each in BLOCKS[: BLOCKS.index(block)] if each.page == block.page]
    diffs = [each for each in before if each.language == "diff"]
    files = [each.text for each in BLOCKS if each.page == block.page and each.language == "python"]
    needs_redis = diffs or any(REDIS_URL in text for text in files)
    redis_url = request.getfixturevalue("redis_url") if needs_redis else None
    folder = Folder(tmp_path, block.page, redis_url)
    for diff in diffs:
        folder.change(diff)

    for command, shown in transcript_of(block):
        assert without_times(folder.run(command)) == without_times(shown)


# The two terminals of the README.

CHANGING = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000", "TIME"),
    (
        r"deferrable (\S+|from source) running \(process \d+",
        "deferrable VERSION running (process N",
    ),
    (r"stopped \(process \d+\)", "stopped (process N)"),
    (r"item [0-9a-f-]{36}", "item ID"),
    (r"completed in \d+ ms", "completed in N ms"),
    (r"in /\S*/jobs\.db", "in /FOLDER/jobs.db"),
]
"""What differs from run to run."""


def without_what_changes(text: str) -> str:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return text


def test_two_terminals_show_what_the_readme_shows(tmp_path: Path) -> None:
    consoles = [block for block in CONSOLES if block.page == "README.md"]
    ((_, producer_shows),) = transcript_of(consoles[0])
    ((worker_command, worker_shows),) = transcript_of(consoles[1])
    (shop, *_) = (block for block in blocks_of("README.md") if block.language == "python")
    (tmp_path / shop.file_name).write_text(shop.text)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TZ": "UTC",
    }

    with subprocess.Popen(
        [sys.executable, "-m", *shlex.split(worker_command)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as worker:
        try:
            assert worker.stdout is not None
            lines = [worker.stdout.readline(), worker.stdout.readline()]  # it waits for a call
            producer = subprocess.run(
                [sys.executable, shop.file_name],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=DEADLINE_SECONDS,
                check=False,
            )
            while lines[-1] and " completed " not in lines[-1]:
                lines.append(worker.stdout.readline())
            worker.send_signal(signal.SIGINT)
            lines.extend(worker.stdout)
        finally:
            worker.kill()

    assert (producer.stdout, producer.stderr) == (producer_shows, "")
    assert without_what_changes("".join(lines)) == without_what_changes(worker_shows)
    assert worker.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs.db", "shop.py"]


def test_every_file_of_a_page_is_run_or_imported_by_a_transcript_there() -> None:
    for page in PAGES:
        blocks = blocks_of(page)
        commands = " ".join(block.text for block in blocks if block.language == "console")
        sources = [block for block in blocks if block.language == "python"]
        imported = " ".join(
            re.findall(r"^from (\w+) import", "".join(b.text for b in sources), re.M)
        )
        for block in sources:
            module = block.file_name.removesuffix(".py")
            assert block.file_name in commands or module in imported.split(), block.file_name


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_to_one(page: str) -> None:
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        assert "://" in target or (folder / target).exists(), target


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len(README.splitlines()) <= 180


def test_ci_runs_the_readmes_own_commands() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text()

    assert len(commands) == 2
    assert commands[1] in script


# The tables, held to the code.


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def rows_after(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table after a heading or a line, without its head."""
    _, _, rest = text.partition(f"{heading}\n")
    assert rest, f"there is no {heading!r}"
    table = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert table is not None
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.group().splitlines()[2:]
    ]


def test_the_table_of_backoffs_is_the_formula() -> None:
    text = page("outcomes.md")
    head = re.search(r"^\| failed attempts .*\n.*\n\| seconds .*$", text, re.MULTILINE)
    assert head is not None
    seconds = [float(each) for each in re.findall(r"\d+", head.group().splitlines()[2])]

    assert seconds == [backoff_seconds(attempts) for attempts in range(1, 11)]


def test_the_table_of_settings_of_sqs_has_all_of_them() -> None:
    rows = re.findall(r"^\| (`.*`) \| `(.*?)` \| ", page("sqs.md"), re.MULTILINE)
    shown = {name: default for names, default in rows for name in re.findall(r"`(.*?)`", names)}
    parameters = inspect.signature(SQSBackendFactory).parameters.values()

    assert shown == {each.name: str(each.default) for each in parameters if each.name != "clock"}


@pytest.mark.parametrize(
    "factory", [InMemoryBackendFactory, SQLiteBackendFactory, DocketsBackendFactory]
)
def test_the_table_of_backends_has_their_arguments(factory: Callable[..., object]) -> None:
    name = getattr(factory, "__name__")  # noqa: B009
    text = page("backends.md")
    shown = re.search(rf"`{name}\((.*?)\)`", text)
    parameters = inspect.signature(factory).parameters.values()
    positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    keywords = [each for each in parameters if each.kind is each.KEYWORD_ONLY]

    assert shown is not None
    assert shown.group(1) == ", ".join(
        each.name if each.default is each.empty else f"{each.name}={each.default}"
        for each in positional
    )
    for each in keywords:
        default = f'"{each.default}"' if isinstance(each.default, str) else each.default
        assert f"`{each.name}={default}`" in text


def test_the_suite_that_the_docs_show_is_the_one_that_runs_here() -> None:
    shown = next(
        block
        for block in blocks_of("docs/writing-a-backend.md")
        if "class TestSqliteQueue(QueueConformance)" in block.text
    )
    here = (ROOT / "tests" / "test_third_party_backend.py").read_text()

    assert shown.text.partition("class ")[2] == here.partition("class ")[2]
