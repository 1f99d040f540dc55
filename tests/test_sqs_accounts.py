"""How queues are created, in which account they are, and whose credentials are used."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from sqs_proxy import Proxy, answer
from sqs_server import SQSServer

from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.aio.backend.sqs._settings import AWSSettings
from deferrable.errors import BackendError, InvalidOptions

pytestmark = pytest.mark.anyio

KEY = "alias/jobs"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*"}]}


async def use(factory: SQSBackendFactory, group: str) -> None:
    """Use both queues, so that they exist."""
    async with factory.create_backend_for_group(group) as backend:
        await backend.queue.stats()
        await backend.error_queue.stats()


def attributes(server: SQSServer, name: str) -> dict[str, str]:
    url = server.client().get_queue_url(QueueName=name)["QueueUrl"]
    answer = server.client().get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    found: dict[str, str] = answer["Attributes"]
    return found


# Attributes.


async def test_key_of_the_queue_encrypts_its_errors_too(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    factory = SQSBackendFactory(
        sqs_server.connection(),
        queue_attributes={
            "KmsMasterKeyId": KEY,
            "KmsDataKeyReusePeriodSeconds": 600,
            "MessageRetentionPeriod": 1_209_600,
            "Policy": POLICY,
        },
        error_queue_attributes={"MessageRetentionPeriod": 1_000_000},
    )

    await use(factory, sqs_group)

    main = attributes(sqs_server, f"deferrable_{sqs_group}")
    errors = attributes(sqs_server, f"deferrable_{sqs_group}_error")
    assert (main["KmsMasterKeyId"], errors["KmsMasterKeyId"]) == (KEY, KEY)
    assert errors["KmsDataKeyReusePeriodSeconds"] == "600"
    assert main["MessageRetentionPeriod"] == "1209600"
    assert errors["MessageRetentionPeriod"] == "1000000"
    assert json.loads(main["Policy"]) == POLICY
    assert "Policy" not in errors or not errors["Policy"]
    assert "RedrivePolicy" in main


async def test_fifo_queue_of_high_throughput_has_such_an_error_queue(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    wanted = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), queue_attributes=wanted)

    await use(factory, f"{sqs_group}.fifo")

    created = [each.body["Attributes"] for each in proxy.sent("CreateQueue")]
    assert len(created) == 2
    assert all(each.items() >= wanted.items() for each in created)


async def test_managed_encryption_is_a_boolean(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    factory = SQSBackendFactory(
        sqs_server.connection(proxy.url), queue_attributes={"SqsManagedSseEnabled": True}
    )

    await use(factory, sqs_group)

    created = [each.body["Attributes"] for each in proxy.sent("CreateQueue")]
    assert [each["SqsManagedSseEnabled"] for each in created] == ["true", "true"]


async def test_queue_with_other_attributes_is_named_and_never_changed(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"deferrable_{sqs_group}"
    await use(SQSBackendFactory(sqs_server.connection()), sqs_group)
    before = attributes(sqs_server, name)
    factory = SQSBackendFactory(
        sqs_server.connection(proxy.url),
        queue_attributes={"KmsMasterKeyId": KEY, "MessageRetentionPeriod": 345_600},
    )

    with caplog.at_level(logging.WARNING, "deferrable"):
        await use(factory, sqs_group)

    assert f"queue {name} exists with other attributes" in caplog.text
    assert f"KmsMasterKeyId is not set, not {KEY}" in caplog.text
    assert "MessageRetentionPeriod" not in caplog.text  # it has the same
    assert attributes(sqs_server, name) == before
    assert not {"CreateQueue", "SetQueueAttributes"} & set(proxy.counts)


async def test_queue_is_not_compared_with_what_nobody_has_asked_for(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    await use(SQSBackendFactory(sqs_server.connection()), sqs_group)

    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0)
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.push({"number": 1})

    assert dict(proxy.counts) == {"GetQueueUrl": 1, "SendMessageBatch": 1}


async def test_queue_whose_attributes_may_not_be_read_works(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    await use(SQSBackendFactory(sqs_server.connection()), sqs_group)
    proxy.script("GetQueueAttributes", answer(403, "AccessDeniedException"))

    factory = SQSBackendFactory(
        sqs_server.connection(proxy.url), queue_attributes={"KmsMasterKeyId": KEY}
    )
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.push({"number": 1})

    assert proxy.is_script_played


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"RedrivePolicy": "{}"}, "max_receive_count="),
        ({"FifoQueue": True}, r"\.fifo"),
        ({"KmsMasterKey": KEY}, "KmsMasterKeyId"),
        ({"MessageRetentionPeriod": 1.5}, "a value of type float"),
        ({"KmsMasterKeyId": None}, "a value of type NoneType"),
        ({"KmsMasterKeyId": {"a": 1}}, "a value of type dict"),
        ("KmsMasterKeyId", "a mapping of names"),
    ],
)
@pytest.mark.parametrize("option", ["queue_attributes", "error_queue_attributes"])
def test_attributes_that_sqs_would_refuse_are_named(option: str, given: Any, why: str) -> None:
    with pytest.raises(InvalidOptions, match=f"{option}.*{why}"):
        SQSBackendFactory(**{option: given})


@pytest.mark.parametrize(
    "option", [{"queue_attributes": {"KmsMasterKeyId": KEY}}, {"owner_account_id": "1" * 12}]
)
def test_queue_given_by_url_has_its_attributes_and_its_account(option: Any) -> None:
    with pytest.raises(InvalidOptions, match="leave out"):
        SQSBackendFactory(queue_url="https://sqs.eu-west-1.amazonaws.com/1/jobs", **option)


# Accounts.


async def test_queue_of_another_account_is_looked_up_there_and_never_created(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    proxy.script("GetQueueUrl", answer(400, "QueueDoesNotExist"))
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), owner_account_id="123456789012")

    async with factory.create_backend_for_group(sqs_group) as backend:
        with pytest.raises(BackendError, match=r"account 123456789012"):
            await backend.queue.push({"number": 1})

    (asked,) = proxy.sent("GetQueueUrl")
    assert asked.body["QueueOwnerAWSAccountId"] == "123456789012"
    assert proxy.counts["CreateQueue"] == 0


@pytest.mark.parametrize("account", ["1", "12345678901x", 17, ""])
def test_what_is_no_account_is_refused(account: Any) -> None:
    with pytest.raises(InvalidOptions, match="owner_account_id"):
        SQSBackendFactory(owner_account_id=account)


# Credentials and endpoints.


async def test_role_of_a_profile_is_assumed_by_the_sessions_own_chain(
    sqs_server: SQSServer,
    sqs_group: str,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sqs_server.set_environment(monkeypatch)
    config = tmp_path / "config"
    config.write_text(
        "[profile worker]\n"
        "role_arn = arn:aws:iam::123456789012:role/worker\n"
        "source_profile = base\n"
        "role_session_name = jobs\n"
        "[profile base]\n"
        "aws_access_key_id = testing\n"
        "aws_secret_access_key = testing\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "worker")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)

    async with SQSBackendFactory(wait_time=0).create_backend_for_group(sqs_group) as backend:
        await backend.queue.push({"number": 1})

    first, *rest = proxy.requests
    assert b"Action=AssumeRole&" in first.data
    assert b"role%2Fworker" in first.data
    sent = [each for each in rest if each.action == "SendMessageBatch"]
    assert sent[0].headers["X-Amz-Security-Token"]  # which only assumed roles have


FIPS = "https://sqs-fips.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, FIPS),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://sqs.us-east-1.api.aws"),
        ({}, "https://sqs.us-east-1.amazonaws.com"),
    ],
)
async def test_environment_chooses_fips_and_dual_stack(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str
) -> None:
    clean(monkeypatch)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert await endpoint_of(AWSSettings("sqs", region_name="us-east-1")) == endpoint


async def test_client_for_fips_is_followed_where_the_environment_chooses_fips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """botocore refuses an endpoint of its own making together with the environment's choice."""
    import boto3

    clean(monkeypatch)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    lent = boto3.client("sqs", region_name="us-east-1")

    assert await endpoint_of(AWSSettings("sqs", lent)) == FIPS


@pytest.mark.parametrize(
    "endpoint", [FIPS, "https://vpce-1a2b-3c4d.sqs.us-east-1.vpce.amazonaws.com"]
)
async def test_endpoint_in_the_url_wins_over_the_environments_choice_of_fips(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    clean(monkeypatch)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    settings = AWSSettings("sqs", None, "us-east-1", fallback_endpoint_url=endpoint)

    assert await endpoint_of(settings) == endpoint


def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing but who asks."""
    import os

    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")


async def endpoint_of(settings: AWSSettings) -> str:
    client, _ = await settings.create_client()
    try:
        return str(client.meta.endpoint_url)
    finally:
        await client.close()
