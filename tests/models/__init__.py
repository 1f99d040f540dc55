"""Small models of the protocols, and what checks them: ``nox -s model-check``."""
