"""`python -m passerby`."""

from passerby.cli import main

if __name__ == "__main__":
    main()
