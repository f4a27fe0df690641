import json
from pathlib import Path
from typing import Any

import make_model as maker
import mlx.core as mx
import pytest
from mlx_lm import load, stream_generate

from node.engine.headers import read_headers

CHAT = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("architecture", maker.configurations())
def test_mlx_lm_loads_it_and_it_does_not_say_one_thing_only(
    architecture: str, tmp_path: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    maker.make_model(tiny[architecture], tmp_path, seed=2, shards=2, tokenizer=maker.DEMO)
    model, tokenizer, config = load(str(tmp_path), return_config=True)
    assert config["model_type"] == architecture
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)
    tokens = [chunk.token for chunk in stream_generate(model, tokenizer, prompt, max_tokens=16)]
    assert len(set(tokens)) >= 3


def test_the_seed_decides_the_weights_and_the_shards_do_not(tmp_path: Path, tiny: dict[str, dict[str, Any]]) -> None:
    made = {}
    for name, seed, shards in (("a", 1, 1), ("b", 1, 4), ("c", 2, 1)):
        folder = tmp_path / name
        maker.make_model(tiny["qwen3_moe"], folder, seed=seed, shards=shards)
        headers = read_headers(folder)
        assert len(headers.files) == shards
        assert max(headers.files.values()) < 2 * min(headers.files.values())
        made[name] = {key: array for file in headers.files for key, array in mx.load(str(folder / file)).items()}
    key = "model.layers.3.mlp.switch_mlp.up_proj.weight"
    assert made["a"].keys() == made["b"].keys() == made["c"].keys()
    assert all(mx.array_equal(array, made["b"][name]) for name, array in made["a"].items())
    assert not mx.array_equal(made["a"][key], made["c"][key])


def test_the_command_makes_a_folder_with_the_demo_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["llama", str(tmp_path / "m"), "--seed", "1", "--shards", "3", "--layers", "4", "--dtype", "float16"]
    monkeypatch.setattr("sys.argv", ["make_model.py", *arguments])
    maker.main()
    config = json.loads((tmp_path / "m" / "config.json").read_text("utf-8"))
    assert (config["model_type"], config["num_hidden_layers"]) == ("llama", 4)
    assert "eos_token_id" in config
    assert (tmp_path / "m" / "tokenizer.json").exists()
    assert {t.dtype for t in read_headers(tmp_path / "m").tensors.values()} == {"F16"}
    assert "llama in" in capsys.readouterr().out
