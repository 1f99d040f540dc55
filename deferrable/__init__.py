"""deferrable: defer a function call now, run it later, elsewhere, at least once."""
