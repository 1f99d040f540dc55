"""Planted bugs: for each sentence of the conformance suite one that it has to find.

Owns copies of the reference backend, each wrong in one way, and the run of the suite against them.
It may not hold a promise of its own: what is promised stands in ``deferrable.testing.conformance``.
"""
