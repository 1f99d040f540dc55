"""Where SQS is and who we are there, read from what the user passed.

Owns the reading of a client, or of the environment: endpoint, region, credentials, verification,
proxies. It does no I/O by itself, and the client lends nothing else: its time-outs, retries and
pool size stay its own. It may not know what is sent.

The one rule: what was lent is neither used nor closed; our own clients are made of its settings.
"""

import asyncio
import inspect
import os
from collections.abc import Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

from deferrable.aio.backend._sqs_extra import AioConfig, AioSession, botocore, create_loader
from deferrable.errors import InvalidOptions

__all__ = ["AWSSettings", "Lent"]

_LENT_OPTIONS = ("proxies", "proxies_config", "client_cert")


class Lent:
    """What one client of the user's tells.

    Attributes:
        arguments: of ``create_client``: endpoint, region, verification.
        options: of a client's configuration: proxies, client certificate, unsigned requests.
        credentials: of botocore, boto3 or aiobotocore; None: none were found.
    """

    def __init__(
        self, arguments: Mapping[str, Any], options: Mapping[str, Any], credentials: object
    ) -> None:
        self.arguments = arguments
        self.options = options
        self.credentials = credentials


class _LentCredentials:
    """A credential provider that has found what it was given, and awaits what only blocks."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> "_LentCredentials | None":
        return None if self._credentials is None else self

    async def get_frozen_credentials(self) -> Any:
        read = self._credentials.get_frozen_credentials
        if inspect.iscoroutinefunction(read):
            return await read()
        if isinstance(self._credentials, botocore.credentials.RefreshableCredentials):
            return await asyncio.to_thread(read)  # it may ask a server for new ones
        return read()

    async def get_account_id(self) -> object:
        """What aiobotocore asks for the sake of endpoints that name the account."""
        return getattr(await self.get_frozen_credentials(), "account_id", None)

    def get_deferred_property(self, name: str) -> object:
        """What botocore asks the same of; aiobotocore then asks again."""
        return self.get_account_id


class AWSSettings:
    """How clients of AWS services are made.

    Args:
        service: as botocore names it: sqs, s3.
        connection: nothing, for the environment's configuration; a client of aiobotocore or boto3;
            a callable that returns either, or an async context manager of one.
        region_name: where neither the connection nor the environment tells one.

    Raises:
        InvalidOptions: it is none of these.
    """

    def __init__(
        self, service: str, connection: object = None, region_name: str | None = None
    ) -> None:
        self._service = service
        self._region_name = region_name
        self._connection = connection
        if _is_client(connection):
            self._check(connection)
        elif not (connection is None or callable(connection)):
            raise InvalidOptions(
                f"{service}_connection is {type(connection).__name__} {connection!r:.80}; pass "
                "nothing, a client of aiobotocore or boto3, or a callable that returns one"
            )

    @property
    def where(self) -> Hashable:
        """Equal for two settings that are known to lead to the same place. No I/O."""
        connection: Any = self._connection
        if _is_client(connection):
            return self._service, connection.meta.endpoint_url, connection.meta.region_name
        return self._service, id(self._connection)

    async def create_client(self, **options: Any) -> Any:
        """A client of our own for the running loop, which the caller closes.

        Args:
            options: of its configuration, as aiobotocore's `AioConfig` takes them.
        """
        lent = await self._read()
        session = AioSession()
        loader = _loader(session.get_config_variable("data_path"))
        session.register_component("data_loader", loader)
        if lent.credentials is not _FROM_THE_ENVIRONMENT:
            session.register_component("credential_provider", _LentCredentials(lent.credentials))
        arguments = dict(lent.arguments)
        if arguments.get("region_name") is None and session.get_config_variable("region") is None:
            # botocore does not look at this one.
            arguments["region_name"] = os.environ.get("AWS_REGION") or self._region_name
        config = AioConfig(**{**lent.options, **options})
        creating = session.create_client(self._service, config=config, **arguments)
        return await creating.__aenter__()

    async def _read(self) -> Lent:
        connection: Any = self._connection
        if connection is None:
            return Lent({}, {}, _FROM_THE_ENVIRONMENT)
        if _is_client(connection):
            return _lent_by(connection)
        made = connection()
        if inspect.isawaitable(made) and not isinstance(made, AbstractAsyncContextManager):
            made = await made
        if isinstance(made, AbstractAsyncContextManager) and not _is_client(made):
            async with made as client:
                return _lent_by(self._check(client))
        return _lent_by(self._check(made))

    def _check(self, client: Any) -> Any:
        if not _is_client(client):
            raise InvalidOptions(
                f"{self._service}_connection gave {type(client).__name__} {client!r:.80}; it has "
                "to give a client of aiobotocore or boto3"
            )
        service = client.meta.service_model.service_name
        if service != self._service:
            raise InvalidOptions(
                f"{self._service}_connection gave a client for {service!r}; create one for "
                f"{self._service!r}"
            )
        return client


_FROM_THE_ENVIRONMENT = object()


def _is_client(value: object) -> bool:
    return isinstance(value, botocore.client.BaseClient)


def _lent_by(client: Any) -> Lent:
    config = client.meta.config
    options = {name: getattr(config, name) for name in _LENT_OPTIONS if getattr(config, name, None)}
    if config.signature_version is botocore.UNSIGNED:
        options["signature_version"] = botocore.UNSIGNED
    arguments = {
        "endpoint_url": client.meta.endpoint_url,
        "region_name": client.meta.region_name,
        # No public attribute tells who a client is, nor whom it believes.
        "verify": getattr(client._endpoint.http_session, "_verify", None),
    }
    return Lent(arguments, options, client._request_signer._credentials)


@cache
def _loader(path: str | None) -> Any:
    """One reader of the service descriptions: reading them costs more than all the rest."""
    return create_loader(path)
