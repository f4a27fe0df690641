"""How a request is sampled: as it says itself, else as the checkpoint says (generation_config.json), else greedy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from node.engine.sampling import SamplingParams
from node.serving.model import HeadModel
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2 as pb

DEMO = Path(__file__).resolve().parents[3] / "node" / "demo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with a tokenizer and without a generation_config.json."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, tmp_path)
    return tmp_path


def sampling(folder: Path, config: dict[str, Any] | None = None, **asked: Any) -> SamplingParams:
    """The sampling of a request to a model with these generation defaults."""
    if config is not None:
        (folder / "generation_config.json").write_text(json.dumps(config))
    model = HeadModel(folder, [], 1024)
    try:
        return model.sampling(pb.GenerateRequest(sampling=pb.SamplingParams(**asked)))
    finally:
        model.grammars.close()


def test_without_a_word_it_is_greedy(folder: Path) -> None:
    assert sampling(folder) == SamplingParams()
    assert sampling(folder, {"eos_token_id": 4}) == SamplingParams()


@pytest.mark.parametrize(
    ("config", "temperature"),
    [
        ({"do_sample": True, "temperature": 0.7}, 0.7),
        ({"do_sample": True}, 1.0),
        ({"do_sample": True, "temperature": None}, 1.0),
        ({"do_sample": True, "temperature": 0.0}, 0.0),
        ({"do_sample": False, "temperature": 0.7}, 0.0),
        ({"do_sample": False}, 0.0),
        ({"temperature": 0.7}, 0.7),
        ({"temperature": 0.0}, 0.0),
        ({"temperature": None}, 0.0),
        ({"do_sample": None, "temperature": 0.7}, 0.7),
    ],
)
def test_the_checkpoint_says_whether_tokens_are_drawn(folder: Path, config: dict[str, Any], temperature: float) -> None:
    assert sampling(folder, config) == SamplingParams(temperature=temperature)


FULL = {"do_sample": True, "temperature": 0.5, "top_p": 0.75, "top_k": 20, "min_p": 0.125, "repetition_penalty": 1.25}
OWN = {key: value for key, value in FULL.items() if key != "do_sample"}


def test_every_default_of_the_checkpoint_is_taken(folder: Path) -> None:
    assert sampling(folder, FULL) == SamplingParams(**OWN)


@pytest.mark.parametrize("key", ["top_p", "top_k", "min_p", "repetition_penalty"])
def test_a_default_that_is_null_is_none(folder: Path, key: str) -> None:
    rest = {name: value for name, value in OWN.items() if name != key}
    assert sampling(folder, FULL | {key: None}) == SamplingParams(**rest)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 0.25),
        ("temperature", 0.0),
        ("top_p", 0.5),
        ("top_p", 1.0),
        ("top_k", 7),
        ("top_k", 0),
        ("min_p", 0.25),
        ("min_p", 0.0),
        ("repetition_penalty", 1.5),
        ("repetition_penalty", 1.0),
    ],
)
def test_the_request_overrides_one_default_and_leaves_the_others(folder: Path, key: str, value: float) -> None:
    assert sampling(folder, FULL, **{key: value}) == SamplingParams(**OWN | {key: value})


def test_a_request_draws_from_a_model_that_is_greedy_by_default(folder: Path) -> None:
    assert sampling(folder, {"do_sample": False, "top_k": 5}, temperature=0.5) == SamplingParams(
        temperature=0.5, top_k=5
    )


def test_what_only_requests_say_is_passed_on(folder: Path) -> None:
    asked = {"frequency_penalty": 0.5, "presence_penalty": 0.25, "seed": 7, "logprobs": True, "top_logprobs": 3}
    assert sampling(folder, {}, logit_bias={9: 1.5, 4: -2.0}, **asked) == SamplingParams(
        logit_bias=((4, -2.0), (9, 1.5)), **asked
    )


def test_a_bias_on_a_token_that_the_model_lacks_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        sampling(folder, {}, logit_bias={1 << 30: 1.0})
    assert caught.value.param == "logit_bias"
