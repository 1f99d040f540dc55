"""No public name or signature changes unnoticed."""

import pytest
from public_api import COMMAND, FILE, changed_names, public_lines, signature_of, unmentioned

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n- `later` takes more.\n\n## [1.0]\n\n- `pop`.\n"


def test_public_names_are_those_of_the_file() -> None:
    old, new = FILE.read_text().splitlines(), public_lines()

    changes = changed_names(old, new)

    assert not changes, (
        "public names have changed; say so in the unreleased part of CHANGELOG.md, and run "
        f"{COMMAND}:\n" + "\n".join(sorted({*old} ^ {*new}))
    )


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (["def a.f(x)"], ["def a.f(x)"], []),
        (["def a.f(x)"], ["def a.f(x, y=1)"], ["f"]),
        (["def a.f(x)"], ["async def a.f(x)"], ["f"]),
        (["class a.C()", "def a.C.m()"], ["class a.C()"], ["m"]),
        ([], ["value a.LIMIT"], ["LIMIT"]),
    ],
)
def test_what_has_changed_is_found(old: list[str], new: list[str], names: list[str]) -> None:
    assert [*changed_names(old, new)] == names


def test_only_the_unreleased_part_of_the_changelog_counts() -> None:
    assert unmentioned(["later", "pop", "lat"], CHANGELOG) == ["pop", "lat"]


def test_signature_has_names_kinds_and_defaults() -> None:
    def job(a: int, /, b: str = "x", *rest: int, c: object = object, **options: int) -> None: ...

    assert signature_of(job) == "(a, /, b='x', *rest, c=..., **options)"
