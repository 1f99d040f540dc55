"""Which items are read at all, and how those that are written can be told from others.

Owns the order of the checks: is its serializer accepted, is it signed, can it be decrypted; and
the options that say so. It may not know queues or jobs. The one rule: `check` comes before any
field of an item is decoded or acted upon.
"""

from collections.abc import Iterable

from deferrable._codec.contract import Serializer
from deferrable._codec.refusals import told
from deferrable._codec.serializers import get_serializer, local, serializer_for
from deferrable._encryption import EncryptedSerializer, Encryption
from deferrable._signing import SigningKeys, is_signed, read_keys, sign
from deferrable.errors import InvalidOptions, SerializationError, UnreadableItem
from deferrable.item import Item, queue_name

__all__ = ["Encryption", "Protection", "SigningKeys"]


_PICKLES = ("pickle", "classic")


class Protection:
    """What an instance trusts, and how it earns trust.

    Args:
        serializer: what new items are written with.
        accept: the serializers of items that are read; None: all.
        signing_keys: the first one signs, any of them verifies; none: nothing is signed or asked
            to be.
        encryption: hides arguments and metadata; None: nothing does.

    Attributes:
        serializer: what new items are written with, encrypting if it is to.
        local_serializer: the same for a queue that only this process reads.

    Raises:
        InvalidOptions: a name is unknown, a key is none, or two options contradict each other.
    """

    def __init__(
        self,
        serializer: str,
        accept: Iterable[str] | None = None,
        signing_keys: SigningKeys = (),
        encryption: Encryption | None = None,
    ) -> None:
        self._accept = None if accept is None else _read_names(accept)
        self._keys = read_keys(signing_keys)
        self._encryption = encryption
        self.serializer = get_serializer(serializer)
        self.local_serializer = local(self.serializer)
        if encryption is not None:
            if serializer == "classic":
                raise InvalidOptions(
                    "encryption= is of no use with serializer='classic', whose readers in Python 2 "
                    "cannot decrypt; leave it out, or use another serializer"
                )
            self.serializer = EncryptedSerializer(self.serializer, encryption)
            self.local_serializer = EncryptedSerializer(self.local_serializer, encryption)

    @property
    def signs(self) -> bool:
        """Whether items are signed, so that nobody else may change one on its way."""
        return bool(self._keys)

    @property
    def reads_pickles(self) -> bool:
        """Whether it reads items that can run code by themselves: pickle's or classic's."""
        return self._accept is None or not self._accept.isdisjoint(_PICKLES)

    def check(self, item: Item, group: str | None) -> None:
        """Refuse an item that must not be read, by this group.

        Raises:
            UnreadableItem: its serializer is not accepted, or its signature is missing or wrong.
        """
        if self._accept is not None:
            self._check_accepted(item, self._accept)
        if self._keys and not self._has_signed(item, group):
            has_one = item.get("signature") is not None
            raise UnreadableItem(
                "the item's signature is wrong: none of this consumer's signing_keys has made it "
                "for this item in this group; if that key was rotated out too early, add it and "
                "requeue the item"
                if has_one
                else "the item is not signed, and this consumer has signing_keys, so it reads only "
                "what is; give its producers the key"
            )

    def serializer_for(self, item: Item) -> Serializer:
        """What reads an item that was checked.

        Raises:
            UnreadableItem: it is of a serializer that is unknown or not accepted, or encrypted for
                others.
        """
        if self._accept is not None:
            self._check_accepted(item, self._accept)
        serializer = serializer_for(item)
        if not item.get("encrypted"):
            return serializer
        if self._encryption is None:
            raise UnreadableItem(
                "the item is encrypted, and this consumer has no encryption=; give it that of its "
                "producers"
            )
        return EncryptedSerializer(serializer, self._encryption)

    def signed(self, item: Item, group: str | None) -> Item:
        """`item` as it is pushed: signed, if there are keys.

        Raises:
            SerializationError: it is not made of JSON values.
        """
        if not self._keys:
            return item
        try:
            return {**item, "signature": sign(item, queue_name(group), self._keys[0])}
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(f"the item cannot be signed: {told(error)}") from error

    def _check_accepted(self, item: Item, accept: frozenset[str]) -> None:
        name = serializer_for(item).name
        if name not in accept:
            raise UnreadableItem(
                f"the item was written by serializer {name!r}, and this consumer accepts only "
                f"{', '.join(map(repr, sorted(accept))) or 'none'}; nothing in it was decoded"
            )

    def _has_signed(self, item: Item, group: str | None) -> bool:
        try:
            return is_signed(item, queue_name(group), self._keys)
        except (TypeError, ValueError, RecursionError) as error:
            raise UnreadableItem(
                f"the item's signature cannot be checked: {told(error)}"
            ) from error


def _read_names(accept: Iterable[str]) -> frozenset[str]:
    if isinstance(accept, str):
        raise InvalidOptions(
            f"accept is a sequence of serializers, got the text {accept!r:.80}; "
            f"write ({accept!r:.80},)"
        )
    try:
        return frozenset([get_serializer(name).name for name in accept])
    except InvalidOptions as error:
        raise InvalidOptions(f"accept names what cannot be read: {error}") from error
