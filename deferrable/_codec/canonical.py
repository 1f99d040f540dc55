"""One digest for each value, the same in every process.

Owns the rules of equality for arguments: equal structure of equal parts. The order of keywords,
dicts and sets does not matter. It also does not matter whether two equal parts are one object or
two, which process asks, its hash seed, or its version of Python. The type matters: 1, 1.0 and True
are three values.

The one rule: nothing that depends on the process (an id, a hash, an order of iteration) enters a
digest. Values are taken apart as pickle does it (``__reduce_ex__``), except for the few types
whose parts differ between versions of Python.
"""

import copyreg
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cached_property
from inspect import getattr_static
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any
from zoneinfo import ZoneInfo

from deferrable.errors import UnserializableCall

__all__ = ["digest"]

_REDUCE_PROTOCOL = 4
"""Every supported Python has it; a later default must not change digests."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A value taken apart: `kind` says how, and holds values without parts; parts are values."""

    kind: bytes
    parts: Sequence[Any] = ()
    is_ordered: bool = True


def digest(value: object) -> bytes:
    """32 bytes for `value`, of any depth, also with shared parts or cycles.

    Two cycles that look the same from their entry are the same, like two equal values.

    Raises:
        UnserializableCall: a part of `value` cannot be written by pickle, either.
    """
    nodes, links = _expand(value)
    digests = _digest_trees(nodes, links)
    root = digests[0]
    return _digest_cycles(nodes, links, digests) if root is None else root


def _expand(value: object) -> tuple[list[_Node], list[list[int]]]:
    """The nodes of `value`, with `value` first, and the numbers of the parts of each.

    One object is one node, so that the work grows with the objects and not with the paths.
    """
    values = [value]
    numbers = {id(value): 0}
    nodes: list[_Node] = []
    links: list[list[int]] = []
    for each in values:
        node = _take_apart(each)
        parts: list[int] = []
        for part in node.parts:
            number = numbers.setdefault(id(part), len(values))
            if number == len(values):
                values.append(part)  # keeps it alive: the id of a dead object is used again
            parts.append(number)
        nodes.append(node)
        links.append(parts)
    return nodes, links


def _digest_trees(nodes: list[_Node], links: list[list[int]]) -> list[bytes | None]:
    """Digests from the leaves up. None where there is a cycle inside."""
    digests: list[bytes | None] = [None] * len(nodes)
    wholes: list[list[int]] = [[] for _ in nodes]
    for number, parts in enumerate(links):
        for part in parts:
            wholes[part].append(number)
    missing = [len(parts) for parts in links]
    ready = [number for number, count in enumerate(missing) if not count]
    while ready:
        number = ready.pop()
        digests[number] = _combine(nodes[number], [digests[part] for part in links[number]])
        for whole in wholes[number]:
            missing[whole] -= 1
            if not missing[whole]:
                ready.append(whole)
    return digests


def _digest_cycles(
    nodes: list[_Node], links: list[list[int]], digests: list[bytes | None]
) -> bytes:
    """The digest of the first node, when there are cycles below it.

    In each round a node's colour contains one more step of what is below it. If a round separates
    no nodes that looked alike before, no later round will (partition refinement). The number of
    rounds is thus a property of the value, not of how many objects it is made of.
    """
    open_numbers = [number for number, known in enumerate(digests) if known is None]
    colours = list(digests)
    count = 0
    while True:
        refined = list(colours)
        for number in open_numbers:
            refined[number] = _combine(nodes[number], [colours[part] for part in links[number]])
        kinds = {(colours[number], refined[number]) for number in open_numbers}
        if len(kinds) == count:
            root = colours[0] or b""
            return _hash(
                b"cycles", root, *sorted((old or b"") + (new or b"") for old, new in kinds)
            )
        count = len(kinds)
        colours = refined


def _combine(node: _Node, digests: Sequence[bytes | None]) -> bytes:
    parts = [digest or b"" for digest in digests]
    if not node.is_ordered:
        parts.sort()
    return _hash(b"%d %d " % (len(node.kind), len(parts)), node.kind, *parts)


def _hash(*texts: bytes) -> bytes:
    return hashlib.sha256(b"".join(texts)).digest()


def _take_apart(value: object) -> _Node:
    if isinstance(value, _Node):
        return value
    take_apart = _KINDS.get(type(value))
    if take_apart is not None:
        return take_apart(value)
    for base, take_apart_kind in _FAMILIES:
        if isinstance(value, base):
            return take_apart_kind(value)
    return _take_apart_as_pickle(value)


def _leaf(kind: str, text: str) -> _Node:
    return _Node(f"{kind} {text}".encode("utf-8", "surrogatepass"))


def _members(items: Any) -> tuple[_Node, ...]:
    return tuple(_Node(b"pair", pair) for pair in items)


# The kinds that pickle does not take apart, by exact type.

_KINDS: dict[type, Callable[[Any], _Node]] = {
    type(None): lambda value: _Node(b"none"),
    bool: lambda value: _leaf("bool", str(value)),
    # Hexadecimal, because Python refuses to write an integer of 4301 decimal digits.
    int: lambda value: _leaf("int", f"{value:x}"),
    float: lambda value: _leaf("float", repr(value)),
    complex: lambda value: _leaf("complex", repr(value)),
    str: lambda value: _leaf("str", value),
    bytes: lambda value: _Node(b"bytes " + value),
    bytearray: lambda value: _Node(b"bytearray " + value),
    tuple: lambda value: _Node(b"tuple", value),
    list: lambda value: _Node(b"list", tuple(value)),
    dict: lambda value: _Node(b"dict", _members(value.items()), is_ordered=False),
    set: lambda value: _Node(b"set", tuple(value), is_ordered=False),
    frozenset: lambda value: _Node(b"frozenset", tuple(value), is_ordered=False),
    MethodType: lambda value: _take_apart_method(value),
    FunctionType: lambda value: _take_apart_function(value),
    BuiltinFunctionType: lambda value: _take_apart_builtin(value),
}


# The families that pickle does not take apart, by base class. Checked one after another.


def _take_apart_enum(member: Enum) -> _Node:
    """By value: a flag's combinations have no name in some versions, and reduce differently."""
    return _Node(b"enum", (type(member), member._value_))


def _take_apart_set(members: set[Any] | frozenset[Any]) -> _Node:
    """A subclass: pickle would list its members in the order of their hashes."""
    content = _Node(b"members", tuple(members), is_ordered=False)
    state: object = members.__getstate__()
    return _Node(b"set like", (type(members), content, state))


def _take_apart_path(path: PurePath) -> _Node:
    """Its module and what it reduces to changed in 3.12 and in 3.13."""
    return _Node(b"path", (type(path), str(path)))


def _take_apart_zone(zone: ZoneInfo) -> _Node:
    """What it reduces to belongs to another class in some versions; one without a key reduces to
    nothing."""
    if zone.key is None:
        raise UnserializableCall(f"{zone!r} was read from a file; use ZoneInfo(key) instead")
    return _Node(b"zone", (type(zone), zone.key))


def _take_apart_fraction(number: Fraction) -> _Node:
    """Reduced to its text until 3.11, to two integers since."""
    return _Node(b"fraction", (type(number), number.numerator, number.denominator))


_FAMILIES: tuple[tuple[Any, Callable[[Any], _Node]], ...] = (
    (Enum, _take_apart_enum),
    (type, lambda value: _reference(value)),
    (set | frozenset, _take_apart_set),
    (PurePath, _take_apart_path),
    (ZoneInfo, _take_apart_zone),
    (Fraction, _take_apart_fraction),
)


# Everything else is taken apart as pickle does it.


def _take_apart_as_pickle(value: object) -> _Node:
    reduced = _reduce(value)
    if isinstance(reduced, str):
        return _leaf("global", f"{_module_of(value)}:{reduced}")
    make, arguments, state, listed, pairs, *_ = (*reduced, None, None, None)
    if isinstance(state, dict):
        state = _without_caches(type(value), state)
    is_ordered = isinstance(value, OrderedDict)
    return _Node(
        b"object",
        (
            make,
            arguments,
            state,
            _Node(b"listed", tuple(listed or ())),
            _Node(b"pairs", _members(pairs or ()), is_ordered),
        ),
    )


def _reduce(value: object) -> str | tuple[Any, ...]:
    reduce = copyreg.dispatch_table.get(type(value))
    try:
        return reduce(value) if reduce is not None else value.__reduce_ex__(_REDUCE_PROTOCOL)
    except Exception as error:
        raise UnserializableCall(
            f"cannot decide whether two calls with a value of type "
            f"{type(value).__qualname__} are the same: "
            f"{error}; pass something that can be pickled, or give debounce_key="
        ) from error


def _without_caches(owner: type, state: dict[Any, Any]) -> dict[Any, Any]:
    """`state` without the values of cached properties: reading an argument changes nothing."""
    return {
        name: member
        for name, member in state.items()
        if not isinstance(name, str)
        or not isinstance(getattr_static(owner, name, None), cached_property)
    }


def _take_apart_method(method: Any) -> _Node:
    return _Node(b"method", (method.__self__, method.__name__))


def _take_apart_builtin(function: Any) -> _Node:
    owner = function.__self__
    if owner is None or isinstance(owner, ModuleType):
        return _reference(function)
    return _take_apart_method(function)


def _take_apart_function(function: FunctionType) -> _Node:
    if "<" in function.__qualname__:
        # Two lambdas share one name, and would look like the same argument.
        raise UnserializableCall(
            f"{function.__qualname__} of {function.__module__} has no name that another process "
            "could find; pass a function from the top level of a module, or give debounce_key="
        )
    return _reference(function)


def _reference(value: Any) -> _Node:
    return _leaf("global", f"{_module_of(value)}:{value.__qualname__}")


def _module_of(value: Any) -> str:
    """Where `value` is defined, without private modules, which differ between versions."""
    module: str | None = getattr(value, "__module__", None)
    package, _, private = (module or "builtins").partition("._")
    return package if private and "." not in package and package in _MOVED else module or "builtins"


_MOVED = frozenset({"pathlib"})
"""Packages of the standard library whose public names live in a private module in some versions."""
