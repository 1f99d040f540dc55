"""What the failures of SQS mean.

Owns the translation of what botocore raises, or a batch's answer tells, into this library's errors.
It may not know queues, nor what was asked for.

The one rule: servers differ in their codes, so codes are told by family, not by their exact text.
"""

from typing import Any

from deferrable.aio.backend._sqs_extra import aiohttp, botocore
from deferrable.errors import BackendError, BackendUnavailable

__all__ = ["Refused", "is_in", "is_lost_handle", "is_throttling", "translated"]

_THROTTLING = ("throttl", "toomanyrequests", "requestlimitexceeded", "slowdown", "overlimit")
_LOST_HANDLE = ("receipthandleisinvalid", "messagenotinflight", "invalidparametervalue")
_MISSING = ("nonexistentqueue", "queuedoesnotexist")
_DENIED = ("accessdenied", "invalidclienttoken", "signature", "invalidsecurity", "kms")
_MAY_PASS = ("expiredtoken", "requestexpired", "kmsthrottl", "serviceunavailable", "internal")

_FAILED_ON_THE_WAY = (
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.MetadataRetrievalError,
    botocore.exceptions.UnauthorizedSSOTokenError,
    botocore.parsers.ResponseParserError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)
"""What came back was no answer, or nothing; whether the request took effect is unknown."""


class Refused(BackendError):
    """SQS answered that it does not do what was asked.

    Attributes:
        code: what the server calls it, without its namespace.
        status: of HTTP.
    """

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    @property
    def is_missing_queue(self) -> bool:
        """Whether there is no such queue."""
        return is_in(self.code, _MISSING)

    @property
    def is_for_any_entry(self) -> bool:
        """Whether each entry of a batch would be refused like this, too."""
        return self.status in (401, 403) or is_in(self.code, (*_MISSING, *_DENIED))


def translated(error: Exception, operation: str, where: str) -> BackendError:
    """What `error`, which a call of `operation` on `where` raised, means to who called it."""
    if isinstance(error, botocore.exceptions.ClientError):
        translation = _refusal(error.response, operation, where)
    elif isinstance(error, botocore.exceptions.NoRegionError):
        translation = BackendError(
            f"no region is known for {operation} on {where}; set AWS_DEFAULT_REGION or AWS_REGION"
        )
    elif isinstance(error, _FAILED_ON_THE_WAY):
        translation = BackendUnavailable(
            f"{operation} on {where} was not answered: {_text_of(error)}; is the endpoint right, "
            "and reachable from here?"
        )
    elif isinstance(error, botocore.exceptions.BotoCoreError):
        translation = BackendError(
            f"{operation} on {where} cannot be sent: {_text_of(error)}; check the AWS settings "
            "(credentials, region, endpoint) of this process"
        )
    else:
        raise error
    return translation


def _refusal(answer: Any, operation: str, where: str) -> BackendError:
    told = answer.get("Error", {})
    code = _bare(str(told.get("Code", "")))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    text = f"{operation} on {where} was refused: {code} (HTTP {status}), {told.get('Message')}"
    if status >= 500 or status == 429 or is_throttling(code) or is_in(code, _MAY_PASS):
        return BackendUnavailable(text)
    if status == 403:
        text += f"; allow {operation} to these credentials"
    return Refused(text, code, status)


def is_throttling(code: str) -> bool:
    """Whether SQS asks for patience."""
    return is_in(code, _THROTTLING)


def is_lost_handle(code: str) -> bool:
    """Whether the entry of a batch failed because its receipt handle is good no more.

    Source: ReceiptHandleIsInvalid and MessageNotInflight of the SQS API reference; other servers
    answer InvalidParameterValue.
    """
    return is_in(code, _LOST_HANDLE)


def is_in(code: str, family: tuple[str, ...]) -> bool:
    """Whether `code` belongs to a family of codes, each in lower case."""
    lowered = _bare(code).lower()
    return any(member in lowered for member in family)


def _bare(code: str) -> str:
    """``AWS.SimpleQueueService.NonExistentQueue`` without what comes before the last dot."""
    return code.rpartition(".")[2].rpartition("#")[2]


def _text_of(error: Exception) -> str:
    return str(error) or type(error).__name__
