"""10,000 real airports, two producers, two consumers, one Redis: the library at work."""
