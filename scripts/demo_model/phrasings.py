# ruff: noqa: E501 - data: one entry a line
"""Ways to say things. Each list has two sides: what training uses, and what only evaluation uses."""

from __future__ import annotations

from typing import NamedTuple


class Split(NamedTuple):
    """Phrasings by side."""

    train: tuple[str, ...]
    held: tuple[str, ...]


ASK = Split(
    (
        "what is the {noun} of {key}", "what's the {noun} of {key}", "what is the {noun} for {key}", "what's the {noun} in {key}", "what is the {noun} in {key}",
        "get the {noun} for {key}", "get me the {noun} of {key}", "{noun} {key}", "{noun} of {key}", "{noun} for {key}", "{key} {noun}", "{noun} in {key}",
        "can you find the {noun} of {key}", "can you get the {noun} for {key}", "could you check the {noun} of {key}", "give me the {noun} of {key}",
        "give me the {noun} for {key}", "show me the {noun} for {key}", "show the {noun} of {key}", "tell me the {noun} of {key}", "tell me the {noun} for {key}",
        "find the {noun} for {key}", "find {noun} of {key}", "look up the {noun} of {key}", "look up {key} {noun}", "check the {noun} for {key}", "check {noun} of {key}",
        "I need the {noun} of {key}", "I need to know the {noun} for {key}", "I want to see the {noun} of {key}", "I'd like the {noun} for {key}", "fetch the {noun} of {key}",
        "how is the {noun} in {key}", "do you know the {noun} of {key}", "please get the {noun} of {key}", "search the {noun} of {key}", "list the {noun} for {key}",
        "what {noun} does {key} have", "what about the {noun} of {key}", "how about the {noun} for {key}", "and the {noun} of {key}", "for {key}, what is the {noun}",
        "what is {key}'s {noun}", "tell me {key}'s {noun}", "show {key}'s {noun}", "I am in {key}, what is the {noun} here", "I wonder what the {noun} of {key} is",
    ),
    (
        "let me know the {noun} of {key}", "any idea what the {noun} of {key} is", "please tell me what the {noun} for {key} is", "which {noun} does {key} have",
        "I have to find out the {noun} of {key}", "would you look up the {noun} for {key}", "quickly pull up the {noun} for {key}", "help me find the {noun} of {key}",
        "please show me the {noun} in {key}", "can I see the {noun} of {key}",
    ),
)  # fmt: skip
ACT = Split(
    (
        "{do} {thing}", "{do} {thing}", "{do} {thing}", "{do} {thing}", "{do} {thing} for me", "go ahead and {do} {thing}", "I want to {do} {thing}",
        "I need to {do} {thing}", "I'd like to {do} {thing}", "let's {do} {thing}", "help me {do} {thing}", "we have to {do} {thing}", "I would like you to {do} {thing}",
        "it is time to {do} {thing}", "I have to {do} {thing}", "we need to {do} {thing}", "you should {do} {thing}", "my boss wants to {do} {thing}",
    ),
    ("would you {do} {thing}", "I was hoping you could {do} {thing}", "let us {do} {thing}", "make sure to {do} {thing}", "we must {do} {thing}"),
)  # fmt: skip
PLAIN = Split(
    ("{name}", "{name} now", "{name} for me", "I want to {name}", "go ahead and {name}", "time to {name}", "let's {name}", "I'd like you to {name}", "the {noun}: {name}", "{name}, I need the {noun}"),
    ("we should {name}", "make sure to {name}", "would you {name}", "about the {noun}: {name}"),
)  # fmt: skip
BARE = Split(
    (
        "call {name}", "use {name}", "run the {name} tool", "use the tool {name}", "run {name}", "invoke {name}", "execute {name}", "try {name}", "{name}",
        "I want to run {name}", "use {name} for this", "call the function {name}", "I need {name}", "start {name}",
    ),
    ("please trigger {name}", "make a call to {name}", "have {name} run", "let {name} do it"),
)  # fmt: skip
EXPLICIT = Split(
    (
        "{p} {v}", "{p} {v}", "{p}={v}", "{p} = {v}", "{p}: {v}", "{p} set to {v}", "{v} as {p}", "{v} as the {p}", "the {p} {v}", "{p} is {v}", "the {p} should be {v}",
        "{p} being {v}", "use {v} as {p}", "({p} {v})", "({p}: {v})", "{v} for the {p}", "{v} for {p}",
    ),
    ("{p} equal to {v}", "{p} -> {v}", "{v} being the {p}", "{p} must be {v}"),
)  # fmt: skip
LEADS = Split(
    (
        "please ", "please ", "can you ", "could you ", "can you please ", "could you please ", "hey, ", "hi, ", "now ", "then ", "ok, ", "next, ", "hello, please ",
        "for tomorrow, ", "as discussed, ", "one more thing: ", "quick: ", "I'm busy, so ", "if you can, ", "first ", "great, now ", "sorry, ",
    ),
    ("kindly ", "would you mind to ", "all right, ", "before I forget: ", "do me a favour and ", "be so kind and "),
)  # fmt: skip
ENDS = Split(
    (
        ".",
        ".",
        ".",
        "",
        "",
        "",
        "!",
        ", please.",
        " please",
        " please.",
        ". Thanks!",
        ". Thank you.",
        " now.",
        " for me.",
        "...",
        ". It's important.",
    ),
    (".", "", "!", ", will you?", ", if possible.", ". Cheers!", ". Much obliged."),
)
QUESTION_ENDS = Split(
    ("?", "?", "?", "?", "", "", ".", " please?", " today?", "??", ". Thanks!", " right now?"),
    ("?", "?", "", "? I am curious.", ", if I may ask?", "? Cheers!"),
)
JOINTS = Split(
    (" and ", " and ", " and ", ", and ", " and also ", ". Also, ", ". Also ", ". Then ", ", then ", " and then ", ". And ", "; ", ". After that, ", ", also ", " plus "),
    (" as well as ", ". Besides, ", ". In addition, ", ". On top of that, "),
)  # fmt: skip
QUOTES = (('"', '"'), ('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"))
