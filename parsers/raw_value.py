"""Where the raw text of a parameter ends: at the first closing literal that something legal follows."""

from parsers.call import Call
from parsers.format import END, Capture, Edge, Format, RawValue
from parsers.literals import WAIT, Literals, Wait
from parsers.tables import Tables
from parsers.transducers.raw_text import RawText

_LONGEST_SPACE = 64


class RawValueReader:
    """Reads one parameter of a call and writes it as JSON of the type that the schema gives it."""

    __slots__ = ("_at_start", "_call", "_edges", "_spec", "_state", "_tables", "_text", "edge")

    def __init__(self, spec: Format, tables: Tables, state: RawValue, edges: Literals[Edge], call: Call, kind: str):
        self._spec = spec
        self._tables = tables
        self._state = state
        self._edges = edges
        self._call = call
        self._text = RawText(call.types((call.key,)), kind)
        self._at_start = True
        # The edge whose literal ended the value; it stands where `run` stopped.
        self.edge: Edge | None = None
        call.begin_parameter()

    def run(self, text: str, pos: int, final: bool) -> int:
        """Read on from `pos`. Returns where the closing literal stands, or where text is missing."""
        newline = self._state.newline
        if self._at_start and pos < len(text):
            self._at_start = False
            if newline and text[pos] == "\n":
                pos += 1
        at = stop = end = pos
        search = self._edges.first.search
        while True:
            hit = search(text, at)
            if hit is None:
                stop = end = len(text)
                break
            at = hit.start()
            end = at + 1 if newline and text[at] == "\n" else at
            edge = self._ending(text, end, final)
            if edge is None:
                at += 1
                continue
            stop = at
            if isinstance(edge, Wait):
                end = at
            else:
                self.edge = edge
            break
        out: list[str] = []
        if stop > pos:
            self._text.push(text[pos:stop], out)
        if self.edge is not None:
            self._text.close(out)
        self._call.write(out)
        return end

    def finish(self, out: list[str], rest: str, limited: bool) -> None:
        """The text is over: the value ends here, or was cut."""
        if self.edge is not None:
            return
        if rest:
            self._text.push(rest, out)
        if limited:
            self._text.cut(out)
        else:
            self._text.close(out)

    def _ending(self, text: str, pos: int, final: bool) -> Edge | Wait | None:
        """The edge whose literal stands at `pos`, if something legal follows it."""
        found = self._edges.at(text, pos, final)
        if found is None or isinstance(found, Wait):
            return found
        literal, edge = found
        behind = pos + len(literal)
        to = edge.to
        if edge.keep:
            # The value's own end is missing: this literal must do what it does behind one.
            own = self._tables.edges[to].at(text, pos, True)
            if own is None or isinstance(own, Wait):
                return None
            to = own[1].to
            if isinstance(self._spec.states.get(to), Capture):
                return self._naming(edge, to, text, behind, final)
        elif to == END:
            return edge
        at, limit = behind, behind + _LONGEST_SPACE
        while at < len(text) and text[at].isspace() and at < limit:
            at += 1
        if at == len(text):
            return edge if final else WAIT
        ahead = self._tables.edges[to].at(text, at, False) if to != END else None
        if ahead is None:
            ahead = self._tables.out.at(text, at, False)
        if isinstance(ahead, Wait):
            return edge if final else WAIT
        return None if ahead is None else edge

    def _naming(self, edge: Edge, to: str, text: str, pos: int, final: bool) -> Edge | Wait | None:
        """The edge, if a parameter of the tool that has not been given is named at `pos`."""
        edges = self._tables.edges[to]
        for at in range(pos, min(len(text), pos + _LONGEST_SPACE)):
            end = edges.at(text, at, final)
            if isinstance(end, Wait):
                return WAIT
            if end is not None:
                return edge if self._call.awaits(text[pos:at].strip()) else None
        return WAIT if len(text) < pos + _LONGEST_SPACE and not final else None
