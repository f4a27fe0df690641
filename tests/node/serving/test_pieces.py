from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_paths import DEMO
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from node.engine.tokenizer import load_tokenizer
from node.serving.pieces import Vocabulary


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(DEMO)


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Any) -> Vocabulary:
    return Vocabulary(tokenizer)


def pieces(vocabulary: Vocabulary, ids: list[int]) -> tuple[str, list[bool]]:
    """The text of all pieces, and which of them are one token."""
    decoder = vocabulary.decoder()
    found = [piece for token in ids if (piece := decoder.feed(token)) is not None]
    return "".join(piece.text for piece in found) + decoder.finish(), [piece.single for piece in found]


@given(text=st.text(max_size=60))
def test_the_text_is_what_was_encoded(tokenizer: Any, vocabulary: Vocabulary, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert pieces(vocabulary, ids)[0] == text


@given(ids=st.lists(st.integers(0, 2047), max_size=40))
def test_any_tokens_give_what_the_tokenizer_says(tokenizer: Any, vocabulary: Vocabulary, ids: list[int]) -> None:
    assert pieces(vocabulary, ids)[0] == b"".join(map(vocabulary.bytes_of, ids)).decode("utf-8", "replace")


def test_a_character_in_several_tokens_is_one_piece(tokenizer: Any, vocabulary: Vocabulary) -> None:
    ids = tokenizer.encode("👍", add_special_tokens=False)
    assert len(ids) > 1
    text, single = pieces(vocabulary, ids)
    assert (text, single) == ("👍", [False])


def test_a_marker_is_one_token_and_a_lone_space_is_not_held(tokenizer: Any, vocabulary: Vocabulary) -> None:
    ids = tokenizer.encode(" <tool_call>", add_special_tokens=False)
    decoder = vocabulary.decoder()
    found = [decoder.feed(token) for token in ids]
    assert [(piece.text, piece.single) for piece in found if piece] == [(" ", True), ("<tool_call>", True)]


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """A small tokenizer of SentencePiece's shape: a sign for spaces, bytes for what it does not know."""
    words = ["▁", "▁Hello", "▁world", "▁w", "orld", "H", "ello", "!"]
    vocab = {"<unk>": 0, "<s>": 1, **{f"<0x{byte:02X}>": 2 + byte for byte in range(256)}}
    vocab |= {word: len(vocab) + index for index, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>")


def test_sentencepiece_shapes() -> None:
    tokenizer = sentencepiece_like()
    vocabulary = Vocabulary(tokenizer)
    ids = tokenizer.convert_tokens_to_ids(["▁Hello", "▁w", "orld", "<0xF0>", "<0x9F>", "<0x91>", "<0x8D>", "!"])
    assert pieces(vocabulary, ids) == ("Hello world👍!", [True, True, True, False, True])
    assert tokenizer.decode(ids) == "Hello world👍!"


def test_any_other_tokenizer_goes_by_its_own_decoder() -> None:
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "un": 1, "##happy": 2, "day": 3}, unk_token="<unk>"))
    inner.decoder = decoders.WordPiece()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert pieces(Vocabulary(tokenizer), [1, 2, 3])[0] == tokenizer.decode([1, 2, 3]) == "unhappy day"


def test_ids_beyond_the_vocabulary_are_nothing(vocabulary: Vocabulary) -> None:
    assert vocabulary.bytes_of(5_000_000) == b""
    assert pieces(vocabulary, [5_000_000])[0] == ""
