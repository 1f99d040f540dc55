"""From an argument to a backend.

Owns the reading of an argument that is either the path of an instance or the URL of a broker.
"""

import os
from urllib.parse import unquote

from deferrable._codec.refusals import describe
from deferrable.aio.backend import Backend, from_url
from deferrable.cli.command_error import USAGE, CommandError
from deferrable.cli.loading import load
from deferrable.errors import DeferrableError

__all__ = ["backend_at", "is_url", "shown_place"]

_LEASE_SECONDS = 60.0
"""What a killed command held comes back after so long."""


def is_url(text: str) -> bool:
    """Whether an argument is a URL, and not MODULE:NAME."""
    return "://" in text


def shown_place(text: str) -> str:
    """The argument without what may be a password."""
    if not is_url(text):
        return text
    scheme, _, rest = text.partition("://")
    _, at, host = rest.rpartition("@")  # a password may contain any character
    return f"{scheme}://{'***@' if at else ''}{host.partition('?')[0]}"


def backend_at(text: str, group: str | None, *, must_exist: bool) -> Backend:
    """The backend that an argument names. Does no I/O but a look at a file.

    Args:
        group: of a URL; an instance has its own.
        must_exist: a missing file or queue is an error, and is not created.

    Raises:
        CommandError: there is no such instance, URL or file, or it is in the memory of a process.
    """
    if not is_url(text):
        backend = load(text).instance.backend
    else:
        backend = _backend_of(text, group, must_exist=must_exist)
    if backend.queue.IS_LOCAL:
        raise CommandError(
            f"{shown_place(text)} keeps its items in the memory of one process ({backend.queue!r}),"
            " where this command has none of them; name a broker that processes share: sqlite:, "
            "redis: or sqs:",
            USAGE,
        )
    return backend


def _backend_of(url: str, group: str | None, *, must_exist: bool) -> Backend:
    settings: dict[str, object] = {"visibility_timeout": _LEASE_SECONDS, "wait_time": 0}
    scheme, _, rest = url.partition("://")
    if scheme.lower() == "sqs":
        # With 0, SQS would not ask all of its servers.
        settings |= {"wait_time": 1, "create": not must_exist}
    try:
        factory = from_url(url, **settings)
        place = unquote(rest.partition("?")[0].removeprefix("/"))
        if scheme.lower() == "sqlite" and must_exist and not os.path.exists(place):
            raise CommandError(
                f"there is no file {place!r}; sqlite:/// stands before a path from the current "
                "directory, sqlite://// before an absolute one",
                USAGE,
            )
        return factory.create_backend_for_group(group)
    except (DeferrableError, ImportError, ValueError) as error:
        raise CommandError(f"{shown_place(url)}: {describe(error)}", USAGE) from error
