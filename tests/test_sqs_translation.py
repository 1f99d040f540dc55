"""Which failures of SQS may pass by themselves, and what the message of the others advises."""

import socket
import ssl
from typing import Any

import aiohttp
import pytest
from botocore import exceptions
from botocore.parsers import ResponseParserError

from deferrable.aio.backend.sqs._errors import Refused, is_in, is_throttling, translated
from deferrable.errors import BackendError, BackendUnavailable

URL = "https://sqs.eu-west-1.amazonaws.com/"


def behind(cause: Exception, error: Exception) -> Exception:
    """`error` as botocore raises it, while it handles `cause`."""
    error.__context__ = cause
    return error


ON_THE_WAY: list[Exception] = [
    exceptions.EndpointConnectionError(endpoint_url=URL, error="refused"),
    behind(
        socket.gaierror(-3, "Temporary failure in name resolution"),
        exceptions.EndpointConnectionError(endpoint_url=URL, error="dns"),
    ),
    exceptions.ConnectionClosedError(endpoint_url=URL, error="closed"),
    exceptions.ConnectTimeoutError(endpoint_url=URL, error="slow"),
    exceptions.ReadTimeoutError(endpoint_url=URL, error="slow"),
    exceptions.ProxyConnectionError(proxy_url="http://proxy", error="down"),
    exceptions.ResponseStreamingError(error="cut off"),
    exceptions.HTTPClientError(error="reset"),
    behind(
        ssl.SSLError(1, "UNEXPECTED_EOF_WHILE_READING"),
        exceptions.SSLError(endpoint_url=URL, error="handshake"),
    ),
    ResponseParserError("invalid XML"),
    aiohttp.ServerDisconnectedError(),
    ConnectionResetError(104, "reset"),
    UnicodeDecodeError("utf-8", b"\x1f\x8b", 1, 2, "a packed answer"),
    TimeoutError(),
]
NO_CREDENTIALS: list[Exception] = [
    exceptions.CredentialRetrievalError(provider="process", error_msg="exit 1"),
    exceptions.MetadataRetrievalError(error_msg="503"),
    exceptions.TokenRetrievalError(provider="sso", error_msg="503"),
    exceptions.UnauthorizedSSOTokenError(),
    RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."),
]
SETTINGS: list[Exception] = [
    exceptions.NoCredentialsError(),
    exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
    exceptions.ProfileNotFound(profile="x"),
    exceptions.InvalidRegionError(region_name="x y"),
    behind(
        ssl.SSLCertVerificationError(1, "self-signed certificate"),
        exceptions.SSLError(endpoint_url=URL, error="certificate"),
    ),
    behind(FileNotFoundError(2, "no CA bundle"), exceptions.HTTPClientError(error="no CA bundle")),
    ZeroDivisionError("from a callable of the user's"),
]


def refusal(code: str, status: int = 400, message: str = "", of: str = "SendMessageBatch") -> Any:
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return exceptions.ClientError(answer, of)


def translate(error: Exception) -> BackendError:
    return translated(error, "SendMessageBatch", "jobs")


@pytest.mark.parametrize("error", ON_THE_WAY, ids=lambda error: type(error).__name__)
def test_failure_on_the_way_may_pass(error: Exception) -> None:
    assert isinstance(translate(error), BackendUnavailable)


@pytest.mark.parametrize("error", NO_CREDENTIALS, ids=lambda error: type(error).__name__)
def test_credentials_that_cannot_be_fetched_now_may_come(error: Exception) -> None:
    translation = translate(error)

    assert isinstance(translation, BackendUnavailable)
    assert "credentials" in str(translation)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.SSOTokenLoadError(error_msg="Token for https://x.awsapps.com does not exist"),
        exceptions.UnauthorizedSSOTokenError(),
        exceptions.TokenRetrievalError(
            provider="sso", error_msg="Token has expired and refresh failed"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_person_who_has_to_sign_in_is_told_how(error: Exception) -> None:
    assert "run aws sso login with the profile" in str(translate(error))


@pytest.mark.parametrize("error", SETTINGS, ids=lambda error: type(error).__name__)
def test_setting_of_this_process_does_not_pass(error: Exception) -> None:
    translation = translate(error)

    assert not isinstance(translation, BackendUnavailable)
    assert "check the AWS settings" in str(translation)


@pytest.mark.parametrize(
    "code",
    [
        "RequestThrottled",
        "ThrottlingException",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "RequestLimitExceeded",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "PriorRequestNotComplete",
        "SlowDown",
        "AWS.SimpleQueueService.OverLimit",
        "com.amazonaws.sqs#OverLimit",
        "KMS.ThrottlingException",
        "KmsThrottled",
    ],
)
def test_request_for_patience_may_pass(code: str) -> None:
    assert is_throttling(code)
    assert isinstance(translate(refusal(code)), BackendUnavailable)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("Unknown", 500),
        ("Unknown", 503),
        ("Unknown", 429),
        ("408", 408),
        ("425", 425),
        ("InternalFailure", 400),
        ("ServiceUnavailable", 400),
        ("RequestTimeout", 400),
        ("RequestTimeoutException", 400),
        ("AWS.SimpleQueueService.QueueDeletedRecently", 400),
        ("KMS.InternalException", 400),
        ("ExpiredToken", 403),
        ("ExpiredTokenException", 400),
        ("RequestExpired", 400),
        ("RequestTimeTooSkewed", 403),
    ],
)
def test_trouble_of_the_server_may_pass(code: str, status: int) -> None:
    assert isinstance(translate(refusal(code, status)), BackendUnavailable)


def test_late_signature_may_pass_and_says_to_set_the_clock() -> None:
    # So does a request that was held up between its signature and the server.
    message = "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z"

    translation = translate(refusal("InvalidSignatureException", message=message))

    assert isinstance(translation, BackendUnavailable)
    assert "clock" in str(translation)


@pytest.mark.parametrize(
    "code",
    [
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "MissingAuthenticationToken",
    ],
)
@pytest.mark.parametrize("status", [400, 403])
def test_wrong_credentials_are_not_reported_as_a_missing_permission(code: str, status: int) -> None:
    translation = translate(refusal(code, status))

    assert isinstance(translation, Refused)
    assert "credentials are wrong" in str(translation)
    assert "allow" not in str(translation)
    assert translation.is_for_any_entry
    assert not translation.is_denied


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException"])
@pytest.mark.parametrize("status", [400, 403])
def test_missing_permission_is_named_as_iam_does(code: str, status: int) -> None:
    translation = translate(refusal(code, status))

    assert isinstance(translation, Refused)
    assert "allow sqs:SendMessage to these credentials" in str(translation)
    assert translation.is_denied


@pytest.mark.parametrize(
    "code",
    [
        "KMS.AccessDeniedException",
        "KmsAccessDenied",
        "com.amazonaws.sqs#KmsDisabled",
        "KMS.DisabledException",
        "AWS.SimpleQueueService.KMS.NotFoundException",
        "KmsOptInRequired",
    ],
)
def test_trouble_with_a_key_is_reported_as_that(code: str) -> None:
    translation = translate(refusal(code))

    assert isinstance(translation, Refused)
    assert "KMS key" in str(translation)
    assert translation.is_for_any_entry
    assert not translation.is_denied
    assert not translation.is_missing_queue


def test_role_that_cannot_be_assumed_is_no_refusal_of_the_queue() -> None:
    translation = translate(refusal("AccessDenied", 403, of="AssumeRole"))

    assert not isinstance(translation, Refused | BackendUnavailable)
    assert "AssumeRole was refused" in str(translation)
    assert "sqs:SendMessage" not in str(translation)


def test_role_that_cannot_be_assumed_now_may_be_later() -> None:
    assert isinstance(translate(refusal("Throttling", of="AssumeRole")), BackendUnavailable)


def test_queue_that_is_elsewhere_says_what_to_check() -> None:
    translation = translate(refusal("InvalidAddress", 404))

    assert isinstance(translation, Refused)
    assert translation.is_for_any_entry
    assert "region" in str(translation)


@pytest.mark.parametrize(
    "code", ["AWS.SimpleQueueService.NonExistentQueue", "com.amazonaws.sqs#QueueDoesNotExist"]
)
def test_namespace_of_a_code_does_not_matter(code: str) -> None:
    assert is_in(code, ("nonexistentqueue", "queuedoesnotexist"))


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("KmsThrottled", "KmsDataKeyReusePeriodSeconds"),
        ("KMS.ThrottlingException", "KmsDataKeyReusePeriodSeconds"),
        ("AWS.SimpleQueueService.OverLimit", "in flight"),
    ],
)
def test_request_for_patience_says_what_would_help(code: str, advice: str) -> None:
    translation = translate(refusal(code))

    assert isinstance(translation, BackendUnavailable)
    assert advice in str(translation)
