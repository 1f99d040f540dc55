"""Reject pickles that would allocate far more than their size.

Owns the walk over a pickle's opcodes. It reads two things only: how long each opcode is, and which
number of the memo it writes. CPython's unpickler in C allocates room for the highest number at
once, and a bytearray for its whole length, so a dozen bytes can claim gigabytes. The one rule:
nothing is run, created or imported here.

Source: CPython 3.13, ``Lib/pickletools.py`` (the opcodes of protocols 0 to 5) and
``Modules/_pickle.c``, ``_Unpickler_MemoPut``.
"""

import re
from pickle import UnpicklingError

__all__ = ["check_claims"]

_COUNTED = {
    **dict.fromkeys(b"CU\x8a\x8c", 1),
    **dict.fromkeys(b"BTX\x8b", 4),
    **dict.fromkeys(b"\x8d\x8e\x96", 8),
}
"""Opcodes that are followed by a length (of this many bytes), and by that much data."""

_OTHERS = re.compile(
    rb"(?:[(012NQR)abdelostu}\]\x81\x85-\x89\x8f-\x94\x97\x98]"  # alone
    rb"|[Khq\x80\x82]."  # with an argument of 1, 2, 4, 8 bytes
    rb"|[M\x83].."
    rb"|[Jj\x84].{4}"
    rb"|[G\x95].{8}"
    rb"|[FILPSVg][^\n]*\n"  # of one line, of two
    rb"|[ci][^\n]*\n[^\n]*\n"
    rb")*+",
    re.DOTALL,
)


def check_claims(data: bytes) -> None:
    """Refuse a pickle that claims more than it could use. Other defects are not checked.

    Raises:
        UnpicklingError: it has a number for the memo, or a length, that is over its own length.
    """
    place, end = 0, len(data)
    while True:
        match = _OTHERS.match(data, place)
        place = place if match is None else match.end()
        code = data[place : place + 1]
        width = _COUNTED.get(code[0]) if code else None
        if width is not None:
            claimed = int.from_bytes(data[place + 1 : place + 1 + width], "little")
            place += 1 + width + claimed
        elif code == b"r":
            claimed = int.from_bytes(data[place + 1 : place + 5], "little")
            place += 5
        elif code == b"p":
            line, _, _ = data[place + 1 :].partition(b"\n")
            claimed = _number(line)
            place += len(line) + 2
        else:
            return  # the end, or no opcode
        if claimed > end:
            raise UnpicklingError(f"a pickle of {end} bytes claims room for {claimed}")


def _number(line: bytes) -> int:
    try:
        return int(line)
    except ValueError:
        return 0
