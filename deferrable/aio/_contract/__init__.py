"""What every queue shares: batching, popping, closing, and one client for each event loop."""
