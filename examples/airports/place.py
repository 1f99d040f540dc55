"""Where the queue and the results are.

The queue is at DEFERRABLE_URL. By default it is a SQLite file, which needs no server, in a new
folder that is removed in the end. The processes that are started here inherit both variables.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["GROUP", "RESULTS", "URL"]

GROUP = os.environ.get("AIRPORTS_GROUP", "airports")

if "AIRPORTS_FOLDER" not in os.environ:
    os.environ["AIRPORTS_FOLDER"] = tempfile.mkdtemp(prefix="airports-")
    atexit.register(shutil.rmtree, os.environ["AIRPORTS_FOLDER"], ignore_errors=True)
FOLDER = Path(os.environ["AIRPORTS_FOLDER"])

URL = os.environ.setdefault("DEFERRABLE_URL", f"sqlite:///{FOLDER / 'queue.db'}?durability=process")
RESULTS = FOLDER / "results.db"
