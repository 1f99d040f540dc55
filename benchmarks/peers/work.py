"""The program that works, in the library's own environment, until it is ended.

Before a worker begins, what is imported is hidden from the garbage collector (``gc.freeze``), as
deferrable's command line does: that makes the fast libraries a tenth faster.

Usage: ``python -m benchmarks.peers.work ADAPTER``
"""

import gc
import importlib
import sys

if __name__ == "__main__":
    adapter = importlib.import_module(f"benchmarks.peers.adapters.{sys.argv[1]}")
    gc.collect()
    gc.freeze()
    adapter.work()
