"""Model folders that speak a format: a random tiny model with the chat template of a real one, where it is at hand.

The tokenizer is the demonstration model's with the markers of the format added, or, as models have it that write their
markers in several tokens, without.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from client_environments import ROOT
from make_model import configurations, make_model

from parsers import FORMATS, Format, get_format

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
TOLD_BY_SETTING = {
    # Their only templates show another format, or an elder one.
    *("apriel16", "cohere_command4", "command_a", "mistral"),
    # Their models write as another format's do, but for a trifle that no template shows.
    *("llama3_json_tag", "nemotron_v3", "spark25", "step3p5"),
}
"""Formats that their templates do not tell."""


def markers_of(spec: Format) -> set[str]:
    """What models of this format have tokens for, as far as its file tells."""
    wire = spec.wire
    written = "".join((wire.opening, wire.head, wire.middle, *wire.parameter, wire.quote, wire.tail, wire.closing))
    texts = [written, *spec.markers, *spec.ends, *spec.dropped]
    return {marker for text in texts for marker in MARKER.findall(text)}


def ends_of(spec: Format) -> list[str]:
    """The format's end-of-turn tokens, without those that stand before a call in some format, or close a thought."""
    before = "".join(one.wire.opening + one.wire.head for one in map(get_format, FORMATS))
    closing = {thought.close for thought in spec.thoughts}
    return [end for end in spec.ends if end not in before and end not in closing]


@dataclass(frozen=True)
class Speaker:
    """A chat template, and the format to be set beside it: none where the template itself tells."""

    template: str
    name: str
    tool_format: str


def speaker_of(key: str) -> Speaker:
    """The chat template of a model that speaks the format.

    It is a real one where there is one; of a format that has variants a variant's.
    """
    listed = SHARED_CASES / "template_formats.json"
    known = json.loads(listed.read_text("utf-8")) if listed.exists() else {}
    spoken = {name: keys for name, keys in sorted(known.items()) if keys}
    fitting = sorted((name for name, keys in spoken.items() if key in keys), key=lambda name: spoken[name].index(key))
    fitting += [name for name, keys in spoken.items() if key == "mistral" and keys[0].startswith("mistral_")]
    if not fitting:
        return Speaker(PLAIN_TEMPLATE, "", key)
    source = (SHARED_CASES / "chat_templates" / fitting[0]).read_text("utf-8")
    return Speaker(source, fitting[0], key if key in TOLD_BY_SETTING else "")


def make_folder(folder: Path, key: str, *, marked: bool, **shape_of_model: int) -> Speaker:
    """Writes the model; its served name is the format's key. ``marked``: the format's markers are tokens."""
    tokenizer = json.loads((DEMO / "tokenizer.json").read_text("utf-8"))
    known = {token["content"] for token in tokenizer["added_tokens"]}
    size = len(tokenizer["model"]["vocab"])
    spec, speaker = get_format(key), speaker_of(key)
    new = sorted(markers_of(spec) - known) if marked else []
    shape = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    first = max(size, 1 + max(token["id"] for token in tokenizer["added_tokens"]))
    tokenizer["added_tokens"] += [{"id": first + at, "content": marker, **shape} for at, marker in enumerate(new)]
    config = configurations()["llama"] | {"vocab_size": first + len(new), "max_position_embeddings": 65536}
    make_model(config | shape_of_model, folder, seed=5, tokenizer=DEMO)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    end = next(end for end in (*ends_of(spec), "<|im_end|>") if end in ids)
    ends = {ids[text] for text in (end, "<|call|>") if text in ids}
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(json.dumps(settings | {"eos_token_id": sorted(ends)}), "utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    settings["eos_token"] = end
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "template.jinja").write_text(speaker.template, "utf-8")
    served = {"name": key, "chat_template": "template.jinja", "tool_format": speaker.tool_format}
    (folder / "tandem.json").write_text(json.dumps({"served_names": [served]}), "utf-8")
    return speaker


def all_keys() -> list[str]:
    """Every format."""
    return sorted(FORMATS)
