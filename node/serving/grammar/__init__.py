"""Grammars: from a format and the request's schemas to the masks that keep a sequence well formed."""
