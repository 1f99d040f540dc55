"""The workflow that publishes: what it may do, and which tools it takes."""

import re
from typing import Any

import yaml
from processes import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
TEXT = WORKFLOW.read_text()
FLOW: dict[Any, Any] = yaml.safe_load(TEXT)


def test_only_the_job_of_the_environment_may_ask_for_a_token() -> None:
    asking = {
        name
        for name, job in FLOW["jobs"].items()
        if job.get("permissions", {}).get("id-token") == "write"
    }

    assert FLOW["permissions"] == {}
    assert asking == {"publish"}
    assert FLOW["jobs"]["publish"]["environment"] == "pypi"
    assert "secrets." not in TEXT


def test_it_runs_for_tags_that_make_a_version_only() -> None:
    assert FLOW[True] == {"push": {"tags": ["v[0-9]*"]}}  # YAML reads "on" as a boolean


def test_every_action_is_named_by_a_commit() -> None:
    used = [
        step["uses"] for job in FLOW["jobs"].values() for step in job["steps"] if "uses" in step
    ]

    assert used
    assert [each for each in used if not re.fullmatch(r"[\w/.-]+@[0-9a-f]{40}", each)] == []


def test_it_publishes_what_the_session_has_checked() -> None:
    commands = [step.get("run", "") for step in FLOW["jobs"]["build"]["steps"]]

    assert "nox -s release" in commands
    assert FLOW["jobs"]["publish"]["needs"] == "build"
