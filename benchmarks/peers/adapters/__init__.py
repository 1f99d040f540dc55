"""One file for each library: its settings, its worker, its producers, and nothing about measuring.

Each runs in its own environment and imports its library there; nothing else imports it. Its
header says which settings were chosen and why. It has ``work()``, and ``PRODUCER`` or
``BLOCKING_PRODUCER`` or both.
"""
