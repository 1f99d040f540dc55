import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from newsletter.jobs import mail


class Command(BaseCommand):
    help = "Runs jobs until SIGTERM or Ctrl-C; a second one ends the grace period."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--concurrency", type=int, default=10)
        parser.add_argument("--grace", type=float, default=30.0, metavar="SECONDS")

    def handle(self, *args: Any, concurrency: int, grace: float, **options: Any) -> None:
        worker = mail.worker(concurrency, grace_seconds=grace)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        with mail, worker:
            self.stdout.write("the worker is ready")
            for outcome in worker:
                what = outcome.result if outcome.error is None else outcome.error
                self.stdout.write(f"{outcome.item['method']} {outcome.status}: {what}")
        self.stdout.write("the worker has stopped")
