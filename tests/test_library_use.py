"""The README's five lines and their promise: any training loop, the Hugging Face Trainer, save, reload."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

from replication.methods import MethodConfig, attach, load, save, trainable_parameters
from replication.methods.lora import LoraConfig
from replication.methods.solo_connection import SoloConnectionConfig

FIVE_LINES = """\
from transformers import AutoModelForCausalLM
from replication.methods import attach, load, method_config, save
model = attach(AutoModelForCausalLM.from_pretrained("gpt2"), method_config("solo_connection", rank=120, skip_length=2))
...  # train `model` with your own loop or transformers.Trainer: only the adapter's parameters require gradients
save(model, "my-adapter")
model = load(AutoModelForCausalLM.from_pretrained("gpt2"), "my-adapter")
"""
VOCABULARY = 50


def five_lines(root: Path) -> str:
    """The code between the README's markers; the text above where there is no README."""
    readme = root / "README.md"
    if not readme.is_file():
        return FIVE_LINES
    marked = re.search(
        r"<!-- five lines -->\s*```python\n(.*?)```\s*<!-- /five lines -->",
        readme.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert marked, f"{readme} shows no ```python block between <!-- five lines --> and <!-- /five lines -->"
    return marked[1]


def save_base(folder: Path, family: str = "gpt2") -> Path:
    """A random model, width 128 and 6 blocks, saved as a checkpoint."""
    torch.manual_seed(0)
    if family == "gpt2":
        shape = GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=32,
            n_embd=128,
            n_layer=6,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
        GPT2LMHeadModel(shape).save_pretrained(folder)
    else:
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=128,
                intermediate_size=128,
                num_hidden_layers=6,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=32,
                bos_token_id=0,
                eos_token_id=0,
            )
        ).save_pretrained(folder)
    return folder


def examples(count: int) -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(1, VOCABULARY, (count, 12), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": row} for row in ids]


def train_by_hand(model: torch.nn.Module, steps: int = 4) -> None:
    """A loop as a user would write it, over whatever requires a gradient."""
    model.train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for step in range(steps):
        batch = torch.stack([example["input_ids"] for example in examples(4)])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.isfinite(loss), step


def logits(model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    batch = torch.stack([example["input_ids"] for example in examples(3)])
    with torch.no_grad():
        return model(input_ids=batch).logits


def test_the_readmes_lines(project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run word for word; the hub's name means the folder `gpt2` of the current directory here."""
    monkeypatch.chdir(tmp_path)
    base = logits(AutoModelForCausalLM.from_pretrained(save_base(tmp_path / "gpt2")))
    code = five_lines(project_root)
    before, placeholder, after = re.split(r"^(\.\.\.).*$", code, maxsplit=1, flags=re.MULTILINE)
    assert placeholder
    names: dict[str, object] = {}
    exec(before, names)
    model = names["model"]
    assert isinstance(model, GPT2LMHeadModel)
    assert torch.equal(logits(model), base)
    train_by_hand(model)
    trained = logits(model)
    assert not torch.allclose(trained, base, atol=1e-3)
    exec(after, names)
    assert names["model"] is not model
    assert torch.equal(logits(names["model"]), trained)
    assert {path.name for path in (tmp_path / "my-adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_the_readmes_lines_with_trainer(project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_base(tmp_path / "gpt2")
    readme = (project_root / "README.md").read_text(encoding="utf-8")
    marked = re.search(r"<!-- trainer -->\s*```python\n(.*?)```\s*<!-- /trainer -->", readme, re.DOTALL)
    assert marked
    names: dict[str, Any] = {"AutoModelForCausalLM": AutoModelForCausalLM, "rows": examples(16)}
    exec(marked[1], names)
    plain = AutoModelForCausalLM.from_pretrained("plain")
    assert torch.equal(logits(plain), logits(names["model"]))
    torch.testing.assert_close(logits(plain), logits(names["stock"]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(plain), logits(AutoModelForCausalLM.from_pretrained("gpt2")), atol=1e-6)


def test_at_most_five_statements_besides_the_training(project_root: Path) -> None:
    lines = [line for line in five_lines(project_root).splitlines() if line and not line.startswith("...")]
    assert len(lines) == 5


def test_public_names_are_found_on_first_use() -> None:
    import replication

    code = "import replication, sys; assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(callable(getattr(replication, name)) for name in replication.__all__)
    assert set(replication.__all__) == set(replication._HOME) <= set(dir(replication))


METHODS = [SoloConnectionConfig(rank=16, skip_length=2), LoraConfig(rank=2, targets=("query", "value"))]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("config", METHODS, ids=lambda config: config.method)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "gradient checkpointing"])
def test_hugging_face_trainer(config: MethodConfig, family: str, checkpointing: bool, tmp_path: Path) -> None:
    """Trains, writes its own checkpoints, changes only the adapter; save and reload give the same logits."""
    base = save_base(tmp_path / "base", family)
    model = attach(AutoModelForCausalLM.from_pretrained(base), config)
    adapter = set(trainable_parameters(model))
    start = {name: value.clone() for name, value in model.state_dict().items()}
    Trainer(
        model,
        TrainingArguments(
            tmp_path / "trainer",
            max_steps=4,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            save_steps=4,
            activation_checkpointing=checkpointing,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=examples(16),
    ).train()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, start[name])}
    assert changed
    assert changed <= adapter
    trained = logits(model)
    save(model, tmp_path / "adapter")
    torch.manual_seed(99)
    again = load(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    assert torch.equal(logits(again), trained)
    assert not torch.equal(trained, logits(AutoModelForCausalLM.from_pretrained(base)))
    assert (tmp_path / "trainer" / "checkpoint-4").is_dir()


@pytest.mark.parametrize("config", METHODS, ids=lambda config: config.method)
def test_own_loop_changes_the_adapter_alone(config: MethodConfig, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    model = attach(AutoModelForCausalLM.from_pretrained(base), config)
    frozen = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    train_by_hand(model)
    assert all(torch.equal(value, frozen[name]) for name, value in model.named_parameters() if name in frozen)
    assert set(trainable_parameters(model)).isdisjoint(frozen)


def test_every_block_of_the_page_on_saving(project_root, tmp_path, loopback, monkeypatch):
    """In one namespace and in order, against the loopback hub; `gpt2` is a folder here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    save_base(tmp_path / "gpt2")
    page = (project_root / "docs" / "saving.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    ids = torch.stack([row["input_ids"] for row in examples(4)])
    names: dict[str, Any] = {"rows": examples(16), "batches": [{"input_ids": ids, "labels": ids}] * 3}
    outputs = {}
    with loopback.serve(loopback.LoopbackHub(writers={"hf_writer"})) as hub:
        loopback.reach(hub, monkeypatch, tmp_path)
        for number, block in enumerate(blocks):
            exec(compile(block, "docs/saving.md", "exec", dont_inherit=True), names)
            outputs[number] = logits(names.get("stock", names["model"]) if number in (1, 4) else names["model"])
    assert len(blocks) == 6
    assert not torch.equal(outputs[0], logits(AutoModelForCausalLM.from_pretrained("gpt2")))
    for number in (1, 4):
        torch.testing.assert_close(outputs[number], outputs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(names["plain"]), outputs[0], atol=1e-5, rtol=1e-5)
    card = hub.repositories["models/me/my-adapter"].files["README.md"].decode()
    assert "| data | E2E NLG, 500 rows |" in card
    assert "One seed, 500 rows." in card
    assert names["address"].startswith(f"{hub.address}/me/my-adapter/commit/")
