"""The names of queues in SQS.

Owns the name of a group's queue and of its error queue, and the parts of a queue's URL. It does no
I/O.
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from deferrable.errors import InvalidOptions
from deferrable.item import queue_name

__all__ = [
    "FIFO_SUFFIX",
    "Names",
    "check_endpoint",
    "check_owner",
    "endpoint_in",
    "error_url_beside",
    "name_in",
    "names_beside",
    "names_for",
    "region_in",
]

FIFO_SUFFIX = ".fifo"
_LONGEST_NAME = 80
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.fifo)?", re.ASCII)

_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_REGION = r"(?P<region>[a-z]{2,}(?:-[a-z]+)+-[0-9]+)"
_HOSTS = (
    # sqs.REGION.amazonaws.com, sqs-fips.REGION.amazonaws.com, sqs.REGION.api.aws (dual-stack),
    # vpce-ID.sqs.REGION.vpce.amazonaws.com, and their like in other partitions
    re.compile(rf"(?:vpce-[a-z0-9-]+\.)?sqs(?:-fips)?\.{_REGION}\..+"),
    re.compile(rf"{_REGION}\.queue\..+"),
)
_OLDEST_HOST, _OLDEST_REGION = "queue.amazonaws.com", "us-east-1"
_USUAL_HOST = re.compile(
    rf"(?:sqs\.{_REGION}|(?:[a-z0-9-]+\.)?queue)\.amazonaws\.com(?:\.cn)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a queue and of its error queue."""

    queue: str
    error_queue: str

    @property
    def are_fifo(self) -> bool:
        return self.queue.endswith(FIFO_SUFFIX)


def names_for(group: str | None, suffix: str | None) -> Names:
    """The names for `group`; a suffix becomes a part of the group first, ``.fifo`` comes last.

    Raises:
        InvalidOptions: SQS does not allow them.

    Source: SQS API reference, CreateQueue, QueueName: up to 80 of ``A-Za-z0-9_-``, and ``.fifo``.
    """
    parts = [part for part in (group, suffix) if part]
    is_fifo = any(part.endswith(FIFO_SUFFIX) for part in parts)
    base = queue_name("_".join(part.removesuffix(FIFO_SUFFIX) for part in parts))
    end = FIFO_SUFFIX if is_fifo else ""
    names = Names(f"{base}{end}", f"{base}_error{end}")
    for name in (names.queue, names.error_queue):
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise InvalidOptions(
                f"SQS does not allow the queue name {name!r} (group {group!r}, name_suffix "
                f"{suffix!r}); use up to {_LONGEST_NAME} letters, digits, hyphens and underscores"
            )
    return names


def names_beside(name: str) -> Names:
    """The names of a queue that is called `name` already, and of the error queue beside it."""
    base = name.removesuffix(FIFO_SUFFIX)
    return Names(name, f"{base}_error{name[len(base) :]}")


def name_in(url: str) -> str:
    """The name of the queue at `url`.

    Raises:
        InvalidOptions: it is not the URL of a queue.
    """
    parts = _parts_of(url)
    name = parts.path.rstrip("/").rpartition("/")[2]
    is_plain = url.split() == [url] and not (parts.query or parts.fragment)
    if parts.scheme not in ("http", "https") or not is_plain or not _NAME.fullmatch(name):
        raise InvalidOptions(
            f"{url!r} is not the URL of a queue; write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        )
    return name


def error_url_beside(url: str) -> str:
    """The URL of the error queue beside the queue at `url`: same account, same host."""
    name = name_in(url)
    parts = urlsplit(url)
    account = parts.path.rstrip("/").removesuffix(name)
    return parts._replace(path=account + names_beside(name).error_queue).geturl()


def region_in(url: str | None) -> str | None:
    """The region that the URL of a queue, or of an endpoint, names; None: it names none.

    Source: AWS General Reference, Amazon SQS endpoints and quotas; SQS developer guide, VPC
    endpoints; botocore, endpoint-rule-set of SQS.
    """
    host = _host_in(url)
    if host == _OLDEST_HOST:
        return _OLDEST_REGION
    found = (pattern.fullmatch(host) for pattern in _HOSTS)
    return next((match["region"] for match in found if match), None)


def endpoint_in(url: str | None) -> str | None:
    """The endpoint for the queue at `url`, if its region alone does not decide it.

    The URL of a FIPS, dual-stack or VPC endpoint, or of another server, says where its owner wants
    requests to go.
    """
    if url is None or _USUAL_HOST.fullmatch(_host_in(url)):
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def check_endpoint(url: str | None) -> None:
    """Refuse what no client could send a request to.

    Raises:
        InvalidOptions: it is neither None nor the URL of a server.
    """
    parts = _parts_of(url or "")
    try:
        is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_server = False
    if url is not None and not is_server:
        raise InvalidOptions(
            f"endpoint_url={url!r} is not the URL of a server; write http://HOST:PORT or "
            "https://HOST"
        )


def check_owner(account_id: str | None) -> str | None:
    """Refuse what is no id of an AWS account.

    Raises:
        InvalidOptions: it is neither None nor a text of 12 digits.
    """
    if account_id is not None and not _ACCOUNT.fullmatch(str(account_id)):
        raise InvalidOptions(
            f"owner_account_id={account_id!r:.80} is not the id of an AWS account, a text of 12 "
            "digits"
        )
    return None if account_id is None else str(account_id)


def _host_in(url: str | None) -> str:
    return _parts_of(url).hostname or "" if url else ""


def _parts_of(url: str) -> SplitResult:
    """Those of `url`; all are empty, if it is no URL at all."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
