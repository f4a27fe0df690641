"""Nested elements, `<mark><key>text<mark></key>` with arrays of `<item>`s, as JSON."""

from collections.abc import Callable

from parsers.quoting import quote
from parsers.transducers.raw_text import RawText

_LONGEST = 256
_DEEPEST = 32
_LEAF, _OBJECT, _ARRAY = range(3)


class _Element:
    """An element that is open: a leaf until a child shows that it is a container."""

    __slots__ = ("count", "kind", "name", "path", "text")

    def __init__(self, name: str, path: tuple[str, ...], types: frozenset[str]) -> None:
        self.name = name
        self.path = path
        self.kind = _LEAF
        self.count = 0
        self.text = RawText(types, "")


class Elements:
    """The members of one call, up to the tag that closes it."""

    failed = False
    __slots__ = ("_close", "_mark", "_names", "_open", "_straying", "_types", "done", "odd", "stray")

    def __init__(self, mark: str, close: str, types: Callable[[tuple[str, ...]], frozenset[str]]) -> None:
        self._mark = mark
        self._close = close
        self._types = types
        root = _Element("", (), frozenset())
        root.kind = _OBJECT
        self._open = [root]
        # How many elements of each name are open, the root apart.
        self._names = {"": 0}
        # Text that stands between elements and is none's: `run` stops behind it, so that it keeps its place.
        self.stray = ""
        self._straying = False
        self.done = False
        self.odd = False

    def run(self, text: str, pos: int, out: list[str]) -> int:
        """Read on from `pos`; see the package's text."""
        mark = self._mark
        self.odd = False
        while not self.done:
            at = text.find(mark, pos)
            if at < 0:
                stop = len(text)
                start = text.find(mark[0], max(pos, stop - len(mark) + 1))
                while 0 <= start < stop:
                    if mark.startswith(text[start:]):
                        stop = start
                        break
                    start = text.find(mark[0], start + 1)
                self._push(text[pos:stop], out)
                return stop
            if self._push(text[pos:at], out):
                return at
            behind = at + len(mark)
            end = text.find(">", behind, behind + _LONGEST)
            if end >= 0 and self._opens_call(text[behind : end + 1]):
                self.odd = True
                return at
            if end < 0 and len(text) < behind + _LONGEST and text[behind : behind + 1] in ("", "<"):
                return at
            if end < 0 or text[behind] != "<" or not self._tag(text[behind + 1 : end], out):
                pos = behind
                if self._push(mark, out):
                    return pos
                continue
            pos = end + 1
        return pos

    def _push(self, text: str, out: list[str]) -> bool:
        """Take text; returns whether it is no element's."""
        top = self._open[-1]
        if text and top.kind == _LEAF:
            top.text.push(text, out)
        elif text and (self._straying or text.strip()):
            self.stray += text if self._straying else text.lstrip()
            self._straying = True
            return True
        return False

    def _tag(self, tag: str, out: list[str]) -> bool:
        self._straying = False
        if not tag.startswith("/"):
            return self._begin(tag.strip(), out)
        name = tag[1:].strip()
        if name == self._close or name == "tool_call":
            while self._open:
                self._end(out)
            self.done = True
            return True
        if not self._names.get(name):
            return False
        while self._open[-1].name != name:
            self._end(out)
        self._end(out)
        return True

    def _begin(self, name: str, out: list[str]) -> bool:
        top = self._open[-1]
        if "<" in name or "\n" in name:
            # The tag's end is missing.
            return False
        if top.kind == _LEAF:
            if not top.text.blank:
                return False
            types = self._types(top.path)
            item = name == "item" and ("array" in types or not types)
            top.kind = _ARRAY if item or ("array" in types and "object" not in types) else _OBJECT
            top.text = RawText(frozenset(), "")
        opening = "[" if top.kind == _ARRAY else "{"
        out.append(", " if top.count else opening)
        top.count += 1
        if top.kind == _OBJECT:
            out.append(quote(name) + ": ")
        # No schema goes deeper.
        step = "[]" if top.kind == _ARRAY else name
        path = (*top.path, step) if len(top.path) < _DEEPEST else top.path
        self._names[name] = self._names.get(name, 0) + 1
        self._open.append(_Element(name, path, self._types(path)))
        return True

    def _end(self, out: list[str]) -> None:
        top = self._open.pop()
        self._names[top.name] -= 1
        if top.kind == _LEAF:
            top.text.close(out)
        elif top.kind == _ARRAY:
            out.append("]" if top.count else "[]")
        else:
            out.append("}" if top.count else "{}")

    def _opens_call(self, tag: str) -> bool:
        """Whether the tag begins calls or another call, which no element does: the end of this one is missing."""
        begins = tag == "<tool_call>" or (tag.startswith(f"<{self._close} ") and '"' in tag)
        return begins and self._open[-1].kind != _LEAF

    def skip_odd(self, text: str, pos: int, out: list[str]) -> int:
        """Take the mark of an odd tag at `pos` as text."""
        del text
        self._push(self._mark, out)
        return pos + len(self._mark)

    def finish(self, out: list[str], rest: str, limited: bool) -> None:
        """The text is over: close what is open."""
        if self.done:
            return
        if limited and self._open[-1].kind != _LEAF:
            # Half of a tag.
            return
        self._push(rest, out)
        if limited:
            if self._open[-1].kind == _LEAF:
                self._open[-1].text.cut(out)
            return
        while self._open:
            self._end(out)
        self.done = True
