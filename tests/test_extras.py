"""Each command that installs an extra works as it is printed, in errors and in the documents."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from processes import ROOT

from deferrable._extras import install_command, install_target

PROJECT = (ROOT / "pyproject.toml").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PRINTED = re.compile(r"pip install (?:-\w )*'?([^\s'`\[]+)\[([\w,]+)\]")
CLONES = {"PATH_OF_THE_CLONE", ".", "/opt/deferrable"}


def extras() -> set[str]:
    (section,) = re.findall(r"\[project.optional-dependencies\]\n(.*?)\n\[", PROJECT, re.DOTALL)
    return set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))


def installs() -> list[tuple[str, str, str]]:
    return [
        (page.name, target, names)
        for page in PAGES
        for target, names in PRINTED.findall(page.read_text())
    ]


@pytest.mark.parametrize(("page", "target", "names"), installs())
def test_documented_command_installs_a_clone_with_extras_that_exist(
    page: str, target: str, names: str
) -> None:
    assert target in CLONES, f"{page}: {target} is on no index"
    assert set(names.split(",")) <= extras()


def test_no_code_names_an_extra_on_the_index() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "deferrable").rglob("*.py")
        if "pip install 'deferrable" in path.read_text()
    ]

    assert found == []


def test_every_missing_extra_that_the_code_names_exists() -> None:
    call = re.compile(r"missing_extra\(\s*\"[^\"]+\",\s*\"(\w+)\"", re.DOTALL)
    named = {
        extra
        for path in (ROOT / "deferrable").rglob("*.py")
        for extra in call.findall(path.read_text())
    }

    assert named <= extras()
    assert {"redis", "sqs", "cli", "dashboard", "periodic"} <= named


@pytest.mark.parametrize(
    ("record", "target"),
    [
        ({}, "'deferrable[redis]'"),
        ({"url": None}, "'deferrable[redis]'"),
        ({"url": "file:///no/such/folder"}, "'deferrable[redis]'"),
        (
            {"url": "https://example.org/x.whl", "archive_info": {}},
            "'deferrable[redis] @ https://example.org/x.whl'",
        ),
        (
            {"url": "https://example.org/x", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "'deferrable[redis] @ git+https://example.org/x@abc'",
        ),
    ],
)
def test_command_names_the_place_of_this_installation(record: dict[str, Any], target: str) -> None:
    assert install_target("redis", record) == target


@pytest.mark.parametrize("name", ["clone", "a clone", "it's"])
def test_command_quotes_the_folder_of_a_clone(tmp_path: Path, name: str) -> None:
    clone = tmp_path / name
    clone.mkdir()
    record = {"url": clone.as_uri(), "dir_info": {"editable": True}}

    assert shlex.split(install_target("redis", record)) == ["-e", f"{clone}[redis]"]
    assert shlex.split(install_target("redis", {"url": clone.as_uri(), "dir_info": {}})) == [
        f"{clone}[redis]"
    ]


def test_reference_to_a_repository_is_a_requirement() -> None:
    record = {"url": "https://example.org/x", "vcs_info": {"vcs": "git", "commit_id": "abc"}}

    requirement = Requirement(install_target("sqs", record).strip("'"))

    assert requirement.extras == {"sqs"}


def test_command_of_this_clone_names_it() -> None:
    assert str(ROOT) in install_command("redis")
