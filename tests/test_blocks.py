"""Every block of code on a page is at least read by what would run it.

`test_readme.py` runs the blocks of Python and console. Here are the others: parts of programs,
configurations and lines for a shell. A block in a language that nobody reads is an error.
"""

import ast
import configparser
import importlib
import json
import re
import shlex
import subprocess
import textwrap
from dataclasses import dataclass

import click
import hcl2
import pytest
import yaml
from lark import UnexpectedInput
from processes import ROOT

from deferrable.cli.app import cli

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
RUN = {"console", "diff", "python"}
"""Languages of `test_readme.py`."""
NOT_CODE = {"text", "nginx"}


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.text.strip().partition(chr(10))[0][:30]}"


BLOCKS = [
    Block(page.name, language, textwrap.dedent(text))
    for page in PAGES
    for _, language, text in BLOCK.findall(page.read_text())
]


def read_python(text: str) -> None:
    """Read a part of a program, or a part of a dict, and find what it imports from here."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        tree = ast.parse(f"{{{text}}}")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("deferrable"):
            module = importlib.import_module(str(node.module))
            assert [each.name for each in node.names if not hasattr(module, each.name)] == []


def read_yaml(text: str) -> None:
    assert all(yaml.safe_load_all(text))


def read_ini(text: str) -> None:
    assert configparser.ConfigParser(strict=False, interpolation=None).read_string(text) is None


def read_shell(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for line in text.splitlines():
        check_command(line)


def check_command(line: str) -> None:
    """Refuse a line that calls `deferrable` in a way that it does not know."""
    words = shlex.split(line, comments=True) if re.match(r"(\w+=\S* )*deferrable\b", line) else []
    while words and words[0] != "deferrable":
        words.pop(0)
    command: click.Command = cli
    for number, word in enumerate(words[1:], 1):
        if not isinstance(command, click.Group):
            command.make_parser(click.Context(command)).parse_args(words[number:])
            return
        if word.startswith("-") or word == "|":
            return
        assert word in command.commands, f"there is no command {word!r}: {line}"
        command = command.commands[word]


def read_dockerfile(text: str) -> None:
    lines = re.sub(r"\\\n", " ", text).splitlines()
    assert {line.split()[0] for line in lines if line and not line.startswith("#")} <= {
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK"),
        *("RUN", "STOPSIGNAL", "USER", "WORKDIR"),
    }


def read_hcl(text: str) -> None:
    hcl2.loads(text)


READERS = {
    "dockerfile": read_dockerfile,
    "hcl": read_hcl,
    "ini": read_ini,
    "json": json.loads,
    "py": read_python,
    "sh": read_shell,
    "yaml": read_yaml,
}


def test_every_language_has_a_reader() -> None:
    assert {block.language for block in BLOCKS} <= RUN | NOT_CODE | READERS.keys()


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in READERS], ids=str)
def test_block_is_read(block: Block) -> None:
    READERS[block.language](block.text)


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "console"], ids=str
)
def test_transcript_shows_commands_that_exist(block: Block) -> None:
    for line in re.findall(r"^\$ (.*)$", block.text, re.MULTILINE):
        check_command(line)


@pytest.mark.parametrize(
    ("language", "text", "error"),
    [
        ("json", "{", json.JSONDecodeError),
        ("yaml", "a: [b", yaml.YAMLError),
        ("ini", "a line outside", configparser.Error),
        ("py", "def f(", SyntaxError),
        ("py", "from deferrable import Gone", AssertionError),
        ("sh", "if true", subprocess.CalledProcessError),
        ("sh", "deferrable work app:shop", AssertionError),
        ("sh", "DEFERRABLE_APP=app:shop deferrable stats --gone", click.UsageError),
        ("dockerfile", "RUM pip install", AssertionError),
        ("hcl", "resource {", UnexpectedInput),
    ],
)
def test_faulty_block_is_found(language: str, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        READERS[language](text)
