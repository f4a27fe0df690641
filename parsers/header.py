"""A message's header, as tolerant as models need it: words in any order, with whatever else stands between them."""

from parsers.format import Header


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
