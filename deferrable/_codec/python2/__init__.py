"""What the Python 2 library writes and reads. Remove it when no process uses that library."""
