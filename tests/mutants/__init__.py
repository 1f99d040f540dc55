"""Planted bugs: for each sentence of the conformance suite one that it has to find.

Owns copies of the reference backend, each wrong in one way, and the run of the suite against them.
The promises themselves are in ``deferrable.testing.conformance``.
"""
