"""Modules as users write them, for the command line to find. ``REDIS_URL``, ``GROUP`` say where."""
