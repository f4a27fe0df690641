"""Where the engine puts what it has decided: neighbouring pieces become one event."""

from parsers.events import ArgumentsDelta, CallEnd, CallStart, Content, Event, Reasoning

CONTENT, REASONING, ARGUMENTS = range(3)


class Output:
    """Collects the events of one `feed`."""

    __slots__ = ("_arguments", "_events", "_kind", "_parts", "_shelf", "_shelf_count", "count", "spoilt")

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._kind = CONTENT
        self._parts: list[str] = []
        self._arguments: list[str] = []
        # What was certain when the shelf began; None without a shelf.
        self._shelf: list[Event] | None = None
        self._shelf_count = 0
        # What is kept back is damaged, so it cannot count.
        self.spoilt = False
        # How many calls have begun.
        self.count = 0

    def put(self, kind: int, text: str) -> None:
        """Add text of one kind."""
        if kind != self._kind:
            self._flush()
            self._kind = kind
        if text:
            self._parts.append(text)

    def event(self, event: Event) -> None:
        """Add an event behind what was put."""
        self._flush()
        self._events.append(event)

    def start(self, name: str, call_id: str | None) -> None:
        """Begin the next call."""
        self.event(CallStart(self.count, name, call_id))
        self.count += 1
        self._arguments = []

    def arguments(self) -> str:
        """The arguments of the current call so far."""
        self._flush()
        return "".join(self._arguments)

    def end(self, arguments: str, warning: str | None, call_id: str | None) -> None:
        """End the current call."""
        self.event(CallEnd(self.count - 1, arguments, warning, call_id))
        self._arguments = []

    @property
    def shelved(self) -> bool:
        """Whether events are being kept back."""
        return self._shelf is not None

    def shelve(self) -> None:
        """Keep back what follows until it is known whether it counts."""
        self._flush()
        self._shelf, self._events = self._events, []
        self._shelf_count = self.count

    def unshelve(self, keep: bool) -> None:
        """Let out what was kept back, or forget it."""
        assert self._shelf is not None
        self._flush()
        kept, self._shelf = self._shelf, None
        if keep:
            kept.extend(self._events)
        else:
            self.count = self._shelf_count
        self._events = kept

    def take(self) -> list[Event]:
        """The events since the last time."""
        if self._shelf is not None:
            events, self._shelf = self._shelf, []
            return events
        if self._parts:
            self._flush()
        events, self._events = self._events, []
        return events

    def _flush(self) -> None:
        if not self._parts:
            return
        parts = self._parts
        text = parts[0] if len(parts) == 1 else "".join(parts)
        self._parts = []
        if self._kind == CONTENT:
            self._events.append(Content(text))
        elif self._kind == REASONING:
            self._events.append(Reasoning(text))
        else:
            self._arguments.append(text)
            self._events.append(ArgumentsDelta(self.count - 1, text))
