"""How a call becomes the fields of an item, and how the fields become a call again."""
