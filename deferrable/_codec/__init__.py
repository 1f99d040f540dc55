"""Convert a call to the fields of an item, and the fields back to a call."""
