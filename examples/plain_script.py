"""A plain script that defers calls and runs them with a worker, without a server.

It shows the loop over outcomes, receipts that lead to results, and an end: once every call has an
outcome, the worker is stopped and the loop is over. Run it: ``python plain_script.py``.
"""

import logging

from deferrable import Deferrable, backend

sums = Deferrable(backend.InMemoryBackendFactory().create_backend_for_group("sums"))


@sums.deferrable
def halve(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def main() -> None:
    logging.getLogger("deferrable").setLevel(logging.CRITICAL)  # it logs tracebacks; not here
    receipts = halve.later_many([(6,), (7,), (8,)])
    answers: dict[str | None, str] = {}
    with sums, sums.worker(concurrency=3) as worker:
        for outcome in worker:  # in the order in which they end
            what = outcome.result if outcome.error is None else outcome.error
            answers[outcome.item["id"]] = f"{outcome.status}: {what}"
            if len(answers) == len(receipts):
                worker.stop()  # the loop ends when everything is settled; a service goes on
    for receipt in receipts:
        print(answers[receipt.id])


if __name__ == "__main__":
    main()
