"""A small app of Django, with tasks."""
