"""What the failures of SQS mean.

Owns the translation of botocore's errors, and of the entries of a batch's answer, into this
library's errors: whether the failure may pass by itself, and what to do about it.

Servers differ in their codes, so codes are compared by family, not by their exact text. A failure
that may pass is never reported as final: a push is then sent again, and so is a settlement.
"""

import ssl
from typing import Any

from deferrable._portal import NO_THREADS, is_out_of_threads
from deferrable.aio.backend.sqs._extra import aiohttp, botocore
from deferrable.errors import BackendError, BackendUnavailable

__all__ = [
    "Refused",
    "credentials_are_stale",
    "is_in",
    "is_lost_handle",
    "is_throttling",
    "translated",
]

_exceptions = botocore.exceptions

_THROTTLING = (
    "throttl",
    "toomanyrequests",
    "limitexceeded",
    "slowdown",
    "overlimit",
    "throughputexceeded",
    "priorrequestnotcomplete",
)
"""Source: botocore, retries/standard.py, ThrottledRetryableChecker; SQS: ReceiveMessage."""
_LOST_HANDLE = ("receipthandleisinvalid", "messagenotinflight", "invalidparametervalue")
_MISSING = ("nonexistentqueue", "queuedoesnotexist")
_DENIED = ("accessdenied", "accessforbidden", "notauthorized", "unauthorizedoperation")
_EXPIRED = ("expiredtoken", "tokenrefreshrequired")
_CLOCK = ("requestexpired", "requesttimetooskewed", "requestinthefuture")
_LATE_SIGNATURE = ("signature expired", "signature not yet current")
_KEYS = (
    "invalidclienttoken",
    "invalidaccesskey",
    "unrecognizedclient",
    "signature",
    "invalidtoken",
    "missingauthenticationtoken",
    "authfailure",
)
_ELSEWHERE = ("invalidaddress", "invalidsecurity")
_KMS = ("kms",)
_MAY_PASS = (
    *_EXPIRED,
    *_CLOCK,
    "unavailable",
    "internal",
    "timeout",
    "transient",
    "deletedrecently",
    "operationaborted",
)

_LATER = (408, 425, 429)
"""The answers of HTTP to send a request again, which load balancers give without a code of AWS."""

_CREDENTIALS_ADVICE = "check the AWS credentials (keys, profile or role) of this process"
_SIGN_IN_ADVICE = (
    "if nobody is signed in, or the session has ended, run aws sso login with the profile of this "
    "process"
)
_CLOCK_ADVICE = "set this machine's clock"
_KMS_THROTTLING = ("kmsthrottl", "kms.throttl")
_ADVICE = (
    (
        _KMS_THROTTLING,
        "KMS is asked too often; set a longer KmsDataKeyReusePeriodSeconds on the queue",
    ),
    (
        ("overlimit",),
        "too many messages of the queue are in flight; let its consumers take fewer at once",
    ),
    (_KMS, "let these credentials use the KMS key of the queue, and check that the key is enabled"),
    (_EXPIRED, f"these credentials have expired; {_CREDENTIALS_ADVICE}"),
    (_CLOCK, _CLOCK_ADVICE),
    (_KEYS, f"these credentials are wrong; {_CREDENTIALS_ADVICE}"),
    (_ELSEWHERE, "check region and endpoint: the queue is elsewhere, or requires HTTPS"),
)
"""What to do about a family of codes; the first one counts."""

_WITHOUT_CREDENTIALS = (
    _exceptions.CredentialRetrievalError,
    _exceptions.MetadataRetrievalError,
    _exceptions.TokenRetrievalError,
    _exceptions.SSOError,
    *(getattr(_exceptions, name) for name in ("LoginError",) if hasattr(_exceptions, name)),
)
"""The source of credentials may be unavailable for a moment."""

_SIGNED_OUT = (_exceptions.SSOError, _exceptions.TokenRetrievalError)
"""Somebody may have to sign in, with a browser. Not all of their texts say so."""

_FAILED_ON_THE_WAY = (
    _exceptions.HTTPClientError,
    _exceptions.ConnectionError,
    botocore.parsers.ResponseParserError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    EOFError,
    UnicodeDecodeError,
)
"""There was no answer, or no valid one; whether the request took effect is unknown."""

_NEVER_ON_THE_WAY = (
    ssl.SSLCertVerificationError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.InvalidURL,
    _exceptions.InvalidProxiesConfigError,
    FileNotFoundError,
)
"""Causes of a failed request that no later try can fix."""


class Refused(BackendError):
    """SQS refused the request.

    Attributes:
        code: the server's code for it, without its namespace.
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
    def is_denied(self) -> bool:
        """Whether these credentials are known, but not allowed to do this."""
        return is_in(self.code, _DENIED) and not is_in(self.code, _KMS)

    @property
    def is_for_any_entry(self) -> bool:
        """Whether each entry of a batch would be refused like this, too."""
        families = (*_MISSING, *_DENIED, *_KEYS, *_ELSEWHERE, *_KMS)
        return self.status in (401, 403) or is_in(self.code, families)


def translated(error: Exception, operation: str, where: str) -> BackendError:
    """Translate `error`, which a call of `operation` on `where` raised, for the caller."""
    if isinstance(error, _exceptions.ClientError):
        translation = _refusal(error, operation, where)
    elif isinstance(error, _exceptions.NoRegionError):
        translation = BackendError(
            f"no region is known for {operation} on {where}; set AWS_DEFAULT_REGION or AWS_REGION"
        )
    elif isinstance(error, _WITHOUT_CREDENTIALS) or _is_late_refresh(error):
        advice = _SIGN_IN_ADVICE if isinstance(error, _SIGNED_OUT) else _CREDENTIALS_ADVICE
        translation = BackendUnavailable(
            f"{operation} on {where} has no credentials now: {_text_of(error)}; {advice}"
        )
    elif isinstance(error, _FAILED_ON_THE_WAY) and not _is_hopeless(error):
        advice = "is the endpoint right, and reachable from here?"
        advice = NO_THREADS if is_out_of_threads(error) else advice
        translation = BackendUnavailable(
            f"{operation} on {where} was not answered: {_text_of(error)}; {advice}"
        )
    else:
        translation = BackendError(
            f"{operation} on {where} cannot be sent: {_text_of(error)}; check the AWS settings "
            "(credentials, region, endpoint, proxy, certificates) of this process"
        )
    return translation


def credentials_are_stale(error: Exception) -> bool:
    """Whether the request may succeed with credentials that are read again."""
    if isinstance(error, _exceptions.ClientError):
        return is_in(str(error.response.get("Error", {}).get("Code", "")), (*_EXPIRED, *_KEYS))
    return isinstance(error, (*_WITHOUT_CREDENTIALS, _exceptions.NoCredentialsError)) or (
        _is_late_refresh(error)
    )


def _refusal(error: Any, operation: str, where: str) -> BackendError:
    answer = error.response
    details = answer.get("Error", {})
    code = _bare(str(details.get("Code", "")))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = str(details.get("Message"))
    is_late = any(each in message.lower() for each in _LATE_SIGNATURE)
    is_about_credentials = error.operation_name != operation
    text = f"{operation} on {where} was refused: {code} (HTTP {status}), {message}"
    if is_about_credentials:  # a role is assumed before the request is signed
        text = (
            f"{operation} on {where} has no credentials now: {error.operation_name} was refused: "
            f"{code} (HTTP {status}), {message}; {_CREDENTIALS_ADVICE}"
        )
    else:
        advice = _CLOCK_ADVICE if is_late else _advice(code, operation, where)
        text += f"; {advice}" if advice else ""
    if (
        status >= 500
        or status in _LATER
        or is_throttling(code)
        or is_in(code, _MAY_PASS)
        or is_late
    ):
        return BackendUnavailable(text)
    return BackendError(text) if is_about_credentials else Refused(text, code, status)


def _advice(code: str, operation: str, where: str) -> str | None:
    for family, advice in _ADVICE:
        if is_in(code, family):
            return advice
    if is_in(code, _DENIED):
        service = "s3" if where.startswith("s3:") else "sqs"
        # Its name in IAM: a batch needs the permission of its single call.
        return f"allow {service}:{operation.removesuffix('Batch')} to these credentials"
    return None


def _is_late_refresh(error: Exception) -> bool:
    """Whether a server of credentials returned expired ones.

    Source: botocore, credentials.py, RefreshableCredentials: a bare RuntimeError.
    """
    return isinstance(error, RuntimeError) and "credentials are still expired" in str(error)


def _is_hopeless(error: BaseException) -> bool:
    """Whether a setting of this process is the cause of a failed request."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _NEVER_ON_THE_WAY):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def is_throttling(code: str) -> bool:
    """Whether SQS asks to try again later."""
    return is_in(code, _THROTTLING)


def is_lost_handle(code: str) -> bool:
    """Whether the entry of a batch failed because its receipt handle is not valid any more.

    Source: ReceiptHandleIsInvalid and MessageNotInflight of the SQS API reference; other servers
    answer InvalidParameterValue.
    """
    return is_in(code, _LOST_HANDLE)


def is_in(code: str, family: tuple[str, ...]) -> bool:
    """Whether `code` belongs to a family of codes, each in lower case."""
    lowered = _bare(code).lower()
    return any(member in lowered for member in family)


def _bare(code: str) -> str:
    """``NonExistentQueue`` for ``AWS.SimpleQueueService.NonExistentQueue``; KMS's keep their name.

    ``KMS.NotFoundException`` is about a key, and no ``NotFoundException`` of a queue.
    """
    name = code.rpartition("#")[2]
    namespace, _, last = name.rpartition(".")
    return name if namespace.upper().endswith("KMS") else last


def _text_of(error: Exception) -> str:
    return str(error) or type(error).__name__
