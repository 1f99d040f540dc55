"""Connections to Redis, and the debounce windows that are kept there."""
