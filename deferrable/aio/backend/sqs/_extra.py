"""The modules of the ``sqs`` extra, imported in one place.

Owns the message for a missing extra. Every module that uses SQS takes these modules from here, so
that none of them fails with a plain ``No module named 'aiobotocore'``.
"""

from deferrable._extras import missing_extra

try:
    import aiohttp
    import botocore
    import botocore.client
    import botocore.configprovider
    import botocore.credentials
    import botocore.exceptions
    import botocore.parsers
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from botocore.loaders import create_loader
except ImportError as error:
    raise missing_extra("the SQS backend", "sqs", error) from error

__all__ = ["AioConfig", "AioSession", "aiohttp", "botocore", "create_loader"]
