"""One file per folder layout: its settings, and a function that turns the folder into a `Dataset`."""
