"""Attacks: programs that try to make the library lose a job, and count what they did.

Each attack has a short version among the normal tests and a long one, a program with a seed:
``python -m attacks.cancel``, ``python -m attacks.model``, ``python -m attacks.chaos``, ``python -m
attacks.fuzz``. ``python -m attacks.everything``, which is ``nox -s chaos``, runs all but the last.
"""
