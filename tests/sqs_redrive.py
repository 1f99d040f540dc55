"""What *Start DLQ redrive* of the console does, for tests.

Owns the move of all messages of an error queue: by ``StartMessageMoveTask`` on a server that has
it. moto and MiniStack do not. There the messages are received, sent and deleted, which leaves the
same behind.

Source: SQS developer guide, dead-letter queue redrive: redriven messages are new messages.
"""

import time
from typing import Any

from processes import DEADLINE_SECONDS
from sqs_server import SQSServer

__all__ = ["move_task", "redrive"]


def redrive(server: SQSServer, errors: str, main: str) -> int:
    """Move what is in the queue `errors` to the queue `main`; how many messages were moved."""
    if not server.has_move_tasks:
        return _move_by_hand(server.client(), errors, main)
    task = move_task(server, errors, main)
    assert task["Status"] == "COMPLETED", task
    return int(task["ApproximateNumberOfMessagesMoved"])


def move_task(server: SQSServer, errors: str, main: str | None) -> dict[str, Any]:
    """A task that has ended, as ``ListMessageMoveTasks`` shows it.

    Args:
        main: None: back to the queues from which SQS has moved the messages.
    """
    client = server.client()
    destination = {} if main is None else {"DestinationArn": _arn(client, main)}
    source = _arn(client, errors)
    client.start_message_move_task(SourceArn=source, **destination)
    end_time = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end_time:
        task: dict[str, Any] = client.list_message_move_tasks(SourceArn=source)["Results"][0]
        if task["Status"] != "RUNNING":
            return task
        time.sleep(0.05)
    raise AssertionError(f"the redrive of {errors} has not ended")


def _arn(client: Any, name: str) -> str:
    url = client.get_queue_url(QueueName=name)["QueueUrl"]
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


def _move_by_hand(client: Any, errors: str, main: str) -> int:
    source, target = (client.get_queue_url(QueueName=each)["QueueUrl"] for each in (errors, main))
    moved = 0
    while messages := client.receive_message(
        QueueUrl=source,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["MessageGroupId"],
    ).get("Messages"):
        for each in messages:
            routing = {}
            if main.endswith(".fifo"):
                group = each["Attributes"]["MessageGroupId"]
                routing = {"MessageGroupId": group, "MessageDeduplicationId": each["MessageId"]}
            client.send_message(
                QueueUrl=target,
                MessageBody=each["Body"],
                MessageAttributes=each.get("MessageAttributes", {}),
                **routing,
            )
            client.delete_message(QueueUrl=source, ReceiptHandle=each["ReceiptHandle"])
            moved += 1
    return moved
