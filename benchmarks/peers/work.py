"""The program that works, in the library's own environment, until it is ended.

Every library's worker begins with what is imported frozen out of the garbage collector's sight, as
deferrable's own command line has it: it gains the fast ones a tenth.

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
