"""litequeue: a queue and no worker. Ours pops an item, runs the job and marks it as done.

It has no call that waits for an item, so the worker looks again after 10 ms. Jobs that are done
stay in the file until somebody prunes them; nobody does here.
"""

import json
import time

from litequeue import LiteQueue

from benchmarks.peers import jobs
from benchmarks.peers.adapter import IS_FULL, BlockingProducer, database_path

PAUSE_SECONDS = 0.01


def open_queue() -> LiteQueue:
    queue = LiteQueue(database_path())
    if IS_FULL:
        queue.conn.execute("PRAGMA synchronous = FULL")
    return queue


def work() -> None:
    queue = open_queue()
    while True:
        message = queue.pop()
        if message is None:
            time.sleep(PAUSE_SECONDS)
            continue
        jobs.note_blocking(*json.loads(message.data))
        queue.done(message.message_id, claim_id=message.claim_id)


class LitequeueProducer(BlockingProducer):
    def __init__(self) -> None:
        self._queue = open_queue()

    def push(self, number: int, text: str) -> None:
        self._queue.put(json.dumps([number, text]))


BLOCKING_PRODUCER = LitequeueProducer
