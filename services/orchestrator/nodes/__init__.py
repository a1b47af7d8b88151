"""Executors: what does the work of each kind of node."""
