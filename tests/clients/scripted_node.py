"""A node daemon whose draws follow a script: what a larger model would say, through everything that is real.

    python scripted_node.py SCRIPT.json [flags of `tandem node`]

The file has a list ``entries`` of ``{"when": [text, ...], "say": text}`` and is read anew for each request. The last
entry whose texts all stand in the prompt gives the answer: its tokens, in the vocabulary of the file ``tokenizer``, and
then the end of the turn (the first of ``ends`` that is a token), are made the likeliest by far. Each of ``thoughts``
has ``open`` and ``close``, the markers, and ``begin`` and ``end``, the markers with what models write round them. Where
the prompt leaves a thought open, something is thought first; with ``thinks``, wherever the prompt has not just closed
one. A prompt that no entry fits is answered by the model. Only the logits are touched; sampling, ring, streaming and
parsing are as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
from tokenizers import Tokenizer

from node.__main__ import main
from node.engine import head as engine_head
from node.engine.sampling import Constraint, Draw, RowSampler, SamplingParams
from node.serving import head as serving_head

CERTAIN = 1e6
THOUGHT = "Let me see."
"""What is thought."""


class ScriptedSampler(RowSampler):
    """Knows, from the prompt, which tokens are to come."""

    script: ClassVar[Path]
    tokenizers: ClassVar[dict[str, Tokenizer]] = {}
    tokenizer: Tokenizer
    text: str
    said: list[int]
    tokens: list[int]

    @classmethod
    def for_prompt(
        cls,
        params: SamplingParams,
        prompt: Sequence[int],
        emitted: Sequence[int] = (),
        constraint: Constraint | None = None,
    ) -> RowSampler:
        """A sampler with the text of the last entry that fits."""
        sampler = super().for_prompt(params, prompt, emitted, constraint)
        assert isinstance(sampler, ScriptedSampler)
        script = json.loads(cls.script.read_text())
        file = script["tokenizer"]
        sampler.tokenizer = cls.tokenizers.setdefault(file, Tokenizer.from_file(file))
        text = sampler.tokenizer.decode(list(prompt), skip_special_tokens=False)
        said = [entry["say"] for entry in script["entries"] if all(words in text for words in entry["when"])]
        end = next(end for end in script["ends"] if sampler.tokenizer.token_to_id(end) is not None)
        sampler.said, sampler.text = list(emitted), thought(text, script) + said[-1] + end if said else ""
        sampler.tokens = sampler.tokenizer.encode(sampler.text, add_special_tokens=False).ids
        return sampler

    def accept(self, token: int) -> bool:
        """Notes what came: a grammar may force the same text in other tokens."""
        accepted = super().accept(token)
        if accepted:
            self.said.append(token)
        return accepted

    def runs_ahead(self) -> bool:
        """Never: what is likely next depends on what was said."""
        return False

    def next_token(self) -> int | None:
        """The token that the script goes on with; None where it has ended, or where something else was said."""
        if self.tokens[: len(self.said)] != self.said:
            self._follow(self.tokenizer.decode(self.said, skip_special_tokens=False))
        if len(self.said) >= len(self.tokens):
            return None
        token, mask = self.tokens[len(self.said)], self.mask()
        if mask is None or mask[token >> 3] >> (token & 7) & 1:
            return token
        # A grammar that ends within the token wants its text in smaller ones.
        text = self.tokenizer.decode([token], skip_special_tokens=False)
        for length in range(len(text) - 1, 0, -1):
            ids = self.tokenizer.encode(text[:length], add_special_tokens=False).ids
            if len(ids) == 1 and mask[ids[0] >> 3] >> (ids[0] & 7) & 1:
                return ids[0]
        return token

    def _follow(self, said: str) -> None:
        """Goes on with the script behind what was said, if that is how the script begins."""
        rest = self.text[len(said) :] if self.text.startswith(said) else ""
        self.tokens = [*self.said, *self.tokenizer.encode(rest, add_special_tokens=False).ids]


def thought(prompt: str, script: Any) -> str:
    """What is thought behind a prompt, with its markers."""
    turn = prompt[-60:]
    for known in script["thoughts"]:
        if turn.rfind(known["open"]) > turn.rfind(known["close"]):
            return THOUGHT + str(known["end"])
    if not script["thinks"] or any(turn.rstrip().endswith(known["close"]) for known in script["thoughts"]):
        return ""
    first = script["thoughts"][0]
    return str(first["begin"]) + THOUGHT + str(first["end"])


class ScriptedDraw(Draw):
    """The real draw, over logits in which the scripted tokens stand out."""

    def __init__(self, logits: mx.array, samplers: Sequence[RowSampler], positions: Sequence[int]) -> None:
        for row, sampler in enumerate(samplers):
            assert isinstance(sampler, ScriptedSampler)
            token = sampler.next_token()
            if token is not None:
                logits[row, token] = CERTAIN
        super().__init__(logits, samplers, positions)


if __name__ == "__main__":
    ScriptedSampler.script = Path(sys.argv.pop(1))
    vars(serving_head)["RowSampler"], vars(engine_head)["Draw"] = ScriptedSampler, ScriptedDraw
    sys.exit(main())
