"""``python -m deferrable``: the command line."""

from deferrable.cli import main

if __name__ == "__main__":
    main()
