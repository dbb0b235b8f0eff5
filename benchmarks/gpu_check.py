"""One card, at most eight minutes, no network: does everything that the paper profile needs work on this GPU?

    make gpu-check                                         # python benchmarks/gpu_check.py
    python benchmarks/gpu_check.py --device cpu --tiny     # the same script where there is no GPU

| part      | checks                                                                                             |
|-----------|----------------------------------------------------------------------------------------------------|
| `methods` | each method in float32, bf16 autocast, bf16 weights: train, save, load, merge, beam decoding;      |
|           | float16 weights with a gradient scaler                                                             |
| `losses`  | the losses of five updates, on the device and on the CPU                                           |
| `memory`  | predicted peak of a training step against the allocator's, within 10 %, at the papers' shapes      |
| `speed`   | seconds of a training step beside stock PEFT's LoRA; reported, not judged                          |

Results: one JSON file and a table. Exit status 0: all of it ran and passed; 1: a check failed, and which; 2: nothing
failed, but the time was up before everything had run (`complete` is false), or there is no CUDA device. Each part has
its share of the time and stops at its end between two cases; a watchdog writes what there is when the whole time is up.
"""

from __future__ import annotations

import copy
import gc
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

START = time.monotonic()
MINUTES = 8.0
SHARES = {"methods": 0.36, "losses": 0.16, "memory": 0.28, "speed": 0.14}
"""Part -> its share of the time; the rest is for starting."""
PRECISIONS = ("no", "bf16", "bf16_weights")
SAME_LOSS = {"no": 1e-3, "bf16": 3e-2, "bf16_weights": 3e-2}
"""Largest relative difference of a loss from the CPU's."""
WITHIN = 0.10

QV, QKV = ["query", "value"], ["query", "key", "value"]
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "frozen": ("frozen", {}),
    "full": ("full", {}),
    "lora": ("lora", {"rank": 2}),
    "solo": ("solo_connection", {"rank": 4}),
    "solo sparse": ("solo_connection", {"rank": 8, "sparsity": 0.6}),
    "weight_lora": ("weight_lora", {"rank": 2, "keep": 2, "selection_steps": 4}),
    "weight_lora_plus": ("weight_lora_plus", {"rank": 2, "expansions": 1, "selection_steps": 3, "expand_every": 2}),
    "random_lora": ("random_lora", {"rank": 2, "keep": 2}),
    "adapter_h": ("adapter_h", {"bottleneck": 4}),
    "adapter_l": ("adapter_l", {"bottleneck": 4}),
    "ft_top2": ("ft_top2", {}),
}
NOT_MERGED = ("solo_connection", "adapter_h", "adapter_l")
RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
    f"peft {name}": ("peft_baselines", {"name": name, "settings": settings, "targets": None if name == "ia3" else QV})
    for name, settings in {
        "lora": {"r": 2}, "dora": {"r": 2}, "rslora": {"r": 2}, "adalora": {"init_r": 3, "target_r": 2},
        "loha": {"r": 2}, "lokr": {"r": 2}, "vera": {"r": 4}, "ia3": {},
    }.items()
}  # fmt: skip
METHODS = {**OURS, **RIVALS}


class CheckError(Exception):
    """A check that does not hold."""


class Skip(Exception):  # noqa: N818 (nothing is wrong)
    """A case that this machine cannot run."""


class Report:
    """The results so far, written whole at any moment; `lock` keeps the watchdog and the main thread apart."""

    def __init__(self, output: Path, minutes: float, about: dict[str, Any]):
        self.output, self.lock = output, threading.Lock()
        self.started = START
        self.limit = 60 * minutes
        self.parts: dict[str, dict[str, Any]] = {}
        self.about = about

    def seconds(self) -> float:
        """Since the start."""
        return round(time.monotonic() - self.started, 2)

    @property
    def failed(self) -> list[str]:
        """Part and case of every failed check."""
        return [f"{part}: {row['case']}" for part, found in self.parts.items()
                for row in found["rows"] if row["status"] == "failed"]  # fmt: skip

    @property
    def complete(self) -> bool:
        """Whether every case of every part has run, or was skipped for a reason of the machine's."""
        return set(self.parts) == set(SHARES) and not any(part["not_run"] for part in self.parts.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "schema_version": 1,
            "made_by": "benchmarks/gpu_check.py",
            **self.about,
            "complete": self.complete,
            "failed": self.failed,
            "seconds": self.seconds(),
            "parts": self.parts,
        }

    def write(self) -> None:
        """To the output file."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.output.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    def status(self) -> int:
        """Exit status."""
        return 1 if self.failed else 0 if self.complete else 2

    def run_part(self, name: str, cases: dict[str, Callable[[], dict[str, Any]]]) -> None:
        """Every case of a part until its time is up; progress on stderr."""
        began, budget = time.monotonic(), self.limit * SHARES[name]
        part: dict[str, Any] = {"budget_seconds": round(budget, 1), "seconds": 0.0, "not_run": list(cases), "rows": []}
        with self.lock:
            self.parts[name] = part
        for number, (case, function) in enumerate(cases.items(), start=1):
            if time.monotonic() - began > budget:
                say(f"[{name}] the part's {budget:.0f} s are over: {len(part['not_run'])} cases not run")
                break
            row = one_case(case, function)
            with self.lock:
                part["rows"].append(row)
                part["not_run"].remove(case)
                part["seconds"] = round(time.monotonic() - began, 2)
            detail = f": {row['detail']}" if row.get("detail") else ""
            say(f"[{name} {number}/{len(cases)}] {case}: {row['status']} ({row['seconds']:.1f} s){detail}")
        with self.lock:
            self.write()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ends the process when the whole time is up, even inside a kernel, with what there is."""

        def stop() -> None:
            with self.lock:
                self.write()
                say(f"the {self.limit:.0f} s are over: the result is partial")
                print(table(self.to_dict()), flush=True)
                os._exit(self.status() or 2)

        timer = threading.Timer(max(self.limit - self.seconds(), 0.0), stop)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def one_case(case: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run one case; whatever it raises is its result."""
    import torch

    began = time.monotonic()
    try:
        row = {"status": "passed", **function()}
    except (Skip, torch.OutOfMemoryError) as reason:
        row = {"status": "skipped", "detail": first_line(reason)}
    except Exception as error:  # any error of any kernel is what this script looks for
        kind = "" if isinstance(error, CheckError) else f"{type(error).__name__}: "
        row = {"status": "failed", "detail": kind + first_line(error)}
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return {"case": case, "seconds": round(time.monotonic() - began, 2), **row}


def first_line(error: BaseException) -> str:
    """The message in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def check(holds: bool, otherwise: str) -> None:
    """CheckError unless it holds."""
    if not holds:
        raise CheckError(otherwise)


# --- methods ------------------------------------------------------------


def method_cases(device: str, tiny: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """Model x method x precision; tiny: PEFT's rivals in bfloat16 weights only."""
    heads = ("frozen", "full", "lora", "weight_lora", "peft lora", "peft dora")
    models = {"gpt2": tuple(OURS), "llama": tuple(METHODS), "bart": ("full", "lora", "solo", "weight_lora"),
              "classifier": heads}  # fmt: skip
    if tiny:
        models = {"gpt2": tuple(OURS), "llama": tuple(RIVALS), "classifier": heads[:3]}
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for model, names in models.items():
        for name in names:
            for precision in PRECISIONS[-1:] if tiny and name in RIVALS else PRECISIONS:
                found[f"{model}, {name}, {precision}"] = lambda m=model, n=name, p=precision: exercise(m, n, p, device)
    for name in ("lora", "solo", "weight_lora", "peft lora"):
        found[f"llama, {name}, fp16 with a gradient scaler"] = lambda n=name: scaled_training(n, device)
    return found


def tiny_model(name: str) -> Any:
    """A random model of width 32 on the CPU; always the same."""
    import torch
    from transformers import LlamaForSequenceClassification

    from replication.testing.tiny_models import TINY_MODELS

    if name != "classifier":
        return TINY_MODELS[name]()
    torch.manual_seed(0)
    return LlamaForSequenceClassification(TINY_MODELS["llama"]().config).eval()


def method_named(name: str) -> Any:
    """The configuration of a method of this script."""
    from replication.methods import method_config

    method, settings = METHODS[name]
    return method_config(method, **settings)


def model_loss(model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """The model's own loss: summed over the batch, and its weight."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    labels = ids[:, 0] % 2 if "Classification" in type(model).__name__ else ids
    return model(input_ids=ids, attention_mask=mask, labels=labels).loss * len(ids), mask.new_tensor(len(ids))


def exercise(model_name: str, method_name: str, precision: str, device: str) -> dict[str, Any]:
    """Train by the project's own loop, save, load, merge, unmerge, decode."""
    import torch

    from replication.methods import adapter_parameters, attach, load, save, trainable_parameters
    from replication.training.bfloat16 import narrow_weights
    from replication.training.config import TrainingConfig
    from replication.training.loop import train

    base = tiny_model(model_name)
    if precision == "bf16_weights":
        narrow_weights(base)
    config = method_named(method_name)
    model = attach(copy.deepcopy(base), config)
    start = {name: p.detach().clone() for name, p in trainable_parameters(model).items()}
    training = TrainingConfig(
        steps=8, batch_size=4, warmup_steps=1, learning_rate=1e-3, log_every=1, mixed_precision=precision
    )
    examples = some_examples(24)
    result = train(
        model, examples, examples[:4], training, seed=1, pad_id=0, callback=config.training_callback(training),
        loss_function=model_loss,
    )  # fmt: skip
    check(result.dev_loss is not None and math.isfinite(result.dev_loss), f"dev loss {result.dev_loss}")
    check(next(model.parameters()).device.type == device, f"trained on {next(model.parameters()).device}")
    trained = trainable_parameters(model)
    if not config.trains_base:
        own = {id(p) for p in adapter_parameters(model).values()} | {id(p) for p in trained.values()}
        narrow = [name for name, p in trained.items() if p.dtype != torch.float32]
        check(not narrow, f"not float32: {narrow[:3]}")
        wide = [n for n, p in model.named_parameters() if id(p) not in own and p.dtype != torch.float32]
        check(bool(wide) == (precision == "bf16_weights"), "the frozen weights have the wrong dtype")
        # by name: a pair that was expanded has another shape; AdaLoRA's cut singular values are zero as at the start
        still = [n for n, p in trained.items() if "lora_E" not in n and torch.equal(p.detach().cpu(), start[n])]
        check(not still, f"did not move: {still[:3]}")
    ids = torch.stack([torch.tensor(example.input_ids) for example in some_examples(3, seed=99)]).to(device)
    trained_logits = logits_of(model, ids)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(base.to(device), save(model, folder))
    check(torch.equal(logits_of(loaded, ids), trained_logits), "a loaded adapter gives other logits")
    detail = merging(model, ids, trained_logits, precision)
    if model_name != "classifier":
        decoding(model, ids, compare=precision == "no")
    return {"detail": detail, "dev_loss": result.dev_loss}


def some_examples(count: int, seed: int = 7, length: int = 10) -> list[Any]:
    """Token ids of a tiny model; the first three are context."""
    from replication.examples import Encoded
    from replication.testing.laws import some_ids

    return [Encoded(row, [0] * 3 + [1] * (length - 3)) for row in some_ids(count, length, seed).tolist()]


def logits_of(model: Any, ids: Any) -> Any:
    """Without gradients."""
    import torch

    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def merging(model: Any, ids: Any, before: Any, precision: str) -> str:
    """Merge and unmerge; the methods of NOT_MERGED must refuse."""
    import torch

    from replication.errors import AdapterError
    from replication.methods import attached_config, merge, unmerge

    config: Any = attached_config(model)
    try:
        merge(model)
    except AdapterError as error:
        check(config.method in NOT_MERGED, f"merge refused: {error}")
        return "merge refused, as it should"
    check(config.method not in NOT_MERGED, f"{config.method} was merged")
    merged = logits_of(model, ids).float()
    tolerance = 0.15 if precision == "bf16_weights" else 1e-3
    difference = (merged - before.float()).abs().max().item()
    check(
        difference <= tolerance * max(1.0, before.float().abs().max().item()), f"merged logits are {difference:.3g} off"
    )
    unmerge(model)
    check(torch.equal(logits_of(model, ids), before), "unmerging does not give the logits back")
    return ""


def decoding(model: Any, ids: Any, *, compare: bool) -> None:
    """Beam search with the recipe's n-gram ban, with and without a cache."""
    import torch
    from transformers import LogitsProcessorList

    from replication.training.decoding import NoRepeatGeneratedNgrams

    width = 1 if model.config.is_encoder_decoder else ids.shape[1]
    texts = [
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), num_beams=4, do_sample=False, max_new_tokens=8,
            pad_token_id=1, use_cache=cached, logits_processor=LogitsProcessorList([NoRepeatGeneratedNgrams(2, width)]),
        )
        for cached in (True, False)
    ]  # fmt: skip
    check(all(len(text) == len(ids) and text.shape[1] > width for text in texts), "nothing was generated")
    check(not compare or torch.equal(*texts), "decoding with a cache gives another text")


def scaled_training(method_name: str, device: str) -> dict[str, Any]:
    """float16 weights and torch.amp.GradScaler: finite float32 gradients, and every trained tensor moves."""
    import torch

    from replication.methods import attach, trainable_parameters

    model = attach(tiny_model("llama").to(torch.float16), method_named(method_name)).to(device)
    trained = trainable_parameters(model)
    start = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-4)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    for example in some_examples(10):
        ids = torch.tensor([example.input_ids], device=device)
        scaler.scale(model(input_ids=ids, labels=ids).loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    still = [name for name, p in trained.items() if torch.equal(p, start[name]) or not bool(p.isfinite().all())]
    check(not still, f"did not move, or is not finite: {still[:3]}")
    return {}


# --- losses ------------------------------------------------------------


def loss_cases(device: str, tiny: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """Backbone x method x precision."""
    methods = {"full": {}, "lora": {"rank": 4}, "weight_lora": {"rank": 4, "keep": 2},
               "solo_connection": {"rank": 8, "skip_length": 1}}  # fmt: skip
    backbones = ("microworld-gpt2",) if tiny else tuple(f"microworld-{n}" for n in ("gpt2", "llama", "bart", "deberta"))
    return {
        f"{backbone}, {name}, {precision}": lambda b=backbone, n=name, s=settings, p=precision: same_losses(
            b, n, s, p, device
        )
        for backbone in backbones
        for name, settings in methods.items()
        if (backbone, name) != ("microworld-deberta", "solo_connection")  # an encoder has no decoder blocks
        for precision in PRECISIONS
    }


def same_losses(backbone: str, name: str, settings: dict[str, Any], precision: str, device: str) -> dict[str, Any]:
    """Five updates of the same model on the same batch, on the device and on the CPU."""
    import torch

    from replication.memory.workloads import Workload, training_step
    from replication.methods import method_config

    config = method_config(name, **(settings | ({"targets": QKV} if "lora" in name else {})))
    workload = Workload(backbone, config, 4, 24, precision=precision)
    found: dict[str, list[float]] = {}
    torch.manual_seed(0)
    state = {n: t.clone() for n, t in training_step(workload).model.state_dict().items()}
    for where in ("cpu", device):
        step = training_step(workload, where)
        step.model.load_state_dict(state)
        step.model.eval()  # no dropout
        batch = step.batch
        generator = torch.Generator().manual_seed(1)
        vocabulary = step.model.config.vocab_size  # type: ignore[union-attr]
        for key in ("input_ids", "decoder_input_ids"):
            if key in batch:
                drawn = torch.randint(5, vocabulary, batch[key].shape, generator=generator)
                batch[key] = drawn.to(batch[key])
        for group in step.optimizer.param_groups:
            group["lr"] = 1e-3 if config.trains_base else 1e-2
        losses = []
        for _ in range(5):
            loss = step.loss(step.model, batch)
            loss.backward()
            step.optimizer.step()
            step.optimizer.zero_grad()
            losses.append(loss.item())
        found[f"{where} losses"] = losses
    ours, theirs = found[f"{device} losses"], found["cpu losses"]
    worst = max(abs(one - other) / abs(other) for one, other in zip(ours, theirs, strict=True))
    check(worst <= SAME_LOSS[precision], f"relative difference {worst:.2e}, above {SAME_LOSS[precision]:g}")
    check(ours[-1] < ours[0], f"the loss does not fall: {ours}")
    return {"detail": f"largest relative difference {worst:.1e}", "largest_difference": worst, **found}


# --- memory ------------------------------------------------------------


def memory_cases(device: str, tiny: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """The papers' shapes; tiny: one small model of each precision."""
    lora_qkv: tuple[str, dict[str, Any]] = ("lora", {"rank": 8, "dropout": 0.05, "targets": QKV})
    solo: tuple[str, dict[str, Any]] = ("solo_connection", {"skip_length": 2})
    full: tuple[str, dict[str, Any]] = ("full", {})
    phase_2: tuple[str, dict[str, Any]] = ("weight_lora", {"rank": 8, "keep": 5})
    gpt2, deberta, bart, llama = (
        {"backbone": "gpt2-medium", "batch": 4, "length": 512},
        {"backbone": "deberta-v3-base", "batch": 32, "length": 128, "labels": 3},
        {"backbone": "bart-large", "batch": 8, "length": 256},
        {"backbone": "llama-3.1-8b", "batch": 2, "length": 256, "task": "sequence_classification"},
    )
    wanted: list[tuple[str, tuple[str, dict[str, Any]], dict[str, Any]]] = [
        ("LoRA", ("lora", {}), gpt2),
        ("LoRA", lora_qkv, deberta),
        ("LoRA", lora_qkv, bart),
        ("LoRA", lora_qkv, {**llama, "precision": "bf16_weights"}),
        ("Solo k=2", solo, gpt2),
        ("WeightLoRA, 5 left", phase_2, {**deberta, "adapters": 5}),
        ("full", full, gpt2),
        ("LoRA", ("lora", {}), {**gpt2, "precision": "bf16"}),
        ("Solo k=2", solo, bart),
    ]
    if tiny:
        small = {"backbone": "microworld-gpt2", "batch": 4, "length": 64}
        wanted = [("LoRA", ("lora", {}), {**small, "precision": precision}) for precision in PRECISIONS]
    return {
        f"{more['backbone']}, {label}, {more.get('precision', 'no')}": lambda m=method, s=settings, w=more: peak_memory(
            m, s, w, device
        )
        for label, (method, settings), more in wanted
    }


def peak_memory(method: str, settings: dict[str, Any], shape: dict[str, Any], device: str) -> dict[str, Any]:
    """Predicted and measured peak of one training step."""
    import torch

    from replication.memory.profiled import measured_peak
    from replication.memory.workloads import Workload, training_step
    from replication.methods import method_config

    workload = Workload(method=method_config(method, **settings), fused_dropout=device == "cuda", **shape)
    prediction, predicted_on = predict_on(workload, device)
    if device == "cuda":
        predicted, free = prediction.total, torch.cuda.mem_get_info()[0]
        if predicted * 1.15 > free:
            raise Skip(f"does not fit: predicted {gib(predicted)}, free {gib(free)}")
        measured = cuda_peak(lambda: training_step(workload, device))
    else:
        torch.manual_seed(0)
        predicted, measured = prediction.above_start, measured_peak(lambda: training_step(workload))
    ratio = predicted / measured
    figures: dict[str, Any] = {
        "predicted_bytes": predicted, "measured_bytes": measured, "ratio": round(ratio, 4), "predicted_on": predicted_on
    }  # fmt: skip
    figures["detail"] = f"predicted {gib(predicted)}, measured {gib(measured)}, ratio {ratio:.3f}"
    if abs(ratio - 1) > WITHIN:
        return {"status": "failed", **figures}
    return figures


def predict_on(workload: Any, device: str) -> tuple[Any, str]:
    """The prediction, and the device of its fake tensors: autocast has rules of its own on each; fp32 has not."""
    from replication.memory.workloads import predict

    if workload.precision != "no" and device != "cpu":
        try:
            return predict(workload, device), device
        except Exception as error:  # an operator without a fake kernel there
            say(f"predicted with the CPU's rules of autocast: {first_line(error)}")
    return predict(workload), "cpu"


def cuda_peak(build: Callable[[], Any]) -> int:
    """Peak bytes of the second of two steps, the model's and the optimizer's included."""
    import torch

    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    step = build()
    step.prepare()
    step.run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step.run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def gib(count: int) -> str:
    """In GiB, or MiB below one."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


# --- speed ------------------------------------------------------------

# All on the whole fused projection c_attn, where stock PEFT can put its LoRA too; Solo and full as they are.
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "stock PEFT LoRA": ("", {}),
    "LoRA": ("lora", {"targets": ["c_attn"], "rank": 4}),
    "WeightLoRA before selection": ("weight_lora", {"targets": ["c_attn"], "rank": 4, "keep": 2}),
    "WeightLoRA after selection": ("weight_lora", {"targets": ["c_attn"], "rank": 4, "keep": 2}),
    "Solo": ("solo_connection", {"skip_length": 2}),
    "full": ("full", {}),
}


def speed_cases(device: str, tiny: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """Each precision; within one, the methods take turns on one model."""
    shape = ("microworld-gpt2", 4, 32, 3, 1) if tiny else ("gpt2-medium", 8, 256, 4, 5)
    return {
        f"{shape[0]}, batch {shape[1]} x {shape[2]}, {precision}": lambda p=precision: step_times(*shape, p, device)
        for precision in PRECISIONS
    }


def step_times(
    backbone: str, batch: int, length: int, rounds: int, steps: int, precision: str, device: str
) -> dict[str, Any]:
    """Median seconds of a training step of each method, in turn, and the median ratio to stock PEFT's LoRA."""
    import torch

    from replication.backbones import build_fresh
    from replication.training.bfloat16 import narrow_weights

    torch.manual_seed(0)
    with torch.device(device):
        model = build_fresh(backbone)
        ids = torch.randint(0, model.config.vocab_size, (batch, length))
    if precision == "bf16_weights":
        narrow_weights(model)
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    for turn in range(rounds):
        for name in STEPS:
            with with_method(model, name) as active:
                taken = timed_steps(active, ids, steps, precision, device)
            if turn:  # the first turn warms up
                seconds[name].append(taken)
    stock = seconds["stock PEFT LoRA"]
    ratios = {name: statistics.median(a / b for a, b in zip(own, stock, strict=True)) for name, own in seconds.items()}
    medians = {name: round(statistics.median(own), 6) for name, own in seconds.items()}
    detail = ", ".join(f"{name} {ratios[name]:.2f}" for name in STEPS if name != "stock PEFT LoRA")
    return {
        "detail": f"stock PEFT {1000 * medians['stock PEFT LoRA']:.1f} ms; beside it: {detail}",
        "step_seconds": medians,
        "ratio_to_stock_peft": {name: round(value, 4) for name, value in ratios.items()},
    }


@contextmanager
def with_method(model: Any, name: str) -> Iterator[Any]:
    """The model with one method on it; taken off afterwards."""
    from replication.memory.workloads import keep_adapters
    from replication.methods import attach, detach, method_config

    if name == "stock PEFT LoRA":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=4, lora_alpha=32, lora_dropout=0.1, target_modules=["c_attn"], fan_in_fan_out=True)
        wrapped = get_peft_model(model, config)
        try:
            yield wrapped
        finally:
            wrapped.unload()
            model.__dict__.pop("peft_config", None)
        return
    method, settings = STEPS[name]
    if method == "solo_connection":
        settings = {**settings, "rank": min(120, model.config.n_embd)}
    attach(model, method_config(method, **settings))
    if name == "WeightLoRA after selection":
        keep_adapters(model, max(1, model.config.n_layer // 4), "bottom")  # backward still reaches the first block
    try:
        yield model
    finally:
        detach(model)


def timed_steps(model: Any, ids: Any, steps: int, precision: str, device: str) -> float:
    """Mean seconds of a step after one that warms up."""
    import torch

    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    mixed = torch.autocast(device, torch.bfloat16) if precision != "no" else nullcontext()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    began = 0.0
    for step in range(steps + 1):
        if step == 1:
            wait()
            began = time.perf_counter()
        with mixed:
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    wait()
    return (time.perf_counter() - began) / steps


# --- the table and the command ------------------------------------------------------------


def table(result: dict[str, Any]) -> str:
    """What the JSON says, for reading."""
    lines = [f"{result['device']}, torch {result['torch']}, {result['seconds']:.0f} s", ""]
    lines.append(f"{'part':<9}{'passed':>8}{'failed':>8}{'skipped':>9}{'not run':>9}{'seconds':>9}")
    for name in SHARES:
        part = result["parts"].get(name, {"rows": [], "not_run": ["all"], "seconds": 0.0})
        counts = [sum(row["status"] == status for row in part["rows"]) for status in ("passed", "failed", "skipped")]
        missing = "all" if part["not_run"] == ["all"] else len(part["not_run"])
        lines.append(f"{name:<9}{counts[0]:>8}{counts[1]:>8}{counts[2]:>9}{missing:>9}{part['seconds']:>9.1f}")
    for name in ("memory", "speed"):
        rows = result["parts"].get(name, {}).get("rows", [])
        lines += ["", *(f"{row['case']}: {row.get('detail', row['status'])}" for row in rows)]
    for name, part in result["parts"].items():
        lines += [f"FAILED {name}: {row['case']}: {row['detail']}" for row in part["rows"] if row["status"] == "failed"]
    if not result["complete"]:
        lines.append("PARTIAL: not every case has run; see `not_run` in the JSON")
    return "\n".join(lines)


def main(
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    tiny: Annotated[bool, typer.Option("--tiny", help="Small shapes only: under a minute on one CPU core.")] = False,
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("gpu-check.json"),
    minutes: Annotated[float, typer.Option(min=0.0, help="The whole time; the parts share it.")] = MINUTES,
) -> None:
    """Check this machine's GPU against what the paper profile needs."""
    if device not in ("cuda", "cpu"):
        raise typer.BadParameter(f"--device {device}: valid are cuda and cpu")
    if device == "cpu" and not tiny:
        raise typer.BadParameter("--device cpu needs --tiny: the papers' shapes take too long there")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks: the training loop takes a GPU where there is one
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    if device == "cuda" and not torch.cuda.is_available():
        say(
            f"no CUDA device: torch {torch.__version__} is built for {torch.version.cuda or 'CPUs only'} and sees no "
            "GPU; nothing was checked. To run the script itself: python benchmarks/gpu_check.py --device cpu --tiny"
        )
        raise typer.Exit(2)
    report = Report(output, minutes, described(device, tiny))
    with report.watched():
        for name, cases in (
            ("methods", method_cases), ("losses", loss_cases), ("memory", memory_cases), ("speed", speed_cases),
        ):  # fmt: skip
            report.run_part(name, cases(device, tiny))
    print(table(report.to_dict()))
    print(f"\n{output}")
    raise typer.Exit(report.status())


def described(device: str, tiny: bool) -> dict[str, Any]:
    """The machine and the libraries."""
    import peft
    import torch
    import transformers

    about: dict[str, Any] = {"device": platform.processor() or platform.machine(), "cuda": torch.version.cuda}
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        about |= {"device": card.name, "memory_bytes": card.total_memory, "capability": f"{card.major}.{card.minor}"}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    return {**about, "kind": device, "tiny": tiny, **versions}


if __name__ == "__main__":
    typer.run(main)
