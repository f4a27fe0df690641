# ruff: noqa: E501, SIM905 - data: one entry a line
"""Kinds of parameters: how their values are made, what they are called, how people mention them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import words as w
from .split import Source
from .values import (
    clock,
    command,
    date,
    email,
    expression,
    identifier,
    integer,
    lines,
    number,
    path,
    pattern,
    person,
    phrase,
    place,
    plain_word,
    sentence,
    url,
)


@dataclass(frozen=True)
class Kind:
    """A sort of value: its JSON type, the names parameters of it have, how they are described and said in passing."""

    make: Callable[[Source], Any]
    names: tuple[str, ...]
    says: tuple[str, ...] = ()
    meaning: tuple[str, ...] = ()
    json: str = "string"
    quoted: float = 0.0


def _kind(
    make: Callable[[Source], Any],
    names: str,
    says: str = "",
    meaning: str = "",
    json: str = "string",
    quoted: float = 0.0,
) -> Kind:
    split = tuple(x.strip() for x in says.split("|")) if says else ()
    return Kind(
        make, tuple(names.split()), split, tuple(x.strip() for x in meaning.split("|")) if meaning else (), json, quoted
    )


KINDS: dict[str, Kind] = {
    "place": _kind(place, "city location place town destination region area origin venue city_name cityName address where country site",
                   "in {}|for {}|at {}|near {}", "The city|Name of the city|City name, e.g. Paris|Where it is|The location to use|Place name", quoted=0.05),
    "person": _kind(person, "name person user recipient to author contact assignee employee customer guest username owner full_name userName student patient who sender attendee",
                    "for {}|to {}|with {}|by {}|named {}", "Name of the person|The person|Who it is for|Full name|The user's name|Recipient of the message", quoted=0.07),
    "phrase": _kind(phrase, "text title query topic message subject note description comment caption label keywords reason name task phrase q input headline song search_query searchTerm",
                    "about {}|titled {}|called {}|named {}|saying {}|on {}", "The text|Text to use|What to search for|The title|Free text|Search words|Short description", quoted=0.45),
    "sentence": _kind(sentence, "text message body content note description comment prompt question instructions details summary reply post input",
                      "saying {}|that says {}|with the text {}|reading {}", "The text|Body of the message|What to say|The content to store|Full text", quoted=1.0),
    "lines": _kind(lines, "content text body data contents new_content code source newString", "containing {}|with the content {}|that contains {}",
                   "The content to write|New content|What to write|The content to write to the file", quoted=0.9),
    "word": _kind(plain_word, "symbol key tag item product category keyword genre ingredient brand type ticker animal word term code channel label branch service table package",
                  "for {}|called {}|of {}|about {}", "A single word|The key|Name of the item|Identifier|The product|Which one", quoted=0.25),
    "path": _kind(path, "path file filename filePath file_path source target fileName directory input_file output_path document src dest old_path attachment",
                  "at {}|from {}|in {}|in the file {}", "Path of the file|The absolute path to the file|File to use|File name|Path to the file to read", quoted=0.12),
    "identifier": _kind(identifier, "id code order_id ticket_id ref sku user_id invoice_id tracking_number orderId reference booking_code serial account_id flight issue room zip",
                        "with id {}|number {}|with the number {}", "The identifier|Unique id|Reference number|Code of the order|The id to look up", quoted=0.1),
    "number": _kind(number, "amount x y a b value price weight width height temperature first second rate size radius length num1 num2 total budget latitude longitude score",
                    "of {}|at {}", "A number|The amount|First number|Second number|Numeric value|How much", json="number"),
    "integer": _kind(integer, "minutes count limit days seconds hours quantity people guests page year max_results num_results nights level volume priority age copies offset timeout",
                     "", "How many|Number of items|The number of results|Duration|An integer|Maximum number", json="integer"),
    "language": _kind(lambda r: r.choice(w.LANGUAGES), "language target_language lang to_language targetLanguage target", "in {}|to {}|into {}", "The language|Target language|Language name"),
    "date": _kind(date, "date day when start_date due_date deadline departure_date check_in startDate due end_date birthday", "on {}|for {}|by {}", "The date|Date, e.g. 2024-05-01|Which day|When", quoted=0.03),
    "time": _kind(clock, "time start_time at alarm_time startTime hour departure_time", "at {}|for {}", "The time|Time of day|When to do it|HH:MM"),
    "email": _kind(email, "email to recipient address email_address emailAddress cc user", "to {}|for {}", "E-mail address|The address to write to|Recipient"),
    "url": _kind(url, "url link page website uri address endpoint", "from {}|at {}|of {}", "The URL|Address of the page|Link to open", quoted=0.1),
    "expression": _kind(expression, "expression formula expr calculation input equation", "{}", "Arithmetic expression|The expression to evaluate|Formula"),
    "command": _kind(command, "command cmd shell_command script", "{}|with the command {}", "The command to run|Shell command|Command line", quoted=0.6),
    "pattern": _kind(pattern, "pattern glob include filter", "matching {}|{}", "The glob pattern|Pattern of files", quoted=0.3),
    "list": _kind(lambda r: [phrase(r) if r.maybe(0.2) else plain_word(r) for _ in range(r.randint(2, 4))], "items tags names ingredients keywords words labels topics products files members", "with {}|for {}|: {}",
                  "The items|A list of words|All of them|List of tags", json="array"),
    "people": _kind(lambda r: [r.choice(w.NAMES) for _ in range(r.randint(2, 3))], "attendees participants recipients guests users people members invitees", "with {}|for {}", "Who takes part|The people|Names", json="array"),
}  # fmt: skip

ENUMS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("unit", ("celsius", "fahrenheit"), ("in {}", "Use {}.")),
    ("units", ("metric", "imperial"), ("in {} units",)),
    ("unit", ("c", "f"), ()),
    ("unit", ("km", "miles"), ("in {}",)),
    ("priority", ("low", "medium", "high"), ("with {} priority", "as {} priority")),
    ("priority", ("low", "normal", "urgent"), ("with {} priority",)),
    ("size", ("small", "medium", "large"), ("in {}", "in size {}")),
    ("format", ("json", "csv", "xml"), ("as {}", "in {} format")),
    ("format", ("pdf", "docx", "html"), ("as {}", "as a {}")),
    ("mode", ("driving", "walking", "cycling"), ("by {}",)),
    ("status", ("open", "closed", "pending"), ("with status {}",)),
    ("order", ("asc", "desc"), ("in {} order",)),
    ("sort_by", ("date", "price", "rating"), ("sorted by {}", "ordered by {}")),
    ("color", ("red", "green", "blue", "yellow"), ("in {}",)),
    ("frequency", ("daily", "weekly", "monthly"), ()),
    ("repeat", ("never", "daily", "weekly"), ()),
    ("theme", ("light", "dark"), ()),
    ("class", ("economy", "business", "first"), ("in {} class",)),
    ("currency", ("USD", "EUR", "GBP", "JPY"), ("in {}",)),
    ("role", ("admin", "editor", "viewer"), ("as {}",)),
    ("type", ("income", "expense"), ()),
    ("meal", ("breakfast", "lunch", "dinner"), ("for {}",)),
    ("operation", ("add", "subtract", "multiply", "divide"), ()),
    ("direction", ("north", "south", "east", "west"), ("heading {}",)),
    ("level", ("debug", "info", "warning", "error"), ("at level {}",)),
    ("visibility", ("public", "private"), ()),
)

FLAGS = """urgent private recursive notify enabled verbose overwrite public force all_day important read_only include_hidden
dry_run shared async archived detailed silent case_sensitive remember gift_wrap express""".split()

COUNTED = {
    "minutes": "for {} minutes", "days": "for {} days", "seconds": "for {} seconds", "hours": "for {} hours", "nights": "for {} nights",
    "people": "for {} people", "guests": "for {} guests", "limit": "limit {}", "max_results": "at most {} results",
    "num_results": "{} results", "copies": "{} copies", "page": "page {}", "year": "in {}", "count": "{} times", "quantity": "{} of them",
}  # fmt: skip

# how people say a choice that the schema abbreviates
SPOKEN = {"c": "celsius", "f": "fahrenheit"}
