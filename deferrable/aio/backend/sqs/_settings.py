"""Endpoint and credentials of SQS, read from what the user passed.

Owns the reading of a client, or of the environment: endpoint, region, credentials, verification,
proxies. It does no I/O by itself. Other settings of the client (time-outs, retries, pool size) are
not used.

The one rule: a lent client is neither used nor closed; our own clients are made from its settings.
"""

import asyncio
import inspect
import math
import os
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

from deferrable.aio._contract.private import private
from deferrable.aio.backend.sqs._extra import AioConfig, AioSession, botocore, create_loader
from deferrable.aio.backend.sqs._names import region_in
from deferrable.errors import InvalidOptions

__all__ = ["AWSSettings", "Credentials", "ClientSettings"]

_CLIENT_OPTIONS = ("proxies", "proxies_config", "client_cert")
_NO_OTHER_ENDPOINT = {"use_fips_endpoint": False, "use_dualstack_endpoint": False}
"""botocore refuses an endpoint if the environment asks for these, even if the endpoint has them."""
_REREAD_SECONDS = 1.0


class ClientSettings:
    """The settings of a client that the user passed.

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


class Credentials:
    """The credentials of one client: found on first use, and again after `forget`.

    botocore keeps the credentials that a client found at its start, also if there were none because
    the metadata service of an instance did not answer in time. Such a client would never recover.

    Args:
        find: reads the current credentials; None: there are none.
        may_come: whether there may be some later, if there are none now.
    """

    def __init__(self, find: Callable[[], Awaitable[Any]], *, may_come: bool) -> None:
        self._find = find
        self._may_come = may_come
        self._found: Any = None
        self._found_time = -math.inf
        self._finding = asyncio.Lock()

    async def load_credentials(self) -> "Credentials":
        """The method that aiobotocore calls on a credential provider."""
        return self

    def forget(self) -> None:
        """Make the next request read them again, unless they were read just now."""
        if time.monotonic() - self._found_time > _REREAD_SECONDS:
            self._found = None

    async def get_frozen_credentials(self) -> Any:
        """The credentials with which aiobotocore signs a request."""
        found = self._found
        if found is None:
            found = await self._find_once()
        read = found.get_frozen_credentials
        if inspect.iscoroutinefunction(read):
            return await read()
        if isinstance(found, botocore.credentials.RefreshableCredentials):
            return await asyncio.to_thread(read)  # it may ask a server for new ones
        return read()

    async def _find_once(self) -> Any:
        async with self._finding:
            if self._found is None:
                self._found = await self._find()
                self._found_time = time.monotonic()
            if self._found is not None:
                return self._found
        if self._may_come:
            raise botocore.exceptions.CredentialRetrievalError(
                provider="this process's environment",
                error_msg="no keys, profile or container role, and no answer of an instance's "
                "metadata service",
            )
        raise botocore.exceptions.NoCredentialsError

    async def get_account_id(self) -> object:
        """The method that aiobotocore calls for endpoints with an account in their name."""
        return getattr(await self.get_frozen_credentials(), "account_id", None)

    def get_deferred_property(self, name: str) -> object:
        """The method that botocore calls for the same; aiobotocore then asks again."""
        return self.get_account_id


class AWSSettings:
    """How clients of AWS services are made.

    Args:
        service: as botocore names it: sqs, s3.
        connection: nothing, for the environment's configuration; a client of aiobotocore or boto3;
            a callable that returns either, or an async context manager of one.
        region_name: overrides the connection and the environment; None: as they say.
        endpoint_url: likewise.
        fallback_endpoint_url: used if neither the connection nor the environment names one.

    Raises:
        InvalidOptions: it is none of these.
    """

    def __init__(
        self,
        service: str,
        connection: object = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        *,
        fallback_endpoint_url: str | None = None,
    ) -> None:
        self._service = service
        self._region_name = region_name
        self._endpoint_url = endpoint_url
        self._fallback_endpoint_url = fallback_endpoint_url
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
        """Equal for two settings that are known to mean the same place. Does no I/O."""
        connection: Any = self._connection
        chosen = self._region_name, self._endpoint_url
        if _is_client(connection):
            meta = connection.meta
            return self._service, meta.endpoint_url, meta.region_name, chosen
        return self._service, id(self._connection), chosen

    async def create_client(self, **options: Any) -> tuple[Any, Credentials]:
        """Our own client for the running loop, which the caller closes; and its credentials.

        Args:
            options: of its configuration, as aiobotocore's `AioConfig` takes them.
        """
        lent = await self._read()
        session = AioSession()
        loader = _loader(session.get_config_variable("data_path"))
        session.register_component("data_loader", loader)
        credentials = self._credentials(lent.credentials)
        session.register_component("credential_provider", credentials)
        arguments = self._arguments(session, lent.arguments)
        chosen = {} if arguments.get("endpoint_url") is None else _NO_OTHER_ENDPOINT
        config = AioConfig(**{**lent.options, **options, **chosen})
        creating = session.create_client(self._service, config=config, **arguments)
        return await creating.__aenter__(), credentials

    def _arguments(self, session: Any, lent: Mapping[str, Any]) -> dict[str, Any]:
        """Those of ``create_client``; the region and the endpoint that were chosen come first."""
        arguments = dict(lent)
        if self._region_name is not None:
            if region_in(arguments.get("endpoint_url")) not in (None, self._region_name):
                arguments["endpoint_url"] = None  # AWS's own, of another region
            arguments["region_name"] = self._region_name
        elif arguments.get("region_name") is None and session.get_config_variable("region") is None:
            # botocore does not look at this one.
            arguments["region_name"] = os.environ.get("AWS_REGION")
        if self._endpoint_url is not None:
            arguments["endpoint_url"] = self._endpoint_url
        elif arguments.get("endpoint_url") is None and _configured_endpoint(session) is None:
            arguments["endpoint_url"] = self._fallback_endpoint_url
        return arguments

    def _credentials(self, first: object) -> Credentials:
        """Those of a client whose connection has lent `first`."""
        if first is _FROM_THE_ENVIRONMENT:
            is_disabled = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
            return Credentials(lambda: AioSession().get_credentials(), may_come=not is_disabled)
        unread = [first]

        async def find() -> object:
            # A callable may later return other credentials, or the same with newer keys.
            return unread.pop() if unread else (await self._read()).credentials

        return Credentials(find, may_come=False)

    async def _read(self) -> ClientSettings:
        connection: Any = self._connection
        if connection is None:
            return ClientSettings({}, {}, _FROM_THE_ENVIRONMENT)
        if _is_client(connection):
            return _settings_of(connection)
        made = connection()
        if inspect.isawaitable(made) and not isinstance(made, AbstractAsyncContextManager):
            made = await made
        if isinstance(made, AbstractAsyncContextManager) and not _is_client(made):
            async with made as client:
                return _settings_of(self._check(client))
        return _settings_of(self._check(made))

    def _check(self, client: Any) -> Any:
        if not _is_client(client):
            raise InvalidOptions(
                f"{self._service}_connection returned {type(client).__name__} {client!r:.80}; "
                "it must return a client of aiobotocore or boto3"
            )
        service = client.meta.service_model.service_name
        if service != self._service:
            raise InvalidOptions(
                f"{self._service}_connection returned a client for {service!r}; create one "
                f"for {self._service!r}"
            )
        return client


_FROM_THE_ENVIRONMENT = object()


def _is_client(value: object) -> bool:
    return isinstance(value, botocore.client.BaseClient)


def _settings_of(client: Any) -> ClientSettings:
    config = client.meta.config
    options = {
        name: getattr(config, name) for name in _CLIENT_OPTIONS if getattr(config, name, None)
    }
    if config.signature_version is botocore.UNSIGNED:
        options["signature_version"] = botocore.UNSIGNED
    arguments = {
        "endpoint_url": client.meta.endpoint_url,
        "region_name": client.meta.region_name,
        # No public attribute shows a client's credentials and its trusted certificates.
        "verify": private(client, "_endpoint", "http_session", "_verify"),
    }
    return ClientSettings(arguments, options, private(client, "_request_signer", "_credentials"))


def _configured_endpoint(session: Any) -> object:
    """The endpoint of SQS that the environment or the profile names."""
    provider = botocore.configprovider.ConfiguredEndpointProvider(
        full_config=session.full_config,
        scoped_config=session.get_scoped_config(),
        client_name="sqs",
    )
    return provider.provide()


@cache
def _loader(path: str | None) -> Any:
    """One reader of the service descriptions: reading them is the most expensive part."""
    return create_loader(path)
