"""The Trainer under every run: atomic checkpoints, exact resuming, costs, and no NaN in the weights."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import ClassVar, NoReturn

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer, TrainerState
from transformers.trainer import FSDP_MODEL_NAME, TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import TrainOutput

from eval.records.runs import Flops
from train.runs.arguments import RunArguments
from train.runs.checkpoints import RUN_STATE_FILE, STAGING, check_same_run, finish_checkpoint, give_up_checkpoint
from train.runs.distributed import rank, sum_over_processes, wait_for_all, world_size
from train.runs.flops import Spent
from train.runs.nonfinite import NonFiniteError
from train.runs.sharding import as_before_sharding, gather_weights, load_weights, refuse_launched


class RunTrainer(Trainer):
    """A Trainer whose run can be stopped at any moment and goes on exactly, and that knows what it cost.

    A subclass provides:

    - `samples_trained` and `flops`, to which its training step adds what this process spends;
    - `save_state` and `load_state`, if it has a state beside weights, optimiser and random numbers;
    - `_save` and `_load_from_checkpoint` together, if its model is no `PreTrainedModel` or is saved in part;
    - `nothing_left`, if a run may end before its last step;
    - `handle_nonfinite`, if there is something else to do about NaN than to stop;
    - a call of `check_loss` on its loss. The models' own losses are means over a batch: where a step has several
      batches of unequal weight, the subclass sees to it, and says so by `loss_is_scaled_for_ga`.

    A run: build the trainer, `resume(checkpoint)` if there is one (`train.runs.folder.checkpoint_to_resume`), then
    `train(resume_from_checkpoint=checkpoint)`; `spent()` goes into the record of the run.

    Args:
        corpus: fingerprint of what is trained on; must be equal in a run that is resumed.
        settings: what else must be equal (`train.runs.arguments.settings_of_the_result`), as JSON has it.
        started: when the run began, by `time.perf_counter`; default: now.
        kwargs: of `Trainer`.

    Attributes:
        samples_trained: pairs or films that this process has trained on; one that is seen again counts again.
        flops: floating-point operations of this process, "trained" and "scored"; None where they cannot be counted.
    """

    args: RunArguments
    #: Whether the run supports weights that are sharded (see `train.runs.sharding`).
    takes_sharding: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        args: RunArguments,
        corpus: str,
        settings: dict,
        started: float | None = None,
        **kwargs,
    ):
        super().__init__(model, args, **kwargs)
        refuse_launched(args, self.accelerator, self.takes_sharding)
        self._model_class = type(model)
        # The losses are means over a batch; Trainer must not take them for sums.
        self.model_accepts_loss_kwargs = False
        self.corpus = corpus
        self.settings = settings
        self.samples_trained = 0
        self.flops: dict[str, float] | None = {"trained": 0.0, "scored": 0.0}
        self._started = time.perf_counter() if started is None else started
        self._seconds_before = 0.0
        self._staging_checkpoint = False

    # What a subclass may have more of.

    def save_state(self, folder: Path) -> dict:
        """Write files of the trainer's own state into a checkpoint, and return what else is to be kept, as JSON has it.

        The saving process alone calls it: it must not wait for others.
        """
        return {}

    def load_state(self, folder: Path, state: dict) -> None:
        """Take over what `save_state` wrote and returned; all processes call it, samples and FLOP are there already."""

    def nothing_left(self) -> bool:
        """Whether the checkpoint that was resumed is of a run that is over."""
        return self.state.global_step >= self.state.max_steps > 0

    def handle_nonfinite(self, what: str) -> None:
        """Where a loss or gradient is NaN or infinite, on all processes alike: stop.

        Raises:
            NonFiniteError: always. A subclass may return instead: gradients are then set to zero; after a loss its
                training step has to leave the batch out itself.
        """
        raise NonFiniteError(
            f"{what}. Nothing was saved over the last checkpoint. Start a new run with a lower learning_rate, or with "
            "bf16 in place of fp16"
        )

    # Data.

    @property
    def data_seed(self) -> int:
        """What shuffles the data."""
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def loader_of(self, batch_sampler: Sampler[list[int]]) -> DataLoader:
        """The training data in batches of a sampler that shares them out among the processes itself.

        It is not prepared by accelerate, which would share them out again.
        """
        args = self.args
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=batch_sampler,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            persistent_workers=args.dataloader_persistent_workers,
        )
        if hasattr(batch_sampler, "set_epoch"):
            # Trainer tells its loader, which would not pass it on.
            loader.set_epoch = batch_sampler.set_epoch
        return loader

    # Costs.

    def seconds(self) -> float:
        """How long the run has taken, before and after resumptions."""
        return self._seconds_before + time.perf_counter() - self._started

    def spent(self) -> Spent:
        """What the run has cost; all processes must call it."""
        samples = int(sum_over_processes(torch.tensor(self.samples_trained)))
        flops = None
        if self.flops is not None:
            sums = {
                name: sum_over_processes(torch.tensor(value, dtype=torch.float64)) for name, value in self.flops.items()
            }
            flops = Flops(**sums)
        return Spent(samples, flops, self.seconds())

    def floating_point_ops(self, inputs) -> int:
        # Trainer's estimate counts pixels as tokens.
        return 0

    # NaN and infinity.

    def check_loss(self, loss: Tensor) -> None:
        """Call `handle_nonfinite` on all processes where the loss of one of them is NaN or infinite.

        All must stop or go on together, or those left would wait for ever.
        """
        if sum_over_processes(~torch.isfinite(loss.detach())) > 0:
            self.handle_nonfinite(f"step {self.state.global_step}: the loss is NaN or infinite")

    def _get_grad_norm(self, model, grad_norm=None):
        """The norm of all gradients, the same on all processes; a step with NaN or infinity is not taken.

        Trainer calls this before each step, after clipping, which may have made NaN of other gradients by then. In fp16
        infinite gradients are usual, and GradScaler leaves those steps out by itself.
        """
        norm = super()._get_grad_norm(model, grad_norm)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        if not self.args.fp16 and not torch.isfinite(norm):
            self.handle_nonfinite(f"step {self.state.global_step}: a gradient is NaN or infinite")
            model.zero_grad()
        return norm

    # Checkpoints.

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        """As Trainer does, without its pickle of the arguments, which has no place in a folder to be published."""
        with as_before_sharding(self.model, self._model_class):
            super()._save(output_dir, state_dict)
        if self.args.should_save:
            Path(output_dir or self.args.output_dir, TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def save_whole(self, folder: Path, weights: dict[str, Tensor] | None) -> None:
        """Save the model on this process alone, which may have left the others.

        Args:
            weights: of `gather_weights`, called while all were there.
        """
        self._save(str(folder), weights)

    def gather_weights(self) -> dict[str, Tensor] | None:
        """What `save_whole` needs; all processes must call it."""
        return gather_weights(self.model)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """As Trainer does, without the second copy of the weights that it adds, as a pickle, where they are sharded."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            Path(output_dir, f"{FSDP_MODEL_NAME}.bin").unlink(missing_ok=True)

    def _get_output_dir(self, trial) -> str:
        folder = Path(super()._get_output_dir(trial))
        return str(folder / STAGING if self._staging_checkpoint else folder)

    def _save_checkpoint(self, model, trial) -> None:
        """As Trainer does, with the state of the run, atomically (see `train.runs.checkpoints`).

        Raises:
            OSError: there is no room; the checkpoint before is as it was.
        """
        run_dir = Path(self._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        state = self.run_state()
        if self.args.should_save:
            shutil.rmtree(run_dir / STAGING, ignore_errors=True)
        wait_for_all()
        self._staging_checkpoint = True
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError, RuntimeError) as error:
            # What safetensors and torch raise where a file cannot be written; RuntimeError may be anything else.
            if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
                raise
            self._give_up_saving(run_dir, name, error)
        finally:
            self._staging_checkpoint = False
        wait_for_all()
        if self.args.should_save:
            staged = run_dir / STAGING / name
            try:
                state["own"] = self.save_state(staged)
                (staged / RUN_STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
                finish_checkpoint(run_dir, name, self.args.save_total_limit)
            except (OSError, SafetensorError) as error:
                self._give_up_saving(run_dir, name, error)
        wait_for_all()

    def _give_up_saving(self, run_dir: Path, name: str, error: Exception) -> NoReturn:
        if self.args.should_save:
            shutil.rmtree(run_dir / STAGING, ignore_errors=True)
        give_up_checkpoint(run_dir, name, error)

    # Going on.

    def run_state(self) -> dict:
        """What a checkpoint says of the run it belongs to; all processes must call it."""
        spent = self.spent()
        return {
            "corpus": self.corpus,
            "processes": world_size(),
            "settings": self.settings,
            "seconds": spent.seconds,
            "samples_trained": spent.samples,
            "flops": None if spent.flops is None else {"trained": spent.flops.trained, "scored": spent.flops.scored},
        }

    def resume(self, checkpoint: Path) -> None:
        """Take over the counters and the state of a checkpoint; all processes call it, before `train`.

        Raises:
            ValueError: it belongs to another run: other data, processes or settings (named).
        """
        state = json.loads((checkpoint / RUN_STATE_FILE).read_text())
        check_same_run(checkpoint, state, json.loads(json.dumps(self.run_state())))
        self._seconds_before = state["seconds"]
        # These are sums over all processes, so rank 0 alone takes them over.
        if rank() == 0:
            self.samples_trained = state["samples_trained"]
        if self.flops is not None:
            # In place: the object that counts may hold the same dict. Whatever was counted before is in the sums.
            self.flops.update(state["flops"] if rank() == 0 else dict.fromkeys(self.flops, 0.0))
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        self.load_state(checkpoint, state["own"])

    def train(self, resume_from_checkpoint=None, **kwargs) -> TrainOutput:
        """As Trainer does; a checkpoint with nothing left to do is loaded, and Trainer would train one more step."""
        if resume_from_checkpoint is None or not self.nothing_left():
            return super().train(resume_from_checkpoint, **kwargs)
        self._load_from_checkpoint(resume_from_checkpoint)
        return TrainOutput(self.state.global_step, math.nan, {})

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        """Every tensor, or an error. Trainer's own way passes over those that transformers renames when saving."""
        stored, report = self._model_class.from_pretrained(
            resume_from_checkpoint, config=self.model.config, dtype=self.model.dtype, output_loading_info=True
        )
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise ValueError(f"{resume_from_checkpoint} lacks tensors of the model: {missing[:5]} of {len(missing)}")
        load_weights(self.model, stored.state_dict())
