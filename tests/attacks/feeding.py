"""Feed bytes to a decoder, and check what it does.

Owns the one check: nothing but `UnreadableItem` is raised, and no code runs.
"""

from attacks.decoders import DECODERS, Decoder
from attacks.guard import watching
from deferrable.errors import UnreadableItem

__all__ = ["feed", "warm_up"]


def feed(decoder: Decoder, data: bytes) -> bool:
    """Whether `data` could be read.

    Raises:
        BaseException: the decoder raised something else, or ran code.
    """
    with watching(may_make_objects=decoder.may_unpickle):
        try:
            decoder.decode(data)
        except UnreadableItem:
            return False
        return True


def warm_up() -> None:
    """Import everything that decoding imports, so that imports do not look like attacks."""
    for decoder in DECODERS.values():
        for example in (*decoder.examples, b"", b"\xff"):
            try:
                decoder.decode(example)
            except UnreadableItem as error:
                repr(error)
