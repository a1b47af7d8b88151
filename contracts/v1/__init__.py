"""Version 1 of the wire; `topics` has all of it."""
