"""Backend factories from a URL.

Owns what the URL of each backend means. The rule: no message shows a part of a URL that may hold a
password. Such parts are the user, the host, and each value that does not belong to a setting of
ours.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote

from deferrable._durations import optional_seconds_of
from deferrable.aio.backend._url_settings import Reader, no_setting, read_values, readers_of
from deferrable.aio.backend.base import BackendFactory
from deferrable.errors import InvalidOptions

__all__ = ["VARIABLE", "FactoryCall", "factory_call", "from_url"]

VARIABLE = "DEFERRABLE_URL"
"""The environment variable that `from_url` reads if it gets no URL."""

_EXAMPLES = (
    "sqlite:///jobs.db, redis://localhost:6379/0, sqs://eu-west-1, or memory:// for this process "
    "alone"
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+", re.ASCII)


class FactoryCall(NamedTuple):
    """The factory that a URL names, and what it is called with. Both APIs make theirs from it."""

    factory: type[BackendFactory]
    arguments: tuple[object, ...]
    settings: Mapping[str, object]


def from_url(url: str | None = None, /, **settings: object) -> BackendFactory:
    """The factory of the backend at `url`: that of Redis for ``redis://``, and so on.

    It lets one environment variable move an application from one broker to another.

    Args:
        url: ``sqlite:///RELATIVE_PATH`` or ``sqlite:////ABSOLUTE/PATH``; ``redis://``,
            ``rediss://`` or ``unix://`` as redis-py writes them; ``sqs://`` or ``sqs://REGION``;
            ``memory://``. The parameters after the ``?`` are settings of the
            factory, and those of redis-py. None: what the environment's ``DEFERRABLE_URL`` says.
        settings: settings of the factory. A setting in the URL overrides the one here. Two have one
            name for every backend: `visibility_timeout`, the seconds that a lease lasts, and
            `wait_time`, the seconds that a pop waits.

    Returns:
        the factory; it does no I/O.

    Raises:
        InvalidOptions: there is no URL, no backend has its scheme, or a setting is unknown or out
            of range. The message never shows a password.
        ImportError: the backend's extra is not installed.
    """
    call = factory_call(url, settings)
    make: Callable[..., BackendFactory] = call.factory
    return make(*call.arguments, **call.settings)


def factory_call(url: str | None, settings: Mapping[str, object]) -> FactoryCall:
    """What `from_url` calls; see there."""
    scheme, place, query = _split(_given(url))
    kind = _KINDS.get(scheme)
    if kind is None:
        raise InvalidOptions(_unknown_scheme(scheme))
    factory = kind.load()
    readers = readers_of(factory, {name.own: common for common, name in kind.names.items()})
    _check_names(kind, settings, readers)
    pairs = [(each, *_pair(each)) for each in query.split("&") if each]
    ours = [(name, text) for _, name, text in pairs if name in readers]
    others = [(each, name) for each, name, _ in pairs if name not in readers]
    # What stands before an "@" may be the rest of a password with a "?" in it.
    is_shown = "@" not in query
    arguments, placed = kind.read_place(
        _Parts(scheme, place, others, is_shown, [name for name in readers if readers[name]])
    )
    values = read_values(ours, readers, placed.keys(), is_shown=is_shown)
    return FactoryCall(factory, arguments, _renamed({**settings, **placed, **values}, kind))


def _given(url: object) -> str:
    if url is None:
        url = os.environ.get(VARIABLE, "").strip()
        if not url:
            raise InvalidOptions(
                f"from_url() got no URL, and {VARIABLE} is not set; set it to one such as "
                f"{_EXAMPLES}"
            )
    if not isinstance(url, str):
        raise InvalidOptions(
            f"from_url takes a URL such as {_EXAMPLES}; got a value of type {type(url).__name__}. "
            "Give a client to the class of a factory, such as DocketsBackendFactory"
        )
    return url.strip()


def _split(url: str) -> tuple[str, str, str]:
    """The scheme of `url`, what is between it and the first ``?``, and what follows that."""
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or not _SCHEME.fullmatch(scheme):
        # It is not shown: it may be anything, such as a password in the wrong variable.
        raise InvalidOptions(f"the URL of a backend begins with SCHEME://, such as {_EXAMPLES}")
    place, _, query = rest.partition("?")
    return scheme, place, query


def _pair(text: str) -> tuple[str, str]:
    found = parse_qsl(text, keep_blank_values=True, max_num_fields=1)
    return found[0] if found else ("", "")


def _unknown_scheme(scheme: str) -> str:
    if "redis" in scheme or "valkey" in scheme:
        return (
            f"no URL of a backend begins with {scheme}://; write redis://, rediss:// or unix:// "
            "(for Valkey, too), and for Sentinel or a cluster give the client of redis-py to "
            "DocketsBackendFactory"
        )
    return f"no backend has a URL that begins with {scheme}://; write one such as {_EXAMPLES}"


# The backends.


class _Parts(NamedTuple):
    """A URL without the settings that are ours.

    Attributes:
        place: what is between the scheme and the ``?``.
        others: the parameters that are not ours, as they are written, and their names.
        is_shown: whether the names of parameters may stand in a message.
        settings: the names of those that text can say.
    """

    scheme: str
    place: str
    others: Sequence[tuple[str, str]]
    is_shown: bool
    settings: Sequence[str]


class _Name(NamedTuple):
    """What a factory calls a setting that has one name for every backend."""

    own: str
    is_over_zero: bool


Placed: TypeAlias = tuple[tuple[object, ...], dict[str, object]]
"""The positional arguments and the settings that follow from where a backend is."""


@dataclass(frozen=True)
class _Kind:
    """One backend.

    Attributes:
        title: what messages call it.
        load: returns its factory's class; an ImportError names a missing extra.
        read_place: takes the rest of the URL.
        names: the settings that its factory calls otherwise.
    """

    title: str
    load: Callable[[], type[BackendFactory]]
    read_place: Callable[[_Parts], Placed]
    names: Mapping[str, _Name] = field(default_factory=dict)


def _load_memory() -> type[BackendFactory]:
    from deferrable.aio.backend.memory._factory import InMemoryBackendFactory

    return InMemoryBackendFactory


def _load_dockets() -> type[BackendFactory]:
    from deferrable.aio.backend.dockets._factory import DocketsBackendFactory

    return DocketsBackendFactory


def _load_sqlite() -> type[BackendFactory]:
    from deferrable.aio.backend.sqlite._factory import SQLiteBackendFactory

    return SQLiteBackendFactory


def _load_sqs() -> type[BackendFactory]:
    from deferrable.aio.backend.sqs._factory import SQSBackendFactory

    return SQSBackendFactory


def _memory_place(parts: _Parts) -> Placed:
    _refuse_others("in-memory", parts)
    if parts.place.strip("/"):
        raise InvalidOptions(
            "memory:// names no host and no path, because the items live in this process; write "
            "memory://"
        )
    return (), {}


def _sqlite_place(parts: _Parts) -> Placed:
    _refuse_others("SQLite", parts)
    path = unquote(parts.place.removeprefix("/"))
    if not parts.place.startswith("/") or not path or path.endswith("/"):
        raise InvalidOptions(
            "the URL of a SQLite file is sqlite:///PATH with three slashes, such as "
            "sqlite:///jobs.db for jobs.db in the current directory, or with four and an absolute "
            "path, such as sqlite:////var/lib/app/jobs.db"
        )
    return (path,), {}


def _redis_place(parts: _Parts) -> Placed:
    from deferrable.aio.backend._redis.settings import setting_names

    known = setting_names(parts.scheme) - {"timeout"}  # of redis-py's pool, or of our factory?
    unknown = [name for _, name in parts.others if name not in known]
    if unknown:
        raise no_setting("Redis", unknown[0] if parts.is_shown else None, parts.settings)
    query = "&".join(text for text, _ in parts.others)
    url = f"{parts.scheme}://{parts.place}"
    return (f"{url}?{query}" if query else url,), {}


def _sqs_place(parts: _Parts) -> Placed:
    _refuse_others("SQS", parts)
    region = parts.place.removesuffix("/")
    if not region:
        return (), {}
    if not _REGION.fullmatch(region):
        raise InvalidOptions(
            "between sqs:// and the ? stands a region, such as eu-west-1, or nothing; give "
            "credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, another "
            "server by sqs://?endpoint_url=http://HOST:PORT, and a queue of an account by "
            "sqs://?queue_url=https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        )
    return (), {"region_name": region}


_REDIS = _Kind(
    "Redis",
    _load_dockets,
    _redis_place,
    {"visibility_timeout": _Name("timeout", is_over_zero=True)},
)
_KINDS = {
    "memory": _Kind(
        "in-memory",
        _load_memory,
        _memory_place,
        {"wait_time": _Name("timeout", is_over_zero=False)},
    ),
    "redis": _REDIS,
    "rediss": _REDIS,
    "unix": _REDIS,
    "sqlite": _Kind("SQLite", _load_sqlite, _sqlite_place),
    "sqs": _Kind("SQS", _load_sqs, _sqs_place),
}


def _refuse_others(title: str, parts: _Parts) -> None:
    if parts.others:
        name = parts.others[0][1] if parts.is_shown else None
        raise no_setting(title, name, parts.settings)


def _check_names(
    kind: _Kind, settings: Mapping[str, object], readers: Mapping[str, Reader | None]
) -> None:
    unknown = settings.keys() - readers.keys()
    if unknown:
        raise no_setting(kind.title, min(unknown), list(readers))


def _renamed(values: Mapping[str, object], kind: _Kind) -> dict[str, object]:
    """The settings under the names that the factory has for them."""
    renamed = {}
    for name, value in values.items():
        common = kind.names.get(name)
        if common is None:
            renamed[name] = value
        else:
            renamed[common.own] = optional_seconds_of(name, value, is_over=common.is_over_zero)
    return renamed
