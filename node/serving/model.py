"""What the head knows of a model besides its weights: tokenizer, templates, formats, defaults, limits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node.engine.sampling import SamplingParams
from node.engine.tokenizer import load_tokenizer
from node.serving.grammar.compiler import GrammarCompiler
from node.serving.grammar.tokens import GrammarTokens
from node.serving.grammar.turns import TurnGrammars
from node.serving.pieces import Vocabulary
from node.serving.prompt import PromptRenderer
from parsers import Format
from tandem.errors import InvalidRequestError, NotFoundError
from tandem.v1 import generation_pb2 as pb
from tandem.v1 import membership_pb2


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One name under which a pipeline is served: how its prompts are written and its answers read."""

    name: str
    renderer: PromptRenderer
    format: Format
    single_tokens: frozenset[str]
    """The format's markers that the vocabulary has a token for: in several pieces they are only text."""
    grammars: TurnGrammars
    """Makes what holds an answer to what its request demands."""


class HeadModel:
    """Everything of one model that the head needs on the event loop.

    Args:
        folder: of the checkpoint; its tokenizer and its generation defaults are read here.
        served_names: with their templates as jinja text, empty for the checkpoint's own.
        context_tokens: the model's limit.

    Raises:
        CheckpointError: no tokenizer.
        InvalidRequestError: an unknown tool format.
    """

    def __init__(self, folder: Path, served_names: list[membership_pb2.ServedName], context_tokens: int) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.vocabulary = Vocabulary(self.tokenizer)
        self.context_tokens = context_tokens
        self.stop_ids = frozenset(int(token) for token in self.tokenizer.eos_token_ids)
        self.grammars = GrammarCompiler(GrammarTokens(self.tokenizer, self.vocabulary), self.stop_ids)
        self._defaults = _generation_defaults(folder)
        self._model_type = _model_type(folder)
        self._served = {served.name: self._make(served) for served in served_names}

    def served(self, name: str) -> ServedModel:
        """The served name. Raises NotFoundError."""
        try:
            return self._served[name]
        except KeyError:
            raise NotFoundError(f"{name} is not served here", code="model_not_found") from None

    def sampling(self, request: pb.GenerateRequest) -> SamplingParams:
        """The request's sampling over the model's own defaults.

        Raises InvalidRequestError for a token beyond the vocabulary in ``logit_bias``.
        """
        asked = request.sampling
        default = self._defaults

        def choose(field: str, fallback: float) -> Any:
            return getattr(asked, field) if asked.HasField(field) else default.get(field, fallback)  # type: ignore[arg-type]

        for token in asked.logit_bias:
            if token >= len(self.tokenizer):
                raise InvalidRequestError(f"there is no token {token} in this model", param="logit_bias")
        return SamplingParams(
            temperature=float(choose("temperature", 0.0)),
            top_p=float(choose("top_p", 1.0)),
            top_k=int(choose("top_k", 0)),
            min_p=float(choose("min_p", 0.0)),
            repetition_penalty=float(choose("repetition_penalty", 1.0)),
            frequency_penalty=float(choose("frequency_penalty", 0.0)),
            presence_penalty=float(choose("presence_penalty", 0.0)),
            logit_bias=tuple(sorted(asked.logit_bias.items())),
            seed=asked.seed,
            choice=request.choice_index,
            logprobs=asked.logprobs,
            top_logprobs=asked.top_logprobs,
        )

    def _make(self, served: membership_pb2.ServedName) -> ServedModel:
        renderer = PromptRenderer(
            self.tokenizer, served.chat_template, served.tool_format, self._model_type, self.context_tokens
        )
        spec = renderer.detection.format
        single = frozenset(marker for marker in spec.markers if marker in self.tokenizer.added_tokens_encoder)
        grammars = TurnGrammars(served.name, spec, self.vocabulary, self.grammars)
        return ServedModel(served.name, renderer, spec, single, grammars)


def _model_type(folder: Path) -> str:
    path = folder / "config.json"
    kind = json.loads(path.read_text(encoding="utf-8")).get("model_type") if path.is_file() else None
    return kind if isinstance(kind, str) else ""


_SAMPLING: Final = ("top_p", "top_k", "min_p", "repetition_penalty")
"""What a checkpoint may say of sampling besides the temperature."""


def _generation_defaults(folder: Path) -> dict[str, float]:
    """The checkpoint's own sampling; greedy where it says nothing, as in transformers. ``do_sample`` counts more than
    the temperature; without it, a temperature means that tokens are drawn."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    config = json.loads(path.read_text(encoding="utf-8"))
    defaults = {key: float(config[key]) for key in _SAMPLING if config.get(key) is not None}
    temperature, sampled = config.get("temperature"), config.get("do_sample")
    if sampled is None:
        sampled = temperature is not None
    # Zero is a temperature of its own, not one that was left out.
    defaults["temperature"] = (1.0 if temperature is None else float(temperature)) if sampled else 0.0
    return defaults
