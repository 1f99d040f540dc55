"""One small program for each library: it pushes one job, or it is a worker."""
