"""Where SQS is and who we are there; which queues are looked up, created, or neither."""

import asyncio
import json
import os
from typing import Any

import boto3
import pytest
from processes import run_program
from sqs_proxy import Proxy, answer
from sqs_server import REGION, SQSServer

import deferrable
import deferrable.backend
from deferrable._extras import install_command
from deferrable.aio import Deferrable, Worker
from deferrable.aio.backend import SQSBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.errors import BackendError, BackendUnavailable, InvalidOptions

pytestmark = pytest.mark.anyio


def attributes(server: SQSServer, name: str) -> dict[str, str]:
    client = server.client()
    url = client.get_queue_url(QueueName=name)["QueueUrl"]
    answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    found: dict[str, str] = answer["Attributes"]
    return found


async def goes_through(backend: Backend) -> bool:
    """Whether an item comes back out."""
    await backend.queue.push({"number": 1})
    envelope, item = await backend.queue.pop()
    assert envelope is not None
    await backend.queue.complete(envelope)
    return item == {"number": 1}


# Connections.


def boto3_client(server: SQSServer) -> Any:
    return boto3.session.Session().client("sqs", **server.arguments())


CONNECTIONS = {
    "boto3 client": boto3_client,
    "callable that returns a boto3 client": lambda server: lambda: boto3_client(server),
    "callable that returns a context manager": lambda server: server.connection(),
}


@pytest.mark.parametrize("make", CONNECTIONS.values(), ids=CONNECTIONS)
async def test_connection_lends_where_sqs_is_and_who_we_are(
    sqs_server: SQSServer, sqs_group: str, make: Any
) -> None:
    factory = SQSBackendFactory(make(sqs_server), wait_time=0)

    async with factory.create_backend_for_group(sqs_group) as backend:
        assert await goes_through(backend)


async def test_client_of_aiobotocore_lends_its_settings_and_stays_open(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    async with sqs_server.connection()() as client:
        factory = SQSBackendFactory(client, wait_time=0)
        async with factory.create_backend_for_group(sqs_group) as backend:
            assert await goes_through(backend)

        answer = await client.list_queues(QueueNamePrefix=f"deferrable_{sqs_group}")

    assert len(answer["QueueUrls"]) == 2


async def test_coroutine_function_may_return_the_client(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    async def connect() -> Any:
        return boto3_client(sqs_server)

    async with SQSBackendFactory(connect, wait_time=0).create_backend_for_group(sqs_group) as made:
        assert await goes_through(made)


async def test_refreshed_credentials_are_asked_for_again(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    client, asked = boto3_client(sqs_server), []

    class Credentials:
        async def get_frozen_credentials(self) -> Any:
            asked.append(1)
            from botocore.credentials import ReadOnlyCredentials

            return ReadOnlyCredentials("key", "secret", None)

    client._request_signer._credentials = Credentials()
    async with SQSBackendFactory(client, wait_time=0).create_backend_for_group(sqs_group) as made:
        await made.queue.stats()
        before = len(asked)
        await made.queue.stats()

    assert len(asked) == before + 1


async def test_nothing_is_called_before_a_queue_is_used(sqs_group: str) -> None:
    def fail() -> None:
        raise AssertionError("too early")

    factory = SQSBackendFactory(fail)
    backend = factory.create_backend_for_group(sqs_group)
    Deferrable(backend).deferrable(name="job")(print)

    await backend.close()


@pytest.mark.parametrize("connection", ["http://localhost", 7, {"endpoint_url": "x"}])
def test_what_is_no_connection_is_refused(connection: object) -> None:
    with pytest.raises(InvalidOptions, match="sqs_connection"):
        SQSBackendFactory(connection)


async def test_callable_that_returns_no_client_is_refused(sqs_group: str) -> None:
    backend = SQSBackendFactory(lambda: "client").create_backend_for_group(sqs_group)

    with pytest.raises(InvalidOptions, match="sqs_connection"):
        await backend.queue.stats()


def test_client_of_another_service_is_refused(sqs_server: SQSServer) -> None:
    with pytest.raises(InvalidOptions, match="s3"):
        SQSBackendFactory(boto3.session.Session().client("s3", **sqs_server.arguments()))


# The environment.


@pytest.fixture
def environment(sqs_server: SQSServer, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    sqs_server.set_environment(monkeypatch)
    return monkeypatch


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"])
async def test_environment_names_the_endpoint(
    environment: pytest.MonkeyPatch, sqs_group: str, name: str
) -> None:
    url = os.environ["AWS_ENDPOINT_URL"]
    environment.delenv("AWS_ENDPOINT_URL")
    environment.setenv(name, url)

    async with SQSBackendFactory(wait_time=0).create_backend_for_group(sqs_group) as backend:
        assert await goes_through(backend)


@pytest.mark.parametrize("name", ["AWS_DEFAULT_REGION", "AWS_REGION"])
async def test_environment_names_the_region(
    environment: pytest.MonkeyPatch, sqs_server: SQSServer, sqs_group: str, name: str
) -> None:
    environment.delenv("AWS_DEFAULT_REGION")
    environment.setenv(name, REGION)

    async with SQSBackendFactory(wait_time=0).create_backend_for_group(sqs_group) as backend:
        await backend.queue.stats()

    assert sqs_server.queue_urls(f"deferrable_{sqs_group}")


async def test_missing_region_says_what_to_set(
    environment: pytest.MonkeyPatch, sqs_group: str
) -> None:
    environment.delenv("AWS_DEFAULT_REGION")
    environment.setenv("AWS_CONFIG_FILE", "/nonexistent")

    with pytest.raises(BackendError, match="AWS_REGION"):
        await SQSBackendFactory().create_backend_for_group(sqs_group).queue.stats()


async def test_missing_credentials_say_what_to_check(
    environment: pytest.MonkeyPatch, sqs_group: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        environment.setenv(name, "/nonexistent")
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(BackendError, match="credentials") as caught:
        await SQSBackendFactory().create_backend_for_group(sqs_group).queue.stats()

    assert not isinstance(caught.value, BackendUnavailable)


# Queues.


async def test_missing_queues_are_created_on_first_use(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    factory = SQSBackendFactory(
        sqs_server.connection(), wait_time=0, max_receive_count=7, tags={"team": "jobs"}
    )
    backend = factory.create_backend_for_group(sqs_group)
    before = sqs_server.queue_urls(f"deferrable_{sqs_group}")

    await backend.queue.push({"number": 1})
    await backend.close()

    main = attributes(sqs_server, f"deferrable_{sqs_group}")
    errors = attributes(sqs_server, f"deferrable_{sqs_group}_error")
    url = sqs_server.client().get_queue_url(QueueName=f"deferrable_{sqs_group}")["QueueUrl"]
    assert before == []
    assert json.loads(main["RedrivePolicy"]) == {
        "deadLetterTargetArn": errors["QueueArn"],
        "maxReceiveCount": 7,
    }
    assert errors["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert sqs_server.client().list_queue_tags(QueueUrl=url)["Tags"] == {"team": "jobs"}


async def test_queues_that_are_there_are_used_as_they_are(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    for end in ("", "_error"):
        sqs_server.client().create_queue(QueueName=f"deferrable_{sqs_group}{end}")

    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0)
    async with factory.create_backend_for_group(sqs_group) as backend:
        assert await goes_through(backend)

    assert "RedrivePolicy" not in attributes(sqs_server, f"deferrable_{sqs_group}")
    assert proxy.counts["CreateQueue"] == 0


async def test_missing_queue_is_an_error_without_create(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), create=False)

    async with factory.create_backend_for_group(sqs_group) as backend:
        with pytest.raises(BackendError, match="create=False"):
            await backend.queue.push({"number": 1})

    assert not sqs_server.queue_urls(f"deferrable_{sqs_group}")


async def test_queue_given_by_url_is_neither_looked_up_nor_created(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    client = sqs_server.client()
    urls = [
        client.create_queue(QueueName=f"deferrable_{sqs_group}{end}")["QueueUrl"]
        for end in ("", "_error")
    ]
    factory = SQSBackendFactory(
        sqs_server.connection(proxy.url), wait_time=0, queue_url=urls[0], error_queue_url=urls[1]
    )

    async with factory.create_backend_for_group("any") as backend:
        assert await goes_through(backend)
        await backend.error_queue.stats()

    assert set(proxy.counts) == {
        "DeleteMessageBatch",
        "GetQueueAttributes",
        "ReceiveMessage",
        "SendMessageBatch",
    }
    assert repr(backend.queue) == f"<SQSQueue deferrable_{sqs_group}>"


def test_factory_with_a_url_serves_one_group() -> None:
    factory = SQSBackendFactory(queue_url="https://sqs.eu-west-1.amazonaws.com/1/jobs")
    backend = factory.create_backend_for_group("a")
    factory.create_backend_for_group("a")

    with pytest.raises(InvalidOptions, match="queue_url"):
        factory.create_backend_for_group("b")

    assert repr(backend.error_queue) == "<SQSQueue jobs_error>"


def test_group_that_asks_for_order_needs_a_queue_that_keeps_it() -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"

    with pytest.raises(InvalidOptions, match=r"'orders\.fifo' asks for a FIFO queue"):
        SQSBackendFactory(queue_url=url).create_backend_for_group("orders.fifo")

    assert SQSBackendFactory(queue_url=f"{url}.fifo").create_backend_for_group("orders").queue.FIFO


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (["team"], "tags is a mapping of texts to texts, .* type list"),
        ({"team": 1}, "tags has 1 for 'team'; a tag and its value are texts"),
        ({7: "jobs"}, "tags has 'jobs' for 7"),
    ],
)
def test_tags_are_texts(tags: Any, found: str) -> None:
    with pytest.raises(InvalidOptions, match=found):
        SQSBackendFactory(tags=tags)


async def test_url_of_aws_names_the_region(
    environment: pytest.MonkeyPatch, sqs_server: SQSServer, proxy: Proxy
) -> None:
    environment.delenv("AWS_DEFAULT_REGION")
    environment.setenv("AWS_ENDPOINT_URL", proxy.url)
    url = "https://sqs.ap-south-1.amazonaws.com/123456789012/missing"

    async with SQSBackendFactory(queue_url=url).create_backend_for_group("a") as backend:
        with pytest.raises(BackendError, match="missing"):
            await backend.queue.push({"number": 1})

    assert "/ap-south-1/sqs/" in proxy.requests[0].headers["Authorization"]


async def test_region_in_the_url_wins_over_the_environment(
    environment: pytest.MonkeyPatch, proxy: Proxy
) -> None:
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment.setenv("AWS_REGION", "us-east-2")
    environment.setenv("AWS_ENDPOINT_URL", proxy.url)
    url = "https://sqs-fips.us-west-2.amazonaws.com/123456789012/missing"

    async with SQSBackendFactory(queue_url=url).create_backend_for_group("a") as backend:
        with pytest.raises(BackendError, match="missing"):
            await backend.queue.push({"number": 1})

    assert "/us-west-2/sqs/" in proxy.requests[0].headers["Authorization"]


async def test_region_in_the_url_wins_over_that_of_a_client(
    sqs_server: SQSServer, proxy: Proxy
) -> None:
    url = "https://sqs.ap-south-1.amazonaws.com/123456789012/missing"
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), queue_url=url)

    async with factory.create_backend_for_group("a") as backend:
        with pytest.raises(BackendError, match="missing"):
            await backend.queue.push({"number": 1})

    assert "/ap-south-1/sqs/" in proxy.requests[0].headers["Authorization"]


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://sqs.ap-south-1.amazonaws.com/1/a", "https://sqs.ap-south-1.amazonaws.com"),
        ("https://ap-south-1.queue.amazonaws.com/1/a", "https://sqs.ap-south-1.amazonaws.com"),
        ("https://sqs.ap-south-1.api.aws/1/a", "https://sqs.ap-south-1.api.aws"),
        ("http://localhost:9324/1/a", "http://localhost:9324"),
    ],
)
async def test_url_says_where_requests_go_where_the_environment_does_not(
    environment: pytest.MonkeyPatch, url: str, endpoint: str
) -> None:
    environment.delenv("AWS_ENDPOINT_URL")

    client, _ = await SQSBackendFactory(queue_url=url)._links.settings.create_client()

    assert client.meta.endpoint_url == endpoint
    await client.close()


async def test_client_of_another_region_of_aws_says_nothing_about_the_endpoint(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.delenv("AWS_ENDPOINT_URL")
    lent = boto3.session.Session().client("sqs", region_name="eu-west-1")
    url = "https://sqs.ap-south-1.amazonaws.com/1/a"

    client, _ = await SQSBackendFactory(lent, queue_url=url)._links.settings.create_client()

    assert client.meta.endpoint_url == "https://sqs.ap-south-1.amazonaws.com"
    await client.close()


@pytest.mark.parametrize(
    ("group", "name", "error_name", "found"),
    [
        (None, "jobs.fifo", "failed", "jobs.fifo' is a FIFO queue, .*failed' is a standard queue"),
        (None, "jobs", "failed.fifo", "jobs' is a standard queue, .*failed.fifo' is a FIFO queue"),
        ("a.fifo", None, "failed", "deferrable_a.fifo' is a FIFO queue, .* is a standard queue"),
        (None, "jobs", "jobs/", "are both .*jobs', so each job that fails .* run again"),
    ],
)
def test_error_queue_that_could_hold_no_errors_is_refused(
    group: str | None, name: str | None, error_name: str, found: str
) -> None:
    account = "https://sqs.eu-west-1.amazonaws.com/1/"
    factory = SQSBackendFactory(
        queue_url=name and account + name, error_queue_url=account + error_name
    )

    with pytest.raises(InvalidOptions, match=found):
        factory.create_backend_for_group(group)


def test_queues_given_by_urls_of_two_regions_are_refused() -> None:
    with pytest.raises(InvalidOptions, match="eu-west-1, error_queue_url names eu-west-2"):
        SQSBackendFactory(
            queue_url="https://sqs.eu-west-1.amazonaws.com/1/jobs",
            error_queue_url="https://sqs.eu-west-2.amazonaws.com/1/jobs_error",
        )


# A region and an endpoint of the factory's own.


async def test_region_and_endpoint_of_the_factory_win_over_the_environment(
    environment: pytest.MonkeyPatch, proxy: Proxy
) -> None:
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    factory = SQSBackendFactory(region_name="ap-south-1", endpoint_url=proxy.url, create=False)

    async with factory.create_backend_for_group("a") as backend:
        with pytest.raises(BackendError, match="deferrable_a"):
            await backend.queue.push({"number": 1})

    assert "/ap-south-1/sqs/" in proxy.requests[0].headers["Authorization"]


async def test_region_and_endpoint_of_the_factory_win_over_those_of_a_client(
    sqs_server: SQSServer, proxy: Proxy
) -> None:
    lent = sqs_server.connection("http://127.0.0.1:1")
    factory = SQSBackendFactory(
        lent, region_name="ap-south-1", endpoint_url=proxy.url, create=False
    )

    async with factory.create_backend_for_group("a") as backend:
        with pytest.raises(BackendError, match="deferrable_a"):
            await backend.queue.push({"number": 1})

    assert "/ap-south-1/sqs/" in proxy.requests[0].headers["Authorization"]


async def test_endpoint_of_the_factory_wins_over_that_of_a_queue(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.delenv("AWS_ENDPOINT_URL")
    factory = SQSBackendFactory(
        queue_url="http://localhost:9324/1/a", endpoint_url="http://localhost:4566"
    )

    client, _ = await factory._links.settings.create_client()

    assert client.meta.endpoint_url == "http://localhost:4566"
    await client.close()


def test_queues_of_two_regions_are_not_known_as_one(environment: pytest.MonkeyPatch) -> None:
    one, other, same = (
        SQSBackendFactory(region_name=region).create_backend_for_group("a").queue.identity
        for region in ("eu-west-1", "eu-west-2", "eu-west-1")
    )

    assert one != other
    assert one == same


def test_region_of_the_factory_and_of_a_queue_have_to_agree() -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/1/jobs"

    with pytest.raises(InvalidOptions, match="region_name names us-east-1, queue_url names eu-"):
        SQSBackendFactory(queue_url=url, region_name="us-east-1")


@pytest.mark.parametrize(
    "endpoint", ["localhost:4566", "https://", "ftp://localhost", "http://[::1", "http://a:b", ""]
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidOptions, match="endpoint_url"):
        SQSBackendFactory(endpoint_url=endpoint)


def test_what_is_no_url_of_a_queue_is_refused() -> None:
    with pytest.raises(InvalidOptions, match=r"'http://\[::1' is not the URL of a queue"):
        SQSBackendFactory(queue_url="http://[::1")


# The error queue of a queue that is given by its URL.


def create(server: SQSServer, name: str) -> str:
    url: str = server.client().create_queue(QueueName=name)["QueueUrl"]
    return url


async def test_error_queue_lies_beside_the_url_and_is_neither_looked_up_nor_created(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    url = create(sqs_server, f"deferrable_{sqs_group}")
    create(sqs_server, f"deferrable_{sqs_group}_error")
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0, queue_url=url)

    async with factory.create_backend_for_group("any") as backend:
        instance = Deferrable(backend)
        await instance.deferrable(name="job")(lambda: 1 / 0).later_async()
        outcome = await instance.run_once()

        assert outcome is not None
        assert outcome.status == "errored"
        assert (await backend.error_queue.stats())["available"] == 1
    assert not {"GetQueueUrl", "CreateQueue"} & set(proxy.counts)


@pytest.mark.parametrize("is_by_url", [True, False], ids=["by URL", "by name"])
async def test_nothing_is_taken_before_the_error_queue_is_there(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy, is_by_url: bool
) -> None:
    url = create(sqs_server, f"deferrable_{sqs_group}")
    factory = SQSBackendFactory(
        sqs_server.connection(proxy.url),
        wait_time=0,
        queue_url=url if is_by_url else None,
        create=False,
    )

    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.push({"number": 1})
        with pytest.raises(BackendError, match=f"no queue .*deferrable_{sqs_group}_error"):
            await backend.queue.pop()
        assert proxy.counts["ReceiveMessage"] == 0
        create(sqs_server, f"deferrable_{sqs_group}_error")
        _, item = await backend.queue.pop()

    assert item == {"number": 1}


async def test_consumer_that_may_not_look_for_the_error_queue_says_so_and_goes_on(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "deferrable")
    url = create(sqs_server, f"deferrable_{sqs_group}")
    proxy.script("GetQueueAttributes", answer(403, "AccessDenied"), times=2)
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0, queue_url=url)

    async with factory.create_backend_for_group(sqs_group) as backend:
        assert await goes_through(backend)
        assert await goes_through(backend)

    assert caplog.text.count("allow sqs:GetQueueAttributes") == 1


# Queues that are deleted while they are used.


async def test_deleted_queue_is_created_again_with_a_line_in_the_log(
    sqs_server: SQSServer, sqs_group: str, caplog: pytest.LogCaptureFixture
) -> None:
    for end in ("", "_error"):
        create(sqs_server, f"deferrable_{sqs_group}{end}")
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=0)
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.stats()
        for url in sqs_server.queue_urls(f"deferrable_{sqs_group}"):
            sqs_server.client().delete_queue(QueueUrl=url)
        with pytest.raises(BackendError):
            await backend.queue.push({"number": 1})
        await backend.queue.push({"number": 1})

    assert f"queue deferrable_{sqs_group} was deleted, and is created again" in caplog.text


async def test_deleted_queue_that_was_given_by_url_is_not_created_again(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    url = create(sqs_server, f"deferrable_{sqs_group}")
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0, queue_url=url)
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.push({"number": 1})
        sqs_server.client().delete_queue(QueueUrl=url)
        for _ in range(2):
            with pytest.raises(BackendError, match=r"NonExistentQueue|QueueDoesNotExist"):
                await backend.queue.push({"number": 2})

    assert not {"GetQueueUrl", "CreateQueue"} & set(proxy.counts)


async def test_queue_that_was_deleted_is_looked_up_again(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=0)
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.stats()
        for url in sqs_server.queue_urls(f"deferrable_{sqs_group}"):
            sqs_server.client().delete_queue(QueueUrl=url)
        with pytest.raises(BackendError):
            await backend.queue.push({"number": 1})

        assert await goes_through(backend)


async def test_queue_that_was_just_created_may_be_unknown_for_a_moment(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    proxy.script("SendMessageBatch", answer(400, "QueueDoesNotExist"), times=2)

    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0)
    async with factory.create_backend_for_group(sqs_group) as backend:
        assert await goes_through(backend)

    assert proxy.counts["SendMessageBatch"] == 3
    assert proxy.counts["CreateQueue"] == 2


async def test_queue_is_looked_up_once_by_calls_made_at_once(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0)
    async with factory.create_backend_for_group(sqs_group) as backend:
        await asyncio.gather(*(backend.queue.stats() for _ in range(5)))

    assert proxy.counts["CreateQueue"] == 2
    assert proxy.counts["GetQueueUrl"] == 2


async def test_who_loses_the_race_to_create_a_queue_uses_the_winners(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    backends = [
        SQSBackendFactory(
            sqs_server.connection(), wait_time=0, max_receive_count=count
        ).create_backend_for_group(sqs_group)
        for count in (5, 6, 7)
    ]

    await asyncio.gather(*(backend.queue.push({"number": 1}) for backend in backends))

    assert (await backends[0].queue.stats())["available"] == 3
    for backend in backends:
        await backend.close()


async def test_worker_refuses_to_poll_one_queue_by_two_objects_of_it(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    client = boto3_client(sqs_server)
    one, same, other = (
        Deferrable(SQSBackendFactory(client).create_backend_for_group(group))
        for group in (sqs_group, sqs_group, f"{sqs_group}-b")
    )

    with pytest.raises(InvalidOptions):
        Worker([one, same])

    Worker([one, other])


# Both APIs, extras, values.


def test_blocking_face_takes_the_same_settings(sqs_server: SQSServer, sqs_group: str) -> None:
    factory = deferrable.backend.SQSBackendFactory(boto3_client(sqs_server), wait_time=0)
    with deferrable.Deferrable(factory.create_backend_for_group(sqs_group)) as instance:
        job = instance.deferrable(name="job")(lambda number: number + 1)

        job.later(1)
        outcome = instance.run_once()

    assert outcome is not None
    assert outcome.result == 2


@pytest.mark.parametrize(
    "use",
    [
        "deferrable.backend.SQSBackendFactory()",
        "deferrable.aio.backend.SQSBackendFactory()",
        "deferrable.backend.S3Store('bucket')",
    ],
)
def test_missing_extra_is_named_with_the_command_that_installs_it(use: str) -> None:
    (message,) = run_program(
        f"""
        import sys
        sys.modules["aiobotocore"] = None
        import deferrable, deferrable.aio.backend, deferrable.backend
        try:
            {use}
        except ImportError as error:
            print(error)
        """
    )

    assert install_command("sqs") in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("visibility_timeout", 0),
        ("visibility_timeout", 43_201),
        ("wait_time", -1),
        ("wait_time", 21),
        ("max_receive_count", 0),
        ("max_receive_count", True),
        ("max_lease_seconds", 43_201),
        ("compress_over_bytes", -1),
        ("offload_over_bytes", -1),
        ("offload_over_bytes", 1000),  # without large_items
    ],
)
def test_value_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptions, match=name):
        SQSBackendFactory(**{name: value})
