"""The scripts that draw the pictures of the documentation, one module for each kind.

Owns where the checkout is, and the import of its own package and of its test of arrows.
"""

import sys
from pathlib import Path

__all__ = ["DOCS", "PACKAGE", "ROOT"]

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
PACKAGE = ROOT / "deferrable"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
