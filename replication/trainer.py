"""The methods' selection in transformers.Trainer: `SelectionCallback`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from replication.errors import CheckpointError
from replication.selecting import Selection

_STATE_FILE = "trainer_state.json"


class SelectionCallback(TrainerCallback, ExportableState):
    """`Trainer(model, ..., callbacks=[SelectionCallback()])` trains WeightLoRA, WeightLoRA+, AdaLoRA as `train` does.

    Steps, schedule, clipping, accumulation, precision and optimizer are the Trainer's; the rest is `Selection`. Its
    state is in the Trainer's checkpoints: `trainer.train(resume_from_checkpoint=...)` on a freshly attached model
    continues. Methods that select nothing are not affected.
    """

    selection: Selection | None = None
    saved: dict[str, Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Follow the Trainer's optimizer. ConfigError where the method does not fit the number of steps;
        CheckpointError for a checkpoint that was written without this callback.
        """
        self.close()
        warmup = args.get_warmup_steps(state.max_steps)
        self.selection = Selection(kwargs["model"], kwargs["optimizer"], state.max_steps, warmup_steps=warmup)
        if state.global_step:
            self._load(state, "the checkpoint to resume from")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The penalty's gradient, to which those of the update's batches are added."""
        assert self.selection is not None
        scaler = getattr(kwargs["optimizer"], "scaler", None)
        self.selection.add_penalty_gradient(1.0 if scaler is None else scaler.get_scale())

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Where the Trainer has loaded the best checkpoint, go back to its selection."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            best = Path(state.best_model_checkpoint)
            self._load(TrainerState.load_from_json(str(best / _STATE_FILE)), str(best))
        self.close()

    def state(self) -> dict[str, Any]:
        """For the Trainer's checkpoints."""
        return {"args": {}, "attributes": {"saved": self.selection.state_dict() if self.selection else None}}

    def summary(self) -> dict[str, Any] | None:
        """The choices of the last training (JSON values); None: the method makes none."""
        return self.selection.summary() if self.selection else None

    def close(self) -> None:
        """Stop following the optimizer."""
        if self.selection is not None:
            self.selection.close()

    def _load(self, state: TrainerState, where: str) -> None:
        states: Any = state.stateful_callbacks or {}
        saved = states.get(type(self).__name__, {}).get("attributes", {}).get("saved")
        if saved is None:
            raise CheckpointError(
                f"{where} holds no state of {type(self).__name__}: it was written without this callback, so start anew"
            )
        assert self.selection is not None
        self.selection.load_state_dict(saved)
