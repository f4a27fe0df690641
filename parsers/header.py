"""A message's header, as tolerant as models need it: words in any order, with whatever else stands between them."""

from parsers.format import Header

# Real headers have up to four. Without a bound a row of separators would be read again with each.
_MOST_PARTS = 6


def is_header(state: Header, text: str, whole: bool) -> bool:
    """Whether the text is a message's header or, unless it is `whole`, may still become one.

    A header has one line, a few parts, one recipient at most and, between two separators, one other word, two behind
    the last. What does not fit is text, or has another message behind it.
    """
    if "\n" in text:
        return False
    first = state.separators[0]
    for separator in state.separators[1:]:
        text = text.replace(separator, first)
    pieces = text.split(first)
    if len(pieces) > _MOST_PARTS:
        return False
    parts = [piece.replace("to=", " to=").split() for piece in pieces]
    if not whole:
        parts[-1] = parts[-1][:-1]
    recipients = [word for part in parts for word in part if word.startswith("to=")]
    counts = [sum(not word.startswith("to=") for word in part) for part in parts]
    return len(recipients) <= 1 and all(count <= 1 for count in counts[:-1]) and counts[-1] <= 2


def read_header(state: Header, text: str) -> tuple[str, str]:
    """Who the message is for: ("thought", ""), ("answer", "") or ("call", NAME)."""
    for separator in state.separators:
        text = text.replace(separator, " ")
    words = text.replace("to=", " to=").split()
    recipient = next((word[3:] for word in words if word.startswith("to=")), "")
    if not recipient or recipient in state.people:
        return ("thought" if any(word in state.thoughts for word in words) else "answer"), ""
    if recipient in state.thoughts:
        return "thought", ""
    return "call", recipient.removeprefix(state.prefix)
