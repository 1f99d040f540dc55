"""persist-queue: its queue with acknowledgements, and no worker. Ours gets, runs and acknowledges.

A `get` that waits sees what its own process puts, and nothing else before 10 s have passed. So the
worker does not wait and looks again after 10 ms. Acknowledged jobs stay in the file until somebody
clears them; nobody does here.
"""

import time

from persistqueue import Empty, SQLiteAckQueue

from benchmarks.peers import jobs
from benchmarks.peers.adapter import IS_FULL, BlockingProducer, database_path

PAUSE_SECONDS = 0.01


def open_queue() -> SQLiteAckQueue:
    queue = SQLiteAckQueue(f"{database_path()}-folder", multithreading=True)
    if not IS_FULL:  # no option says it
        for connection in (queue._getter, queue._putter):
            connection.execute("PRAGMA synchronous = NORMAL")
    return queue


def work() -> None:
    queue = open_queue()
    while True:
        try:
            call = queue.get(block=False)
        except Empty:
            time.sleep(PAUSE_SECONDS)
            continue
        jobs.note_blocking(*call)
        queue.ack(call)


class PersistQueueProducer(BlockingProducer):
    def __init__(self) -> None:
        self._queue = open_queue()

    def push(self, number: int, text: str) -> None:
        self._queue.put((number, text))


BLOCKING_PRODUCER = PersistQueueProducer
