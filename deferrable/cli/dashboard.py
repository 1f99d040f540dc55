"""``deferrable dashboard``. Owns where it listens, and who may reach it.

The rule: without a token it listens on loopback only, and answers to the names of loopback only, so
that no web page can reach it by another name. Behind a proxy the user says so.
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

import click

from deferrable._extras import missing_extra
from deferrable.cli.command_error import USAGE, CommandError, debug_option
from deferrable.cli.loading import check_shared, load_all
from deferrable.cli.logs import configure
from deferrable.cli.naming import NamingCommand, instances_argument
from deferrable.cli.web import listen, url_of

__all__ = ["dashboard"]

_TOKEN_VARIABLE = "DEFERRABLE_DASHBOARD_TOKEN"  # noqa: S105  # a variable's name


@click.command(cls=NamingCommand)
@instances_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True)
@click.option("--allow-actions", is_flag=True, help="Let visitors requeue, discard, cancel, ...")
@click.option(
    "--token",
    envvar=_TOKEN_VARIABLE,
    show_envvar=True,
    metavar="SECRET",
    help="What visitors must know. Other users of this machine can see arguments: prefer the "
    "variable.",
)
@click.option(
    "--behind-login",
    is_flag=True,
    help="A proxy asks visitors who they are, so no token is needed.",
)
@click.option("--root-path", default="", metavar="PATH", help="The path that a proxy removes.")
@click.option(
    "--interval", "interval_seconds", type=click.FloatRange(0.5), default=3.0, show_default=True,
    metavar="SECONDS", help="How often queues are read while somebody looks.",
)  # fmt: skip
@click.option(
    "--paid-interval", "paid_interval_seconds", type=click.FloatRange(1.0), default=60.0,
    show_default=True, metavar="SECONDS", help="The same for SQS, which costs requests.",
)  # fmt: skip
@debug_option
def dashboard(
    paths: Sequence[str],
    host: str,
    port: int,
    allow_actions: bool,
    token: str | None,
    behind_login: bool,
    root_path: str,
    interval_seconds: float,
    paid_interval_seconds: float,
) -> None:
    """Show queues, calls, errors and schedules in a browser."""
    token = token or None
    is_local = _is_loopback(host)
    if not is_local and token is None and not behind_login:
        raise CommandError(
            f"{host} can be reached from other machines, and nothing would ask who comes; set "
            f"{_TOKEN_VARIABLE}, or add --behind-login if a proxy asks",
            USAGE,
        )
    app, serve = _parts()
    configure("text", "info")  # each action is logged
    named = load_all(paths)
    check_shared(named)
    is_guarded = token is not None or behind_login
    try:
        made = app(
            {each.path: each.instance for each in named},
            allow_actions=allow_actions,
            token=token,
            allowed_hosts=None if is_guarded else ("localhost", "127.0.0.1", "::1"),
            interval_seconds=interval_seconds,
            paid_interval_seconds=paid_interval_seconds,
            counts_calls=False,
        )
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    # Our own socket: the server's line about a port in use does not say what to do.
    listener = listen(host, port, "the dashboard")
    serve(made, listener, root_path.rstrip("/"), behind_login)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parts() -> tuple[Any, Any]:
    """The application's maker, and the server.

    Raises:
        CommandError: the extra is not installed.
    """
    try:
        import uvicorn

        from deferrable.contrib.dashboard import app
    except ImportError as error:
        raise CommandError(str(missing_extra("the dashboard", "dashboard", error))) from error

    def serve(made: Any, listener: socket.socket, root_path: str, behind_login: bool) -> None:
        config = uvicorn.Config(
            made,
            root_path=root_path,
            proxy_headers=behind_login,
            access_log=False,
            server_header=False,
            log_level="warning",
            # Open pages never end by themselves.
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        startup = server.startup

        async def start_and_tell(sockets: Any = None) -> None:
            await startup(sockets)
            if server.started:
                behind = f", for a proxy that shows it at {root_path}/" if root_path else ""
                click.echo(f"dashboard on {url_of(listener)}/{behind}", err=True)

        server.startup = start_and_tell  # type: ignore[method-assign]
        server.run(sockets=[listener])

    return app, serve
