"""What happens to a job whose worker is killed, paused, stopped, or slower than its lease."""
