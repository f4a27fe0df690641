"""What the catalog finds on a disk."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from node.cluster.catalog import DEMO_FOLDER, Catalog, nearest
from node.cluster.local_model import context_tokens, headers_file
from node.engine.headers import read_headers
from tandem.errors import CheckpointError

COMMIT, OTHER = "a" * 40, "b" * 40


def put_weights(path: Path, name: str) -> None:
    header = json.dumps({name: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\1\2\3\4")


def put_model(folder: Path, *, files: int = 1, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 4096, **config}))
    (folder / "tokenizer.json").write_text("{}")
    names = [f"model-{i + 1}-of-{files}.safetensors" for i in range(files)] if files > 1 else ["model.safetensors"]
    for i, name in enumerate(names):
        put_weights(folder / name, f"w{i}")
    if files > 1:
        index = {"weight_map": {f"w{i}": name for i, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def put_snapshot(cache: Path, model_id: str, commit: str, *, main: bool = True, files: int = 1) -> Path:
    repository = cache / f"models--{model_id.replace('/', '--')}"
    if main:
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
    return put_model(repository / "snapshots" / commit, files=files)


# -- finding


def test_the_embedded_model_is_always_there() -> None:
    model = Catalog().find("tandem-demo")
    assert model is not None
    assert model.folder == DEMO_FOLDER
    assert model.complete
    assert model.context_tokens >= 16384
    assert [spec.name for spec in model.served_names] == ["tandem-demo-qwen", "tandem-demo-llama"]
    assert all((model.folder / spec.chat_template).is_file() and spec.tool_format for spec in model.served_names)
    assert Catalog().find("tandem-demo-llama") == model
    assert Catalog().list() == [model]


def test_a_folder_by_absolute_and_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put_model(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for asked in (str(folder), "mine", "./mine", "mine/", "../" + tmp_path.name + "/mine"):
        model = Catalog().find(asked)
        assert model is not None
        assert (model.model_id, model.folder) == (str(folder), folder)
        assert [spec.name for spec in model.served_names] == ["mine"]


def test_a_name_in_a_model_folder_and_the_path_of_the_same(tmp_path: Path) -> None:
    folder = put_model(tmp_path / "owner" / "mine")
    catalog = Catalog([tmp_path])
    for asked in ("owner/mine", str(folder)):
        model = catalog.find(asked)
        assert model is not None
        assert (model.model_id, model.folder) == ("owner/mine", folder)
        assert [spec.name for spec in model.served_names] == ["owner/mine"]


def test_a_repository_in_the_cache(tmp_path: Path) -> None:
    folder = put_snapshot(tmp_path, "owner/model", COMMIT)
    put_snapshot(tmp_path, "owner/model", OTHER, main=False)
    catalog = Catalog(hub_cache=tmp_path)
    model = catalog.find("owner/model")
    assert model is not None
    assert (model.folder, model.revision, model.model_id) == (folder, COMMIT, "owner/model")
    other = catalog.find("owner/model", revision=OTHER)
    assert other is not None
    assert other.revision == OTHER
    assert catalog.find("owner/model", revision="c" * 40) is None


def test_a_cache_without_main_gives_the_newest_snapshot(tmp_path: Path) -> None:
    old = put_snapshot(tmp_path, "owner/model", OTHER, main=False)
    put_snapshot(tmp_path, "owner/model", COMMIT, main=False)
    os.utime(old, (1, 1))
    model = Catalog(hub_cache=tmp_path).find("owner/model")
    assert model is not None
    assert model.revision == COMMIT


@pytest.mark.parametrize(
    "name", ["", " ", "no/such", "../..", "a" * 500, "x\0y", "--", "a/b/c/d", "ä ö/ü", "~", "~nobody", "\ud800"]
)
def test_what_is_not_there_is_none(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert Catalog([tmp_path / "models", tmp_path / "absent"], hub_cache=tmp_path / "none").find(name) is None


def test_a_damaged_configuration_is_named_and_harms_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_model(tmp_path / "good")
    bad = put_model(tmp_path / "bad") / "config.json"
    bad.write_text('{"model_type": "lla')
    catalog = Catalog([tmp_path])
    with pytest.raises(CheckpointError, match=str(bad)):
        catalog.find("bad")
    assert [model.model_id for model in catalog.list()] == ["tandem-demo", "good"]
    assert "bad is left out" in caplog.text


# -- what a model says of itself


def test_the_list_has_every_place_once(tmp_path: Path) -> None:
    put_model(tmp_path / "models" / "one")
    put_model(tmp_path / "models" / "owner" / "two")
    put_model(tmp_path / "models" / "empty")
    (tmp_path / "models" / "empty" / "model.safetensors").unlink()
    put_snapshot(tmp_path / "hub", "owner/three", COMMIT)
    put_snapshot(tmp_path / "hub", "one", COMMIT)
    found = Catalog([tmp_path / "models", tmp_path / "absent"], hub_cache=tmp_path / "hub").list()
    assert [model.model_id for model in found] == ["tandem-demo", "one", "owner/three", "owner/two"]
    assert found[1].folder == tmp_path / "models" / "one"


def test_complete_means_every_file_of_the_index(tmp_path: Path) -> None:
    folder = put_model(tmp_path / "mine", files=3)
    catalog = Catalog([tmp_path])

    def complete() -> bool:
        model = catalog.find("mine")
        assert model is not None
        return model.complete

    assert complete()
    (folder / "model-2-of-3.safetensors").unlink()
    assert not complete()
    (folder / "model-2-of-3.safetensors").symlink_to(tmp_path / "nowhere")
    assert not complete()


def test_kept_headers_stand_in_for_files_that_are_not_here(tmp_path: Path) -> None:
    folder = put_snapshot(tmp_path, "owner/model", COMMIT, files=3)
    headers = read_headers(folder)
    headers_file(folder).parent.mkdir()
    headers_file(folder).write_bytes(headers.dump())
    (folder / "model-2-of-3.safetensors").unlink()
    model = Catalog(hub_cache=tmp_path).find("owner/model")
    assert model is not None
    assert not model.complete
    assert model.headers() == headers
    headers_file(folder).unlink()
    with pytest.raises(CheckpointError, match="model-2-of-3"):
        model.headers()


def test_equal_files_have_equal_revisions_and_others_do_not(tmp_path: Path) -> None:
    one = put_model(tmp_path / "a" / "mine", files=2)
    two = Path(shutil.copytree(one, tmp_path / "b" / "other"))
    catalog = Catalog()

    def revision(folder: Path) -> str:
        model = catalog.find(str(folder))
        assert model is not None
        return model.revision

    first = revision(one)
    assert first == revision(two)
    (two / "model-1-of-2.safetensors").unlink()  # a node that holds only its own files
    assert first == revision(two)
    (two / "README.md").write_text("words")
    assert first == revision(two)
    seen = {first}
    for name, text in (
        ("config.json", '{"model_type": "llama", "rope_theta": 2}'),
        ("tokenizer.json", '{"x":1}'),
        ("chat_template.jinja", "{{ x }}"),
        ("model.safetensors.index.json", '{"weight_map": {"w0": "model-1-of-2.safetensors"}}'),
    ):
        (two / name).write_text(text)
        seen.add(revision(two))
    assert len(seen) == 5


def test_the_size_of_an_only_weight_file_counts(tmp_path: Path) -> None:
    one, two = put_model(tmp_path / "a"), put_model(tmp_path / "b")
    with (two / "model.safetensors").open("ab") as file:
        file.write(b"x")
    models = [Catalog().find(str(folder)) for folder in (one, two)]
    assert models[0] is not None
    assert models[1] is not None
    assert models[0].revision != models[1].revision
    assert Catalog().find(str(one), revision=models[1].revision) is None


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"text_config": {"max_position_embeddings": 131072}}, 131072),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": None, "llm_config": {"seq_length": 2048}}, 2048),
        ({"max_position_embeddings": True}, 0),
        ({"text_config": "x"}, 0),
        ({}, 0),
    ],
)
def test_context_tokens(config: dict[str, Any], tokens: int) -> None:
    assert context_tokens(config) == tokens


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "damaged"),
        ("[]", "no JSON object"),
        ("{}", "no served_names"),
        ('{"served_names": ["x"]}', "needs a name"),
        ('{"served_names": [{"name": ""}]}', "needs a name"),
        ('{"served_names": [{"name": "a"}, {"name": "a"}]}', "a twice"),
        ('{"served_names": [{"name": "a", "chat_template": "no.jinja"}]}', "no chat template no.jinja"),
        ('{"served_names": [{"name": "a", "chat_template": "../config.json"}]}', "no chat template"),
        ('{"served_names": [{"name": "a", "tool_format": 3}]}', "needs a name"),
    ],
)
def test_a_bad_serving_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    folder = put_model(tmp_path / "sub" / "mine")
    put_model(tmp_path / "sub")
    (folder / "tandem.json").write_text(text)
    with pytest.raises(CheckpointError, match=rf"tandem\.json.*{complaint}"):
        Catalog().find(str(folder))


# -- near matches


def test_near_matches() -> None:
    known = {"mlx-community/Qwen3-4B-4bit", "mlx-community/Qwen3-8B-4bit", "tandem-demo", "tandem-demo-qwen"}
    assert nearest("Qwen3-4b-4bits", known)[0] == "mlx-community/Qwen3-4B-4bit"
    assert nearest("other/qwen3-8B-4bit", known)[0] == "mlx-community/Qwen3-8B-4bit"
    assert nearest("tandem-dmo", known)[0] == "tandem-demo"
    assert nearest("gpt-4o", known) == []
    assert "tandem-demo-qwen" in Catalog().near("tandem_demo_qwen")
