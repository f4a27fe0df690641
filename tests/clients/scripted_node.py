"""A node daemon whose draws follow a script: what a larger model would say, through everything that is real.

    python scripted_node.py SCRIPT.json TOKENIZER.json [flags of `tandem node`]

The file has a list ``entries`` of ``{"when": [text, ...], "say": text}`` and is read anew for each request. The last
entry whose texts all stand in the prompt gives the answer: its tokens, and then the end of the turn (the first of
``ends`` that is a token), are made the likeliest by far. Where the prompt leaves one of ``thoughts`` (opening and
closing markers) open, something is thought first. A prompt that no entry fits is answered by the model. Only the
logits are touched; sampling, ring, streaming and parsing are as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import mlx.core as mx
from tokenizers import Tokenizer

from node.__main__ import main
from node.engine import head as engine_head
from node.engine.sampling import Constraint, Draw, RowSampler, SamplingParams
from node.serving import head as serving_head

CERTAIN = 1e6


THOUGHT = "Let me see."
"""What is thought first where the prompt leaves a thought open."""


class ScriptedSampler(RowSampler):
    """Knows, from the prompt, which tokens are to come."""

    script: ClassVar[Path]
    tokenizer: ClassVar[Tokenizer]
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
        text = cls.tokenizer.decode(list(prompt), skip_special_tokens=False)
        script = json.loads(cls.script.read_text())
        said = [entry["say"] for entry in script["entries"] if all(words in text for words in entry["when"])]
        end = next(end for end in script["ends"] if cls.tokenizer.token_to_id(end) is not None)
        turn = text[-60:]
        thought = next(
            (close for opening, close in script["thoughts"] if turn.rfind(opening) > turn.rfind(close)), None
        )
        before = "" if thought is None else THOUGHT + thought
        sampler.said, sampler.text = list(emitted), before + said[-1] + end if said else ""
        sampler.tokens = cls.tokenizer.encode(sampler.text, add_special_tokens=False).ids
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
    ScriptedSampler.tokenizer = Tokenizer.from_file(sys.argv.pop(1))
    vars(serving_head)["RowSampler"], vars(engine_head)["Draw"] = ScriptedSampler, ScriptedDraw
    sys.exit(main())
