"""The engine: defers calls, makes attempts at items, and keeps their leases."""
