"""What is public: each name of each public module, what it is, and how it is called.

Owns the file ``public_api.txt``. ``python tests/public_api.py`` writes it again.

The one rule: it is written only when the unreleased part of the changelog names each thing that has
changed. Annotations are left out, because each Python prints them in its own way.
"""

import inspect
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from processes import ROOT
from test_public_paths import PUBLIC

__all__ = ["FILE", "changed_names", "public_lines", "unmentioned"]

FILE = Path(__file__).with_name("public_api.txt")
COMMAND = "python tests/public_api.py"
SHOWN_DEFAULTS = (bool, int, float, str, type(None))


def public_lines() -> list[str]:
    """One line for each public name, and one for each public member of a class, at its first path.

    The tests of the conformance suite are left out; `tests/mutants` watches those.
    """
    found = {
        f"{path}.{name}": getattr(module, name)
        for path, names in PUBLIC.items()
        for module in (import_module(path),)
        for name in sorted({*names.split(), *getattr(module, "__all__", ())})
    }
    classes: dict[type, str] = {}
    for path, value in found.items():
        if inspect.isclass(value):
            classes.setdefault(value, path)
    lines = {line_of(path, value) for path, value in found.items()}
    for kind, path in classes.items():
        lines.update(lines_of_members(path, kind, {*classes} - {kind}))
    return sorted(lines)


def line_of(name: str, value: Any) -> str:
    if inspect.isclass(value):
        return f"class {name}{signature_of(value)}"
    if inspect.isroutine(value):
        is_async = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
        return f"{'async ' if is_async else ''}def {name}{signature_of(value)}"
    return f"value {name}"


def lines_of_members(path: str, kind: type, others: Collection[type]) -> Iterator[str]:
    """What a class has, also from bases of ours that are not public themselves."""
    for name in dir(kind):
        owner = next((each for each in kind.__mro__ if name in vars(each)), object)
        if name.startswith(("_", "test_")) or owner in others:
            continue
        if not owner.__module__.startswith("deferrable"):
            continue
        value = inspect.getattr_static(kind, name)
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        yield line_of(f"{path}.{name}", value)


def signature_of(value: Any) -> str:
    if inspect.isbuiltin(value):
        return "(...)"  # what a function in C says of itself differs between versions of Python
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [
        each.replace(annotation=each.empty, default=shown_default(each.default))
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(parameters)).replace("=Ellipsis", "=...")


def shown_default(default: Any) -> Any:
    return default if default is inspect.Parameter.empty or type(default) in SHOWN_DEFAULTS else ...


def changed_names(old: Iterable[str], new: Iterable[str]) -> dict[str, str]:
    """The last part of each name whose line has come, gone or changed, and one such line."""
    found: dict[str, str] = {}
    for line in sorted({*old} ^ {*new}):
        found.setdefault(name_in(line), line)
    return found


def name_in(line: str) -> str:
    full = re.sub(r"^(?:class|async def|def|value) ", "", line)
    return full.partition("(")[0].rpartition(".")[2]


def unmentioned(names: Iterable[str], changelog: str) -> list[str]:
    """Those that the unreleased part of a changelog does not contain."""
    part = changelog.partition("## [Unreleased]")[2].partition("\n## [")[0]
    words = set(re.findall(r"\w+", part))
    return [name for name in names if name not in words]


def main() -> int:
    new = public_lines()
    old = FILE.read_text().splitlines() if FILE.exists() else new
    changes = changed_names(old, new)
    silent = unmentioned(changes, (ROOT / "CHANGELOG.md").read_text())
    if silent:
        print("first say in the unreleased part of CHANGELOG.md what happens to:")
        print("\n".join(f"  {changes[name]}" for name in silent))
        return 1
    FILE.write_text("\n".join(new) + "\n")
    print(f"{FILE.relative_to(ROOT)}: {len(new)} lines, {len(changes)} names changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
