import json
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.engine.headers import INDEX_FILE, Headers, TensorHeader, parse_header, read_header, read_headers
from tandem.errors import CheckpointError


def save(folder: Path, name: str = "model.safetensors") -> Path:
    path = folder / name
    arrays = {"a": mx.ones((3, 4)), "b": mx.zeros((5,), mx.bfloat16), "c": mx.zeros((2, 2), mx.uint32)}
    mx.save_safetensors(str(path), arrays, {"format": "mlx"})
    return path


def test_a_header_tells_names_shapes_dtypes_and_sizes(tmp_path: Path) -> None:
    path = save(tmp_path)
    tensors = read_header(path)
    assert tensors == {
        "a": TensorHeader("F32", (3, 4), path.name),
        "b": TensorHeader("BF16", (5,), path.name),
        "c": TensorHeader("U32", (2, 2), path.name),
    }
    headers = read_headers(tmp_path)
    assert headers.files == {path.name: 48 + 10 + 16}
    assert headers.of_file(path.name) == tensors


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_file_cut_off_anywhere_is_named(tmp_path: Path, data: st.DataObject) -> None:
    path = save(tmp_path, "model-cut.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError, match=r"model-cut\.safetensors is damaged"):
        read_header(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_named_and_never_believed(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "model-bad.safetensors"
    path.write_bytes(garbage)
    with pytest.raises(CheckpointError, match=r"model-bad\.safetensors"):
        read_header(path)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"a": 1}',
        '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        '{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
    ],
)
def test_a_header_that_makes_no_sense_is_named(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"remote\.safetensors is damaged"):
        parse_header("remote.safetensors", text)


def test_bytes_after_the_end_are_noticed(tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes() + b"xyz")
    with pytest.raises(CheckpointError, match="3 bytes too many"):
        read_header(path)


def test_what_the_index_lists_must_be_there(tmp_path: Path) -> None:
    save(tmp_path, "model-1.safetensors")
    (tmp_path / INDEX_FILE).write_text(
        json.dumps({"weight_map": {"a": "model-1.safetensors", "z": "model-2.safetensors"}}), "utf-8"
    )
    with pytest.raises(CheckpointError, match=r"lacks model-2\.safetensors"):
        read_headers(tmp_path)
    (tmp_path / INDEX_FILE).write_text('{"weight_map": 3}', "utf-8")
    with pytest.raises(CheckpointError, match=r"index\.json is damaged"):
        read_headers(tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{tmp_path.name} holds no"):
        read_headers(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_header(tmp_path / "model.safetensors")


headers = st.dictionaries(
    st.text(max_size=8),
    st.builds(
        TensorHeader, st.sampled_from(["F32", "BF16", "U32"]), st.tuples(st.integers(0, 9)), st.sampled_from(["x", "y"])
    ),
    max_size=6,
).map(Headers)


@given(headers, headers)
def test_headers_survive_a_journey_and_merge(one: Headers, other: Headers) -> None:
    assert Headers.load(one.dump()) == one
    merged = one.merged(other)
    assert merged.tensors.keys() == one.tensors.keys() | other.tensors.keys()
    assert all(merged.tensors[name] == tensor for name, tensor in other.tensors.items())
    assert sum(merged.files.values()) == sum(tensor.nbytes for tensor in merged.tensors.values())


@given(st.binary(max_size=50))
def test_damaged_headers_are_no_surprise(dumped: bytes) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        Headers.load(dumped)
