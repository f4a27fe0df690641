"""Values: places, people, phrases, paths, numbers and so on, as requests hold them."""

from __future__ import annotations

from . import words as w
from .split import Source


def invented(r: Source) -> str:
    """A word that does not exist."""
    return "".join(r.choice(w.SYLLABLES) for _ in range(r.randint(2, 4)))


def plain_word(r: Source) -> str:
    """One lower-case word: mostly everyday, some technical, few invented or foreign."""
    x = r.random()
    if x < 0.62:
        return r.choice(r.choice((w.NOUNS, w.NOUNS, w.ADJECTIVES, w.VERBS)))
    if x < 0.88:
        return r.choice(w.prose())
    return invented(r) if x < 0.98 else r.choice(w.FOREIGN)


def place(r: Source) -> str:
    x = r.random()
    if x < 0.72:
        return r.choice(w.CITIES)
    if x < 0.8:
        return r.choice(w.COUNTRIES)
    return plain_word(r).capitalize() if x < 0.88 else invented(r).capitalize()


def person(r: Source) -> str:
    first = r.choice(w.NAMES) if r.maybe(0.85) else invented(r).capitalize()
    if r.maybe(0.3):
        return first + " " + (r.choice(w.SURNAMES) if r.maybe(0.8) else invented(r).capitalize())
    return first if r.maybe(0.93) else first.lower()


def phrase(r: Source) -> str:
    """One to six words without anything in between that could end them."""
    x = r.random()
    if x < 0.2:
        out = f"{r.choice(w.ADJECTIVES)} {r.choice(w.NOUNS)}"
    elif x < 0.4:
        out = f"{r.choice(w.VERBS)} {r.choice(('the', 'a', 'some', 'my'))} {r.choice(w.NOUNS)}"
    elif x < 0.5:
        out = f"{r.choice(w.NOUNS)} {r.choice(w.NOUNS)} {r.choice(w.NOUNS)}"
    else:
        out = " ".join(plain_word(r) for _ in range(r.choice((1, 2, 2, 3, 3, 4, 5, 6))))
    x = r.random()
    if x < 0.15:
        return out[:1].upper() + out[1:]
    return out.title() if x < 0.25 else out


def sentence(r: Source) -> str:
    """Text with connectives and punctuation; a request must show where it ends."""
    x = r.random()
    if x < 0.35:
        cut = r.choice(w.sentences()).split()
        start, length = r.randint(0, 5), r.randint(3, 7)
        return " ".join(cut[start : start + length]).rstrip(",")
    if x < 0.5:
        return f"{phrase(r)} {r.choice(('and', 'with', 'for', 'to', 'in', 'of', 'or', 'from', 'by'))} {phrase(r)}"
    if x < 0.65:
        who, what = r.choice(w.NAMES), f"{r.choice(w.ADJECTIVES)} {r.choice(w.NOUNS)}"
        return r.choice(
            (
                f"Dear {who}, the {what} is ready.",
                f"Hi {who}, can you bring the {what}?",
                f"I'll be late, {who}!",
                f"See you at {r.randint(1, 12)}, don't forget the {what}",
                f"The {what} isn't here yet.",
                f"Thanks for the {what}, {who}.",
            )
        )
    if x < 0.75:
        return r.choice(("Meeting", "Re", "TODO", "Note", "Reminder")) + f": {phrase(r)}"
    if x < 0.8:
        return f"{phrase(r)} ({phrase(r)})" if r.maybe(0.5) else f"{phrase(r)} - {phrase(r)}"
    if x < 0.84:
        return f'he said "{phrase(r)}"'
    return phrase(r) + r.choice(("", "!", ".", "?", "..."))


def lines(r: Source) -> str:
    """What one might write to a file; may have several lines."""
    x = r.random()
    if x < 0.4:
        return phrase(r)
    if x < 0.6:
        return sentence(r)
    if x < 0.7:
        return f"# {phrase(r)}\n{sentence(r)}\n"
    if x < 0.8:
        return "\n".join(phrase(r) for _ in range(r.randint(2, 3)))
    one, two = plain_word(r), plain_word(r)
    return r.choice(
        (
            f"print('{phrase(r)}')",
            f'print("{phrase(r)}")',
            f"{one} = {r.randint(0, 999)}\n",
            f"def {one}():\n    return {two}\n",
            f'{{"{one}": "{two}"}}',
            f"import {one}\n\n{one}.{two}()\n",
            f"<h1>{phrase(r)}</h1>",
            f"{one},{two}\n{r.randint(1, 99)},{r.randint(1, 99)}\n",
        )
    )


def path(r: Source) -> str:
    stem = r.choice(w.STEMS) if r.maybe(0.4) else plain_word(r)
    if r.maybe(0.2):
        stem += r.choice("_-") + plain_word(r)
    name = stem + "." + r.choice(w.EXTENSIONS) if r.maybe(0.92) else stem
    folders = [r.choice(w.FOLDERS) if r.maybe(0.6) else plain_word(r) for _ in range(r.choice((0, 0, 0, 1, 1, 2)))]
    return r.choice(("", "", "", "/", "./", "~/")) + "/".join([*folders, name])


def identifier(r: Source) -> str:
    digits = str(r.randint(1, 10 ** r.randint(2, 6)))
    letters = "".join(r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(r.randint(1, 3)))
    return r.choice(
        (
            digits,
            letters + digits,
            f"{letters}-{digits}",
            f"{plain_word(r)}-{digits}",
            f"{plain_word(r)}_{digits}",
            f"#{digits}",
            f"{letters.lower()}{digits}{r.choice('abcdefxyz')}",
        )
    )


def number(r: Source) -> int | float:
    x = r.random()
    if x < 0.45:
        return r.randint(0, 100)
    if x < 0.7:
        return r.randint(0, 9999)
    if x < 0.78:
        return -r.randint(1, 90)
    return round(r.uniform(0, 500), r.choice((1, 2)))


def integer(r: Source) -> int:
    return r.randint(1, 60) if r.maybe(0.6) else r.randint(1, 3000)


def date(r: Source) -> str:
    day, month, year = r.randint(1, 28), r.randint(1, 12), r.randint(1990, 2035)
    return r.choice(
        (
            f"{year}-{month:02}-{day:02}",
            f"{year}-{month:02}-{day:02}",
            f"{day} {w.MONTHS[month - 1]}",
            f"{w.MONTHS[month - 1]} {day}",
            f"{day:02}/{month:02}/{year}",
            r.choice(w.DAYS),
            f"next {r.choice(w.DAYS[:7])}",
        )
    )


def clock(r: Source) -> str:
    hour, minute = r.randint(0, 23), r.randint(0, 59)
    return r.choice(
        (
            f"{hour:02}:{minute:02}",
            f"{hour}:{minute:02}",
            f"{hour % 12 + 1}{r.choice(('am', 'pm'))}",
            f"{hour % 12 + 1} {r.choice(('am', 'pm'))}",
        )
    )


def email(r: Source) -> str:
    name = r.choice(w.NAMES).lower() if r.maybe(0.6) else plain_word(r)
    if r.maybe(0.3):
        name += "." + r.choice(w.SURNAMES).lower()
    return f"{name}@{plain_word(r)}.{r.choice(('com', 'org', 'net', 'io', 'de'))}"


def url(r: Source) -> str:
    host = r.choice(("", "", "www.", "api.")) + plain_word(r) + "." + r.choice(("com", "org", "net", "io", "dev"))
    return (
        r.choice(("https://", "https://", "http://", ""))
        + host
        + r.choice(("", "", f"/{plain_word(r)}", f"/{plain_word(r)}/{plain_word(r)}"))
    )


def expression(r: Source) -> str:
    gap = r.choice((" ", " ", ""))
    out = str(r.randint(0, 999))
    for _ in range(r.randint(1, 3)):
        term = (
            str(r.randint(1, 999))
            if r.maybe(0.8)
            else f"({r.randint(1, 99)}{gap}{r.choice('+-')}{gap}{r.randint(1, 99)})"
        )
        out += gap + r.choice("+-*/") + gap + term
    return out


def command(r: Source) -> str:
    a, b = path(r), plain_word(r)
    return r.choice(
        (
            f"ls -la {a}", "ls", f"ls {b}", f"cat {a}", f"grep -r {b} .", f"grep -n '{b}' {a}", f"python {a}",
            f"python3 -m {b}", f"git checkout {b}", "git status", f"git commit -m '{phrase(r)}'", f"mkdir -p {b}",
            f'git commit -m "{phrase(r)}"', f"rm {a}", f"cp {a} {path(r)}", f"npm run {b}", f"npm install {b}",
            f"pip install {b}", f"make {b}", f"echo {b}", f"wc -l {a}", f"tail -n {r.randint(1, 99)} {a}",
            f"curl {url(r)}", f"echo '{phrase(r)}' > {a}", f"find . -name '*.{b}'",
        )
    )  # fmt: skip


def pattern(r: Source) -> str:
    return r.choice(("**/*.", "*.", "src/**/*.", f"{plain_word(r)}/*.", f"{plain_word(r)}*.")) + r.choice(w.EXTENSIONS)
