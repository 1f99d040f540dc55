"""What queues in SQS are called."""

import pytest

from deferrable.aio.backend._sqs_names import Names, name_in, names_beside, names_for, region_in
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


@pytest.mark.parametrize("url", ["jobs", "https://sqs.eu-west-1.amazonaws.com", "s3://a/b", ""])
def test_what_is_no_url_of_a_queue_is_refused(url: str) -> None:
    with pytest.raises(InvalidOptions, match="URL"):
        name_in(url)
