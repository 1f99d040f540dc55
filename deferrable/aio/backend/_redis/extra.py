"""The modules of the ``redis`` extra, imported in one place.

Owns the message for a missing extra. Every module that uses Redis takes these modules from here,
so that none of them fails with a plain ``No module named 'redis'``.
"""

from deferrable._extras import missing_extra

try:
    import hiredis
    import redis
    import redis.asyncio
    import redis.asyncio.connection
    import redis.sentinel
    from redis.crc import key_slot
    from redis.credentials import CredentialProvider
except ImportError as error:
    raise missing_extra("the Redis (Dockets) backend", "redis", error) from error

__all__ = ["CredentialProvider", "hiredis", "key_slot", "redis"]
