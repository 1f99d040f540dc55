"""What a user does with each extra, in the environment that runs this program.

Owns a small use of each. ``python extras.py redis`` uses what one extra brings, with an installed
deferrable. ``python extras.py --missing`` makes sure that without extras each use names the command
that installs its extra, and that everything else works.
"""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import deferrable
from deferrable import Deferrable, backend
from deferrable._extras import install_command


def instance() -> Deferrable:
    """An instance that has run one job."""
    return Deferrable(backend.InMemoryBackendFactory().create_backend_for_group("mail"))


def run_one(shop: Deferrable) -> None:
    ran: list[int] = []

    @shop.deferrable(name="note")
    def note(number: int) -> None:
        ran.append(number)

    note.later(7)
    outcome = shop.run_once()
    assert outcome is not None
    assert outcome.status == "completed", outcome
    assert ran == [7]


def use_redis() -> None:
    assert backend.DocketsBackendFactory("redis://localhost").create_backend_for_group("mail")
    assert backend.from_url("redis://localhost").create_backend_for_group("mail")


def use_sqs() -> None:
    assert backend.SQSBackendFactory(region_name="eu-west-1").create_backend_for_group("mail")
    assert backend.from_url("sqs://eu-west-1").create_backend_for_group("mail")


def use_cli() -> None:
    import click  # noqa: F401
    import rich  # noqa: F401

    command = Path(sys.executable).with_name("deferrable")
    for program in ([str(command)], [sys.executable, "-m", "deferrable"]):
        shown = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True)
        assert shown.stdout.split()[-1] == deferrable.__version__, shown.stdout


def use_prometheus() -> None:
    from deferrable.contrib.prometheus import instrument

    shop = instance()
    instrument(shop)
    run_one(shop)


def use_opentelemetry() -> None:
    from deferrable.contrib.opentelemetry import instrument

    shop = instance()
    instrument(shop)
    run_one(shop)


def use_sentry() -> None:
    from deferrable.contrib.sentry import instrument

    shop = instance()
    instrument(shop)
    run_one(shop)


def use_structlog() -> None:
    from deferrable.contrib.structlog import instrument

    shop = instance()
    instrument(shop)
    run_one(shop)


def use_periodic() -> None:
    shop = instance()

    @shop.periodic("*/5 * * * *")
    def tick() -> None: ...

    assert len(shop.schedules()) == 1


def use_dashboard() -> None:
    from deferrable.contrib.dashboard import app

    assert app({"shop": instance()}, token="a" * 40).routes
    assert import_module("uvicorn")


def use_django() -> None:
    from deferrable.contrib.django import _api  # noqa: F401

    import_module("django.conf").settings.configure(
        INSTALLED_APPS=["deferrable.contrib.django"],
        TASKS={
            "default": {
                "BACKEND": "deferrable.contrib.django.DeferrableBackend",
                "OPTIONS": {"url": "memory://"},
            }
        },
    )
    import_module("django").setup()
    assert import_module("deferrable.contrib.django").task


def use_fastapi() -> None:
    from deferrable.contrib.fastapi import DeferAfter

    assert DeferAfter


def use_flask() -> None:
    from deferrable.contrib.flask import DeferrableExtension

    app = import_module("flask").Flask("shop")
    DeferrableExtension(app, instance())
    assert "deferrable" in app.cli.commands


def use_litestar() -> None:
    from deferrable.contrib.litestar import WorkersPlugin

    assert WorkersPlugin()


def use_starlette() -> None:
    from deferrable.contrib.starlette import health_routes

    assert len(health_routes()) == 2


USES: dict[str, Callable[[], None]] = {
    name.removeprefix("use_"): use
    for name, use in list(globals().items())
    if name.startswith("use_")
}


def missing() -> None:
    """Each use fails with the command that installs its extra."""
    for extra, use in USES.items():
        if extra == "cli":
            use = use_command_line
        try:
            use()
        except (ImportError, SystemExit) as error:
            told = str(error)
        else:
            raise AssertionError(f"the packages of {extra} are here, and nobody asked for them")
        assert install_command(extra) in told, f"{extra}: {told}"
    run_one(instance())


def use_command_line() -> None:
    from deferrable.cli import main

    main()


def main() -> None:
    assert Path(deferrable.__file__).is_relative_to(sys.prefix), deferrable.__file__
    for name in sys.argv[1:]:
        if name == "--missing":
            missing()
        elif name == "all":
            for use in USES.values():
                use()
        else:
            USES[name]()
    print(deferrable.__version__)


if __name__ == "__main__":
    main()
