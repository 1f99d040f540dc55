"""Names that other packages keep private, and that an adapter cannot do without.

Owns the reading of such a name, and the error for a version of the package that has it no more.
The error names the installed version and the versions that the tests run with.

Each name that is read here is a risk: prefer what a package documents.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from deferrable.errors import BackendError

__all__ = ["TESTED", "private"]

TESTED: Mapping[str, tuple[str, str]] = {
    "aiobotocore": ("2.15", "3.10"),
    "aiohttp": ("3.9.2", "3.14"),
    "redis": ("6.0", "8.1"),
}
"""The oldest and the newest version that the tests run with. The newest one is no limit."""

_BROUGHT_BY = {"botocore": "aiobotocore"}
"""Packages of which another one fixes the version."""

_KNOWN_AS = {"redis": "redis-py"}


def private(owner: Any, *names: str, having: str | None = None) -> Any:
    """The attribute of `owner` that `names` lead to, one after another.

    Args:
        having: an attribute that what is found must have to be of use.

    Raises:
        BackendError: the installed version of its package has no such attribute.
    """
    found = owner
    for name in names:
        try:
            owner, found = found, getattr(found, name)
        except AttributeError:
            raise BackendError(_missing(type(found), name)) from None
    if having is not None and not hasattr(found, having):
        raise BackendError(_missing(type(owner), names[-1]))
    return found


def _missing(of: type[Any], name: str) -> str:
    packages = {cls.__module__.partition(".")[0] for cls in of.__mro__}
    packages |= {_BROUGHT_BY[each] for each in packages & _BROUGHT_BY.keys()}
    known = sorted(packages & (TESTED.keys() | _BROUGHT_BY.keys()))
    if not known:
        return (
            f"{of.__module__}.{of.__qualname__} has no usable {name}, which deferrable needs; pass "
            "a client whose parts are made by its own package"
        )
    return (
        f"{of.__qualname__} has no usable {name}, which deferrable needs; installed are "
        f"{' and '.join(map(_installed, known))}: install tested versions, or a newer deferrable"
    )


def _installed(package: str) -> str:
    try:
        number = version(package)
    except PackageNotFoundError:
        number = "of unknown version"
    shown = f"{_KNOWN_AS.get(package, package)} {number}"
    if package in _BROUGHT_BY:
        return shown
    oldest, newest = TESTED[package]
    return f"{shown} (tested: {oldest} to {newest})"
