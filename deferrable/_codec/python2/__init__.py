"""What the Python 2 library writes and reads. It can go with the last process that runs it."""
