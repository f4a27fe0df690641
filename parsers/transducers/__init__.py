"""Machines that turn what a model writes into the JSON text of arguments, a piece at a time, O(1) per character.

Each has `run(text, pos, out) -> pos`: it reads `text` from `pos`, appends JSON to `out`, and returns where it
stopped: because it is `done`, because the character there is `odd` (nothing that its notation has; `skip_odd` takes it
all the same), or because the rest is too short to tell, and then wants to see it again with more behind it.
`finish(out, rest, limited)` gives out what it held back when the text is over, `rest` among it, and closes what is
open unless the token limit cut it. `in_string` says whether the text stands inside a string.
"""
