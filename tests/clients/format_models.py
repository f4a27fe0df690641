"""A model folder that speaks every format: one random tiny model, and a served name for each format.

The tokenizer is the demonstration model's with the markers of all formats added, or, for the formats whose models
have no token for them, without. Chat templates are the real ones where they are at hand.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from client_environments import ROOT

from parsers import FORMATS, Format, get_format

sys.path.insert(0, str(ROOT / "scripts"))

from make_model import configurations, make_model

DEMO = ROOT / "node" / "demo"
SHARED_CASES = ROOT.parent / "shared" / "tool-cases"
MARKER = re.compile(r"<[^<>\s]{2,60}>|\[[A-Z_/]{4,40}\]|\]<\]minimax\[>\[|｜DSML｜|<｜[^<>]{2,60}｜>")
PLAIN_TEMPLATE = """
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}
{{ call.function.name }} {{ call.function.arguments | tojson }}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""For formats of which no template is at hand."""


def markers_of(spec: Format) -> set[str]:
    """What models of this format have tokens for, as far as its file tells."""
    wire = spec.wire
    written = "".join((wire.opening, wire.head, wire.middle, *wire.parameter, wire.quote, wire.tail, wire.closing))
    texts = [written, *spec.markers, *spec.ends, *spec.dropped]
    return {marker for text in texts for marker in MARKER.findall(text)}


def ends_of(spec: Format) -> list[str]:
    """The format's end-of-turn tokens, without those that stand before a call in some format."""
    before = "".join(one.wire.opening + one.wire.head for one in map(get_format, FORMATS))
    return [end for end in spec.ends if end not in before]


def template_of(key: str) -> str:
    """The chat template of a model that speaks the format."""
    listed = SHARED_CASES / "template_formats.json"
    if listed.exists():
        for name, keys in sorted(json.loads(listed.read_text("utf-8")).items()):
            if keys and keys[0] == key:
                return (SHARED_CASES / "chat_templates" / name).read_text("utf-8")
    return PLAIN_TEMPLATE


def make_folder(folder: Path, keys: list[str], *, marked: bool) -> None:
    """Writes the model; its served names are the formats' keys. ``marked``: their markers are tokens."""
    tokenizer = json.loads((DEMO / "tokenizer.json").read_text("utf-8"))
    known = {token["content"] for token in tokenizer["added_tokens"]}
    size = len(tokenizer["model"]["vocab"])
    specs = [get_format(key) for key in keys]
    new = sorted(set().union(*map(markers_of, specs)) - known) if marked else []
    shape = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    first = max(size, 1 + max(token["id"] for token in tokenizer["added_tokens"]))
    tokenizer["added_tokens"] += [{"id": first + at, "content": marker, **shape} for at, marker in enumerate(new)]
    config = configurations()["llama"] | {"vocab_size": first + len(new), "max_position_embeddings": 65536}
    make_model(config, folder, seed=5, tokenizer=DEMO)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    ends = {ids[end] for spec in specs for end in (*ends_of(spec), "<|call|>", "<|im_end|>") if end in ids}
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(json.dumps(settings | {"eos_token_id": sorted(ends)}), "utf-8")
    (folder / "templates").mkdir()
    for key in keys:
        (folder / "templates" / f"{key}.jinja").write_text(template_of(key), "utf-8")
    served = [{"name": key, "chat_template": f"templates/{key}.jinja", "tool_format": key} for key in keys]
    (folder / "tandem.json").write_text(json.dumps({"served_names": served}), "utf-8")


def all_keys() -> list[str]:
    """Every format."""
    return sorted(FORMATS)
