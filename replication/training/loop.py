"""The one training loop, to be read from top to bottom: `train`.

Recipe: AdamW, linear warm-up and linear decay, label smoothing on the completion's tokens (Hu et al. 2021,
microsoft/LoRA, examples/NLG). Details that decide what comes out:

1. The rate of the first update is 0 when there is a warm-up, as in `get_linear_schedule_with_warmup`; the
   last update has a rate just above 0.
2. Every trained parameter decays, biases and vectors too.
3. Each epoch is a permutation that depends only on (seed, epoch); its last, incomplete batch is dropped. With
   `batching="bucketed"` batches hold examples of similar length and every example comes once an epoch (examples.py).
4. The model is in training mode, so the backbone's dropout acts in addition to the adapter's, even where the
   backbone is frozen (GPT-2: 0.1 on attention, residuals and embeddings); with `prefix_cache` not in the blocks before
   the first trained one (prefix_cache.py).
5. Gradients are sums over tokens, divided once by the tokens of the whole accumulated batch: accumulation in
   2 x 4 equals one batch of 8.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import nn

from replication.errors import Stopped, TrainingError
from replication.examples import collate, fingerprint, indices_of_step
from replication.records import peak_memory
from replication.training.callbacks import Callback, Row, Run
from replication.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    model_fingerprint,
    pack_tensors,
    save_checkpoint,
    unpack_tensors,
)
from replication.training.checks import check_before_training, unusable_batch
from replication.training.config import TrainingConfig, learning_rate_at
from replication.training.determinism import (
    capture_random_states,
    deterministic_algorithms,
    restore_random_states,
    seed_everything,
)
from replication.training.losses import (
    CollateFunction,
    LossFunction,
    evaluate_loss,
    sum_over_processes,
    to_device,
    token_loss,
)
from replication.training.parallel import Parallel, gathered, shards
from replication.training.prefix_cache import frozen_prefix
from replication.training.progress import progress_bar
from replication.training.tracking import Track, tracked


@dataclass(frozen=True)
class TrainingResult:
    """What a run returns, apart from the trained model.

    `final_loss` is the training loss of the last row of `curves`: the mean over the target tokens since the
    row before (None when nothing was trained). `tokens_seen` counts tokens without padding, contexts
    included. The process's peak memory never falls, so several runs in one process share it. `frozen_blocks`: how many
    blocks the prefix cache left out in the end (None: it was off).
    """

    steps: int
    tokens_seen: int
    final_loss: float | None
    dev_loss: float | None
    curves: list[Row]
    update_seconds: float
    peak_memory_bytes: int
    peak_cuda_memory_bytes: int | None
    resumed_from: int = 0
    frozen_blocks: int | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Of forward, backward and update together; evaluations and checkpoints are left out."""
        return self.tokens_seen / self.update_seconds if self.update_seconds else None


def train(
    model: nn.Module,
    train_examples: Sequence[Any],
    dev_examples: Sequence[Any],
    config: TrainingConfig,
    *,
    seed: int,
    pad_id: int,
    checkpoint_directory: str | Path | None = None,
    identity: Mapping[str, Any] | None = None,
    report_state: Callable[[nn.Module], Mapping[str, float]] | None = None,
    loss_function: LossFunction | None = None,
    collate_function: CollateFunction = collate,
    callback: Callback | None = None,
    progress: str | None = None,
    track: Track | None = None,
    stop: Callable[[], int] | None = None,
) -> TrainingResult:
    """Train, in place, the parameters that require gradients; the model is left in evaluation mode, and sharded where
    `accelerate launch` asked for FSDP2 (replication/training/parallel.py).

    With a `checkpoint_directory` a run that was killed continues from its last checkpoint and ends with the
    same bits (on a CPU, under the same conditions); the folder belongs to this run only and is the
    caller's to remove (`discard_checkpoints`). `identity` adds what the caller knows (method, backbone,
    corpus) to what a checkpoint is compared by: settings, seed, both sets of examples, the model's frozen
    part, torch, device and threads.

    Where nothing requires gradients, the result has 0 steps and the dev loss. `report_state(model)` adds
    columns to the curves, which `track` shows elsewhere as they grow; `progress` names the bar (None: silent).
    Examples are dataclasses with a length. `loss_function(model, batch)` returns a summed loss and its weight and
    then serves for the dev set too; the default is `token_loss`, smoothed only on the training set. `stop()` is asked
    after each step: a signal's number instead of 0 has a checkpoint written and raises Stopped.

    Raises ConfigError, DataError or CheckpointError before any work, and TrainingError if a loss or a
    gradient is not finite, leaving the last checkpoint as it is.
    """
    # bfloat16 is set around the loss, not through Accelerate, whose wrapper would stay on the caller's model.
    accelerator = Accelerator(
        mixed_precision="no", kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]
    )
    device, rank, processes = accelerator.device, accelerator.process_index, accelerator.num_processes
    precision = torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision != "no")
    train_loss = precision(loss_function or partial(token_loss, label_smoothing=config.label_smoothing))
    window = config.batch_size * config.accumulation_steps
    callback = callback or Callback()
    lengths = tuple(map(len, train_examples))
    trained_names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    check_before_training(model, train_examples, dev_examples, config, processes, trains=bool(trained_names))

    def measure(step: int, loss: float | None, rate: float, *, dev: bool) -> Row:
        dev_loss = None
        if dev and dev_examples:
            dev_loss = evaluate_loss(
                model,
                dev_examples,
                batch_size=config.batch_size,
                pad_id=pad_id,
                loss_function=precision(loss_function or token_loss),
                collate_function=collate_function,
                accelerator=accelerator,
            )
            if not math.isfinite(dev_loss):
                raise TrainingError(f"step {step}: the dev loss is {dev_loss}; lower learning_rate")
        with torch.no_grad():
            columns = report_state(model) if report_state else {}
        return {"step": step, "loss": loss, "dev_loss": dev_loss, "learning_rate": rate, **columns}

    seed_everything(seed + rank)
    with deterministic_algorithms(config.threads, enabled=config.deterministic):
        if not (trained_names and shards(accelerator)):
            model.to(device)
        if not trained_names:
            only = measure(0, None, 0.0, dev=True)
            return TrainingResult(0, 0, None, only["dev_loss"], [only], 0.0, *peak_memory())

        saved = cached = None
        if checkpoint_directory is not None:
            cached = Path(checkpoint_directory) / f"prefix-{rank}"
            identity = _identity(model, train_examples, dev_examples, config, seed, accelerator, identity)
            saved = load_checkpoint(checkpoint_directory, identity)
        if saved:
            callback.load_state(saved.state["callback"])
        callback.on_start(model)

        with (
            _training_mode(model, config),
            frozen_prefix(model, config.prefix_cache, cached) as prefix,
            progress_bar(progress, config.steps, completed=saved.step if saved else 0) as advance,
            tracked(track if rank == 0 else None, start=saved.step if saved else None) as log,
        ):
            parallel = Parallel(accelerator, model, trained_names, config.compile)
            # keep no references to the parameters: a callback may remove some from the model
            optimizer = callback.build_optimizer({n: p for n, p in model.named_parameters() if p.requires_grad}, config)
            optimizer = accelerator.prepare_optimizer(optimizer)
            run = Run(model, optimizer)
            if saved:
                counters = {name: saved.state[name] for name in run.counters() if name in saved.state}
                run = Run(model, optimizer, saved.step, **counters)
                unpack_tensors(model, optimizer, saved.tensors)
                if len(saved.state["random"]) == processes:
                    restore_random_states(saved.state["random"][rank])
                else:  # another number of processes: dropout draws anew
                    seed_everything((seed + rank + 1_000_003 * saved.step) % 2**32)
            else:
                run.curves.append(log(measure(0, None, 0.0, dev=True)))

            for step in range(run.step + 1, config.steps + 1):
                started = time.perf_counter()
                rate = learning_rate_at(step, config)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get("rate_factor", 1.0)

                # forward and backward, one micro-batch after the other
                loss = weight = tokens = 0.0
                chosen = indices_of_step(step, lengths, window, seed, config.batching)
                for start in range(0, len(chosen), config.batch_size):
                    share = chosen[start : start + config.batch_size][rank::processes]
                    mine = share or chosen[:1]  # a process without an example still takes part, with weight 0
                    batch = collate_function([train_examples[i] for i in mine], pad_id)
                    batch = to_device(batch, device, pin=config.pin_memory)
                    with parallel.micro_batch(last=start + config.batch_size >= len(chosen)):
                        batch_loss, batch_weight = train_loss(parallel.forward, batch)
                        if not share:
                            batch_loss, batch_weight = batch_loss * 0.0, batch_weight * 0
                        if not math.isfinite(value := batch_loss.item()):
                            raise unusable_batch(step, "loss", value, mine, train_examples)
                        penalty = callback.penalty(model)
                        accelerator.backward(batch_loss if penalty is None else batch_loss + penalty * batch_weight)
                    loss += value
                    weight += float(batch_weight)
                    tokens += float(batch["attention_mask"].sum()) if share else 0.0
                loss, weight, tokens = sum_over_processes(accelerator, loss, weight, tokens)

                # one update
                if not weight:
                    raise unusable_batch(step, "number of target tokens", 0, chosen, train_examples)
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                parallel.average_gradients(parameters)
                gradients = [p.grad for p in parameters if p.grad is not None]
                for gradient in gradients:
                    gradient.mul_(processes / weight)  # data parallelism gave the mean over processes
                norm = gathered(torch.nn.utils.get_total_norm(gradients))
                if not torch.isfinite(norm):
                    raise unusable_batch(step, "gradient norm", norm.item(), chosen, train_examples)
                if config.max_grad_norm is not None:
                    torch.nn.utils.clip_grads_with_norm_(parameters, config.max_grad_norm, norm)
                optimizer.step()
                del parameters, gradients, gradient
                run.step = step
                callback.on_update(run)
                optimizer.zero_grad()

                # what is known after it
                run.tokens_seen += int(tokens)
                run.loss_sum += loss
                run.loss_weight += weight
                run.update_seconds += time.perf_counter() - started
                callback.on_step_end(run)
                parallel.follow()
                evaluates = _due(step, config.eval_every, config)
                if evaluates or _due(step, config.log_every, config):
                    run.curves.append(log(measure(step, run.loss_sum / run.loss_weight, rate, dev=evaluates)))
                    run.loss_sum = run.loss_weight = 0.0
                run.frozen_blocks = prefix.blocks if prefix else None
                signalled = stop() if stop and step < config.steps else 0
                if checkpoint_directory is not None and (signalled or _due(step, config.checkpoint_every, config)):
                    _save(checkpoint_directory, identity or {}, run, trained_names, callback, accelerator)
                if signalled:
                    raise Stopped(signalled, f"checkpoint of step {step} written" if checkpoint_directory else "")
                advance(1, loss=loss / weight, tokens_per_second=round(run.tokens_seen / run.update_seconds))

    final = run.curves[-1]
    resident, cuda = peak_memory()
    return TrainingResult(
        steps=run.step,
        tokens_seen=run.tokens_seen,
        final_loss=final["loss"],
        dev_loss=final["dev_loss"],
        curves=run.curves,
        update_seconds=run.update_seconds,
        peak_memory_bytes=resident,
        peak_cuda_memory_bytes=cuda,
        resumed_from=saved.step if saved else 0,
        frozen_blocks=run.frozen_blocks,
    )


def _save(
    directory: str | Path,
    identity: Mapping[str, Any],
    run: Run,
    trained_names: Sequence[str],
    callback: Callback,
    accelerator: Accelerator,
) -> None:
    randoms = gather_object([capture_random_states()])
    # what a callback froze on the way is saved too: its value is no longer the one it started with
    names = [n for n, p in run.model.named_parameters() if n in trained_names or p.requires_grad]
    tensors = pack_tensors(run.model, run.optimizer, names, keep=accelerator.is_main_process)
    if accelerator.is_main_process:
        state = {**run.counters(), "random": randoms, "callback": callback.state()}
        save_checkpoint(directory, identity, Checkpoint(run.step, tensors, state))
    accelerator.wait_for_everyone()


def _due(step: int, every: int | None, config: TrainingConfig) -> bool:
    return step == config.steps or (every is not None and step % every == 0)


@contextmanager
def _training_mode(model: Any, config: TrainingConfig) -> Iterator[None]:
    """Training mode, with gradient checkpointing if asked for; evaluation mode afterwards."""
    switches = config.gradient_checkpointing and not model.is_activation_checkpointing
    if switches:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    try:
        yield
    finally:
        if switches:
            model.activation_checkpointing_disable()
            model.disable_input_require_grads()  # a hook on the embeddings that enabling has put there
        model.__dict__.pop("_is_accelerate_prepared", None)
        model.eval()


def _identity(
    model: nn.Module,
    train_examples: Sequence[Any],
    dev_examples: Sequence[Any],
    config: TrainingConfig,
    seed: int,
    accelerator: Accelerator,
    given: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Everything that must match before a checkpoint is used, from the caller and from the loop."""
    return {
        **(given or {}),
        "training": {name: value for name, value in config.to_dict().items() if name != "checkpoint_every"},
        "seed": seed,
        "train_examples": fingerprint(train_examples),
        "dev_examples": fingerprint(dev_examples),
        "model": model_fingerprint(model),
        "torch": torch.__version__,
        "device": accelerator.device.type,
        "threads": torch.get_num_threads(),
    }
