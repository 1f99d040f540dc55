"""What the stores in Redis have in common: the connections that they use.

The one rule: a store that was given the links of a backend's queues never closes them.
"""

from typing import TYPE_CHECKING

from deferrable.aio.backend._redis.link import RedisLinks, RedisSettings

if TYPE_CHECKING:
    from redis import Redis, RedisCluster
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster

__all__ = ["RedisStore"]


class RedisStore:
    """A store on the Redis that a client, a URL, or the links of queues describe.

    Attributes:
        settings: of that Redis.

    Raises:
        InvalidOptions: the client has a setting that is not supported.
    """

    def __init__(
        self,
        redis_client: "AsyncRedis | Redis | AsyncRedisCluster | RedisCluster | str | RedisLinks",
    ) -> None:
        self._is_sharing = isinstance(redis_client, RedisLinks)
        self._links = (
            redis_client
            if isinstance(redis_client, RedisLinks)
            else RedisLinks(RedisSettings.of(redis_client))
        )
        self.settings = self._links.settings

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.settings.where()}>"

    async def close(self) -> None:
        """Close the connections of this store. May be called twice."""
        if not self._is_sharing:
            await self._links.close()
