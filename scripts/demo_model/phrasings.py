# ruff: noqa: E501 - data: one entry a line
"""Ways to say things. Each list has two sides: what training uses, and what only evaluation uses."""

from __future__ import annotations

from typing import NamedTuple


class Split(NamedTuple):
    """Phrasings by side."""

    train: tuple[str, ...]
    held: tuple[str, ...]


_LEADS_TO_NOUN = (
    "what is", "what is", "what's", "what's", "what are", "get", "get me", "find", "find me", "find out", "look up", "check", "give me", "show me", "show", "tell me", "tell me",
    "fetch", "read", "list", "I need", "I need to know", "I want", "I want to know", "I want to see", "I'd like", "I'd like to have", "I would like to know", "can you find",
    "can you get me", "can you tell me", "can you check", "could you look up", "could you check", "could you give me", "do you know", "do you have", "please get", "please tell me",
    "please show me", "please find", "search for", "I am looking for", "we need", "we want", "who knows", "have a look at", "what about", "how about", "and", "now", "any news about",
    "may I have", "is there", "where do I find", "I have a question about", "I wonder about", "it's about", "I forgot", "bring me", "report", "print", "display", "query",
)  # fmt: skip
_NOUN_OF_KEY = (
    "the {noun} of {key}", "the {noun} of {key}", "the {noun} for {key}", "the {noun} for {key}", "the {noun} in {key}", "the {noun} at {key}", "{key}'s {noun}", "the {key} {noun}",
    "the current {noun} of {key}", "the {noun} there in {key}", "{noun} of {key}", "{noun} for {key}", "the {noun} on {key}", "the {noun} from {key}", "the {noun} that {key} has", "the {noun} near {key}",
)  # fmt: skip
ASK = Split(
    (
        *(f"{lead} {what}" for lead in _LEADS_TO_NOUN for what in _NOUN_OF_KEY),
        *8 * (
            "{noun} {key}", "{noun} of {key}", "{noun} for {key}", "{key} {noun}", "{noun} in {key}", "{key}, {noun}", "{noun}, {key}", "{noun}: {key}", "how is the {noun} in {key}",
            "how is the {noun} of {key}", "how's the {noun} for {key}", "what {noun} does {key} have", "for {key}, what is the {noun}", "tell me what the {noun} of {key} is",
            "I am in {key}, what is the {noun} here", "I'm at {key}, what's the {noun}", "I wonder what the {noun} of {key} is", "do you know what the {noun} in {key} is", "{key}: {noun}",
            "we talk about {key}, what is its {noun}", "has {key} a {noun}", "does {key} have a {noun}", "is there a {noun} for {key}", "how good is the {noun} of {key}", "what can you say about the {noun} of {key}",
            "which is the {noun} of {key}", "which {noun} is that of {key}", "when it comes to {key}, what is the {noun}", "{key} must have a {noun}, what is it", "about {key}: what's the {noun}", "I don't know the {noun} of {key}",
        ),
    ),
    (
        "let me know the {noun} of {key}", "any idea what the {noun} of {key} is", "please tell me what the {noun} for {key} is", "which {noun} does {key} have", "could you tell me {key}'s {noun}",
        "I have to find out the {noun} of {key}", "would you look up the {noun} for {key}", "please pull up the {noun} for {key}", "help me find the {noun} of {key}", "can you show me the {noun} in {key}",
        "can I see the {noun} of {key}", "what would be the {noun} of {key}", "please look up {key}'s {noun}",
    ),
)  # fmt: skip
_BEFORE_ACT = (
    "{do}", "{do}", "{do}", "{do}", "{do}", "{do}", "go ahead and {do}", "I want to {do}", "I want you to {do}", "I need to {do}", "I need you to {do}", "I'd like to {do}", "let's {do}", "help me {do}",
    "we have to {do}", "I would like you to {do}", "it is time to {do}", "I have to {do}", "we need to {do}", "you should {do}", "my boss wants to {do}", "I think we should {do}", "try to {do}",
    "don't forget to {do}", "it would be good to {do}", "you may {do}", "start to {do}", "we want to {do}", "I am going to {do}", "it's your job to {do}", "I can't {do} it myself, so {do}", "you can {do}",
)  # fmt: skip
ACT = Split(
    tuple(f"{lead} {thing}" for lead in _BEFORE_ACT for thing in ("{thing}", "{thing}", "{thing}", "{thing}", "{thing}", "{thing} for me", "{thing} now")),
    ("would you {do} {thing}", "I was hoping you could {do} {thing}", "let us {do} {thing}", "make sure to {do} {thing}", "we must {do} {thing}", "somebody has to {do} {thing}"),
)  # fmt: skip
PLAIN = Split(
    (
        "{name}", "{name}", "{name} now", "{name} for me", "I want to {name}", "go ahead and {name}", "time to {name}", "let's {name}", "I'd like you to {name}", "you can {name}", "I need to {name}", "it is time to {name}",
        "the {noun}: {name}", "{name}, I need the {noun}", "I think you should {name}", "don't forget to {name}", "we have to {name}", "help me {name}", "the {noun}, {name} it",
    ),
    ("we should {name}", "make sure to {name}", "would you {name}", "about the {noun}: {name}"),
)  # fmt: skip
BARE = Split(
    (
        "call {name}", "use {name}", "run the {name} tool", "use the tool {name}", "run {name}", "invoke {name}", "execute {name}", "try {name}", "{name}",
        "I want to run {name}", "use {name} for this", "call the function {name}", "I need {name}", "start {name}", "let's use {name}", "{name} please", "apply {name}", "I'd like to call {name}",
    ),
    ("please trigger {name}", "make a call to {name}", "have {name} run", "let {name} do it"),
)  # fmt: skip
EXPLICIT = Split(
    (
        "{p} {v}", "{p} {v}", "{p}={v}", "{p} = {v}", "{p}: {v}", "{p} set to {v}", "{v} as {p}", "{v} as the {p}", "the {p} {v}", "{p} is {v}", "the {p} should be {v}", "the {p} is {v}",
        "{p} being {v}", "use {v} as {p}", "({p} {v})", "({p}: {v})", "{v} for the {p}", "{v} for {p}", "where {p} is {v}", "whose {p} is {v}", "having {p} {v}", "take {v} as the {p}", "as {p} {v}",
        "{v} is the {p}", "the {p} will be {v}", "{p} to {v}", "- {p}: {v}", "its {p} is {v}", "{v} ({p})", "for the {p} use {v}", "the {p} has to be {v}", "let the {p} be {v}", "a {p} of {v}", "of {p} {v}",
    ),
    ("the {p} must be {v}", "taking {v} as the {p}", "where the {p} is {v}", "and the {p} {v}", "using {v} as the {p}"),
)  # fmt: skip
LEADS = Split(
    (
        "please ", "please ", "please ", "can you ", "could you ", "can you please ", "could you please ", "hey, ", "hi, ", "now ", "then ", "ok, ", "next, ", "hello, please ", "for tomorrow, ", "as discussed, ",
        "one more thing: ", "quick: ", "I'm busy, so ", "if you can, ", "first ", "great, now ", "sorry, ", "hey there, ", "so, ", "well, ", "quickly ", "would you please ", "will you ", "right, ", "my friend, ",
    ),
    ("kindly ", "all right, ", "before I forget: ", "do me a favour and ", "be so kind and ", "when you have time, "),
)  # fmt: skip
ENDS = Split(
    (
        ".", ".", ".", ".", ".", "", "", "", "", "!", "!", ", please.", " please", " please.", ". Thanks!", ". Thank you.", " now.", " for me.", "...", ". It's important.", ", thanks", ", ok?", " today.", ". That's all.",
        ", would you?", ", can you?", ". I need it soon.", ". Thank you very much!", " as soon as possible.", ", right?", ". Be quick.",
    ),
    (".", ".", "", "", "!", ", will you?", ", if possible.", ". Cheers!", ". Much obliged."),
)  # fmt: skip
QUESTION_ENDS = Split(
    ("?", "?", "?", "?", "?", "?", "", "", ".", " please?", " today?", "??", ". Thanks!", " right now?", "? Thanks!", ", please", "? I want to know.", "? Thank you."),
    ("?", "?", "?", "", "? I am curious.", "? Cheers!"),
)  # fmt: skip
JOINTS = Split(
    (
        " and ", " and ", " and ", ", and ", ", and ", " and also ", ". Also, ", ". Also ", ". Then ", ", then ", " and then ", ". And ", "; ", ". After that, ", ", also ", " plus ", ". ", ". Next, ", ", ", ", and also ",
        ". Please also ", ". Second, ", " and after that ", ". I also need this: ", ", and then ", ". Another thing: ", " but also ", ". Finally, ", ". Oh, and ",
    ),
    (". Besides, ", ". In addition, ", ". On top of that, ", ", and besides "),
)  # fmt: skip
QUOTES = (('"', '"'), ('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"))
