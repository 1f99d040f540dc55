"""A module that raises."""

raise RuntimeError("no configuration\nat all")
