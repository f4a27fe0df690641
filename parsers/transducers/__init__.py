"""Machines that turn what a model writes into the JSON text of arguments, a piece at a time, O(1) per character.

Each has `run(text, pos, out) -> pos`: it reads `text` from `pos`, appends JSON to `out`, and returns where it
stopped. It stopped because it is `done`, or because the rest is too short to tell, and then wants to see it again
with more behind it.
"""
