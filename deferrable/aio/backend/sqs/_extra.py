"""The modules of the ``sqs`` extra, imported in one place.

Owns the message for a missing extra. Every module that uses SQS takes these modules from here, so
that none of them fails with a plain ``No module named 'aiobotocore'``.
"""

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
    raise ImportError(
        f"the SQS backend needs the package {error.name!r}, which is not installed; "
        "install the extra: pip install 'deferrable[sqs]'",
        name=error.name,
    ) from error

__all__ = ["AioConfig", "AioSession", "aiohttp", "botocore", "create_loader"]
