"""What griffe cannot read in the source by itself. `griffe` loads this as an extension.

Owns three translations: ``push = blocking(Queue.push)`` is a method; what a public class inherits
from a class that is not public is its own; a public name in a docstring is a link. The names of the
public objects are in the file `names.txt` beside this one, which `build.py` writes.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path

import griffe

__all__ = ["Docstrings"]

NAME = re.compile(r"(?<!`)`(deferrable(?:\.\w+)+)`(?!`)")
OPTIONS = "Args:\n    OPTIONS\n"
"""What stands for all options in the source; Python puts them there when it runs."""
SEE_OPTIONS = "Its arguments are the [options of a job](../options.md).\n"
Found = griffe.Object | griffe.Alias


class Docstrings(griffe.Extension):
    """Completes the public objects of the package."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        if pkg.path != "deferrable":
            return
        names = Path(__file__).with_name("names.txt").read_text().split()
        public = {name: _target(pkg[name.removeprefix("deferrable.")]) for name in names}
        homes = {found.path for found in public.values()}
        for found in public.values():
            if isinstance(found, griffe.Class):
                _add_blocking_methods(found)
        for found in public.values():
            if isinstance(found, griffe.Class):
                _add_inherited(found, homes)
        for module in _modules(pkg):
            _link(module, public)


def _target(found: Found) -> griffe.Object:
    return found.final_target if isinstance(found, griffe.Alias) else found


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for each in module.modules.values():
        if not each.is_alias:
            yield from _modules(each)


def _add_blocking_methods(facade: griffe.Class) -> None:
    """Put a method in the place of each attribute that stands for one."""
    for name, attribute in list(facade.attributes.items()):
        value = attribute.value
        if not isinstance(value, griffe.ExprCall) or str(value.function) != "blocking":
            continue
        awaited = facade.modules_collection[value.arguments[0].canonical_path]
        made = griffe.Function(
            name,
            lineno=attribute.lineno,
            endlineno=attribute.endlineno,
            parameters=awaited.parameters,
            returns=awaited.returns,
            docstring=copy.copy(awaited.docstring),
        )
        made.labels |= awaited.labels - {"async", "abstractmethod"}
        facade.set_member(name, made)


def _add_inherited(found: griffe.Class, homes: set[str]) -> None:
    """Give a class what it inherits from classes that are not public, and no longer name these."""
    hidden = [base for base in found.mro() if base.path not in homes]
    for base in hidden:
        for name, member in base.members.items():
            if not name.startswith("_") and name not in found.members and not member.is_alias:
                found.set_member(name, copy.copy(member))
    paths = {base.path for base in hidden}
    found.bases = [base for base in found.bases if _path_of(base) not in paths]


def _path_of(base: str | griffe.Expr) -> str:
    if isinstance(base, griffe.ExprSubscript):
        return _path_of(base.left)
    return base if isinstance(base, str) else base.canonical_path


def _link(found: Found, public: dict[str, griffe.Object]) -> None:
    """Make links of the public names in a docstring, and in those of its members."""

    def link(match: re.Match[str]) -> str:
        path = match[1]
        owner, _, member = path.rpartition(".")
        is_known = path in public or (owner in public and member in public[owner].members)
        return f"[`{path}`][{path}]" if is_known else match.group()

    if found.docstring is not None:
        text = found.docstring.value.replace(OPTIONS, SEE_OPTIONS)
        found.docstring.value = NAME.sub(link, text)
    for each in found.members.values():
        if not each.is_alias and not each.is_module:
            _link(each, public)
