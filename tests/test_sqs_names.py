"""What queues in SQS are called."""

import pytest

from deferrable.aio.backend.sqs._names import (
    Names,
    endpoint_in,
    error_url_beside,
    name_in,
    names_beside,
    names_for,
    region_in,
)
from deferrable.errors import InvalidOptions


@pytest.mark.parametrize(
    ("group", "suffix", "name", "error_name"),
    [
        (None, None, "deferrable", "deferrable_error"),
        ("", "", "deferrable", "deferrable_error"),
        ("mail", None, "deferrable_mail", "deferrable_mail_error"),
        ("mail", "staging", "deferrable_mail_staging", "deferrable_mail_staging_error"),
        (None, "staging", "deferrable_staging", "deferrable_staging_error"),
        ("mail.fifo", None, "deferrable_mail.fifo", "deferrable_mail_error.fifo"),
        ("mail.fifo", "b", "deferrable_mail_b.fifo", "deferrable_mail_b_error.fifo"),
        ("mail", "b.fifo", "deferrable_mail_b.fifo", "deferrable_mail_b_error.fifo"),
    ],
)
def test_names_come_of_group_and_suffix(
    group: str | None, suffix: str | None, name: str, error_name: str
) -> None:
    names = names_for(group, suffix)

    assert names == Names(name, error_name)
    assert names.are_fifo == name.endswith(".fifo")


@pytest.mark.parametrize("group", ["a b", "a.b", "é", "a/b", "x" * 64, "fifo.fifo.fifo"])
def test_name_that_sqs_would_refuse_is_refused(group: str) -> None:
    with pytest.raises(InvalidOptions, match="group"):
        names_for(group, None)


def test_longest_name_is_allowed() -> None:
    names = names_for("x" * 63, None)

    assert len(names.error_queue) == 80


def test_error_queue_of_a_named_queue_lies_beside_it() -> None:
    assert names_beside("jobs") == Names("jobs", "jobs_error")
    assert names_beside("jobs.fifo") == Names("jobs.fifo", "jobs_error.fifo")


def test_url_tells_name_and_region() -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs.fifo"

    assert name_in(url) == "jobs.fifo"
    assert region_in(url) == "eu-west-1"
    assert region_in("http://localhost:4566/000000000000/jobs") is None
    assert region_in(None) is None


USUAL = [
    ("sqs.eu-west-1.amazonaws.com", "eu-west-1"),
    ("sqs.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ("eu-west-1.queue.amazonaws.com", "eu-west-1"),
    ("cn-north-1.queue.amazonaws.com.cn", "cn-north-1"),
    ("queue.amazonaws.com", "us-east-1"),
]
OF_ITS_OWN = [
    ("sqs-fips.us-east-1.amazonaws.com", "us-east-1"),
    ("sqs.ap-southeast-2.api.aws", "ap-southeast-2"),
    ("sqs-fips.us-west-2.api.aws", "us-west-2"),
    ("sqs.cn-north-1.api.amazonwebservices.com.cn", "cn-north-1"),
    ("vpce-0a1b2c3d-4e5f.sqs.eu-central-1.vpce.amazonaws.com", "eu-central-1"),
    ("vpce-0a1b-4e5f-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
    ("sqs.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
    ("sqs.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
    ("sqs.us-east-1.localhost.localstack.cloud", "us-east-1"),
    ("elasticmq.internal", None),
    ("sqs.internal", None),
    ("queue.internal", None),
]


@pytest.mark.parametrize(("host", "region"), USUAL)
def test_usual_url_names_its_region_which_says_where_requests_go(host: str, region: str) -> None:
    url = f"https://{host}/123456789012/jobs"

    assert region_in(url) == region
    assert endpoint_in(url) is None


@pytest.mark.parametrize(("host", "region"), OF_ITS_OWN)
def test_url_of_another_endpoint_says_where_requests_go(host: str, region: str | None) -> None:
    url = f"https://{host}:4566/123456789012/jobs"

    assert region_in(url) == region
    assert endpoint_in(url) == f"https://{host}:4566"


@pytest.mark.parametrize(
    ("url", "beside"),
    [
        (
            "https://sqs.eu-west-1.amazonaws.com/1/a",
            "https://sqs.eu-west-1.amazonaws.com/1/a_error",
        ),
        ("http://localhost:9324/000/a.fifo", "http://localhost:9324/000/a_error.fifo"),
        ("http://localhost:9324/jobs/jobs/", "http://localhost:9324/jobs/jobs_error"),
    ],
)
def test_error_queue_beside_a_url_is_of_the_same_host_and_account(url: str, beside: str) -> None:
    assert error_url_beside(url) == beside


@pytest.mark.parametrize(
    "url",
    [
        "jobs",
        "https://sqs.eu-west-1.amazonaws.com",
        "s3://a/b",
        "",
        "http://localhost:9324/000/jobs\n",
        " http://localhost:9324/000/jobs",
        "http://localhost:9324/000/jobs?a=b",
        "http://localhost:9324/000/jobs#a",
        "http://localhost:9324/000/my jobs",
        "http://localhost:9324/000/jobs.other",
    ],
)
def test_what_is_no_url_of_a_queue_is_refused(url: str) -> None:
    with pytest.raises(InvalidOptions, match="URL"):
        name_in(url)
