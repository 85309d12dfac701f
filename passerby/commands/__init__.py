"""Functions behind the commands: each takes plain arguments and a console, and returns the result to print."""
