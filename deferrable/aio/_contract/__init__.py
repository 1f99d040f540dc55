"""What all queues share: batching, popping, closing, and one client for each event loop."""
