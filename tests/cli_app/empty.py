"""A module without an instance."""

number = 1
