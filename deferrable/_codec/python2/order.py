"""The order in which Python 2 wrote its dicts and sets.

Owns that order, and with it Python 2's hashes and tables: keys come in, keys go out. The one rule:
the order depends only on the keys and on their order of insertion, never on this process's hash
seed.

Sources: CPython 2.7.18, ``Objects/dictobject.c`` and ``Objects/setobject.c`` (tables),
``Objects/stringobject.c``, ``Objects/tupleobject.c`` and ``Objects/intobject.c`` (hashes).
"""

from collections.abc import Iterable


def in_python2_order(keys: Iterable[object]) -> list[object]:
    """Return ``keys`` in the order of a Python 2 dict or set to which they were added.

    It is the order of a 64-bit build with hash randomization off, its default, and of a dict that
    grew key by key. Keys other than text, bytes, integers and tuples of these do not change the
    order.
    """
    arrived = list(keys)
    hashes = [_python2_hash(key) for key in arrived]
    table: list[tuple[int, object] | None] = [None] * 8
    for used, (value, key) in enumerate(zip(hashes, arrived, strict=True), start=1):
        if value is None:
            return arrived
        _insert(table, value, key)
        if used * 3 >= len(table) * 2:
            table = _grown(table, used)
    return [entry[1] for entry in table if entry is not None]


def _insert(table: list[tuple[int, object] | None], value: int, key: object) -> None:
    mask = len(table) - 1
    place = perturb = value
    while table[place & mask] is not None:
        place = (place << 2) + place + perturb + 1
        perturb >>= 5
    table[place & mask] = (value, key)


def _grown(table: list[tuple[int, object] | None], used: int) -> list[tuple[int, object] | None]:
    size = 8
    while size <= used * (2 if used > 50_000 else 4):
        size *= 2
    grown: list[tuple[int, object] | None] = [None] * size
    for entry in table:
        if entry is not None:
            _insert(grown, *entry)
    return grown


_64_BITS = (1 << 64) - 1


def _python2_hash(key: object) -> int | None:
    """Return ``hash(key)`` of a 64-bit Python 2.7, as an unsigned number; None if not known."""
    if type(key) is str or type(key) is bytes:
        return _hash_of_codes(key if isinstance(key, bytes) else list(map(ord, key)))
    if type(key) is tuple:
        return _hash_of_tuple(key)
    if isinstance(key, int) and type(key) in (int, bool) and -(1 << 63) <= key < 1 << 63:
        return _not_minus_one(key & _64_BITS)
    return None


def _hash_of_codes(codes: bytes | list[int]) -> int:
    if not codes:
        return 0
    value = codes[0] << 7
    for code in codes:
        value = (1_000_003 * value & _64_BITS) ^ code
    return _not_minus_one(value ^ len(codes))


def _hash_of_tuple(key: tuple[object, ...]) -> int | None:
    value, factor = 0x345678, 1_000_003
    for left, element in zip(range(len(key) - 1, -1, -1), key, strict=True):
        part = _python2_hash(element)
        if part is None:
            return None
        value = (value ^ part) * factor & _64_BITS
        factor += 82_520 + 2 * left
    return _not_minus_one((value + 97_531) & _64_BITS)


def _not_minus_one(value: int) -> int:
    return value - 1 if value == _64_BITS else value


def settled(ordered: list[object], unordered: set[object] | frozenset[object]) -> list[object]:
    """Return ``ordered``, or an order that does not depend on a hash seed."""
    if all(_python2_hash(element) is not None for element in unordered):
        return ordered
    return sorted(unordered, key=lambda element: (type(element).__qualname__, repr(element)))
