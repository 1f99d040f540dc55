"""The program that works, in the library's own environment, until it is ended.

Usage: ``python -m benchmarks.peers.work ADAPTER``
"""

import importlib
import sys

if __name__ == "__main__":
    importlib.import_module(f"benchmarks.peers.adapters.{sys.argv[1]}").work()
