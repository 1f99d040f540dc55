"""What speaks to other people's libraries: metrics, traces, errors, logs.

Each module needs its own extra, and uses public names only. The rest of the library imports nothing
of it, except for the commands that serve it.
"""
