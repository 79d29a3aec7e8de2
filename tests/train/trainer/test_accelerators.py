"""Training steps on a stand-in for an accelerator: the host waits for nothing, and every tensor is on the device."""

import itertools
import re

import pytest
import torch
from accelerate import PartialState
from datasets import Dataset
from safetensors.torch import load_file
from torch.optim import adam
from torch.utils.data import IterableDataset
from transformers import TrainerCallback, TrainingArguments

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, causal_lm
from tests.stand_in_device import DeviceTensor, StandInDevice
from train.callbacks import throughput
from train.data.sequences.packing import collate_sequences
from train.settings.recipe import parse_recipe
from train.trainer.pretraining import PretrainingTrainer
from train.trainer.streaming import StreamingTrainer


STEPS = 4  # the last of them is logged, after it was looked at: there the host may wait


class Event:
    """In place of `torch.Event`: the stand-in computes at once."""

    def __init__(self, device: str):
        assert device == "meta"

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Stream(IterableDataset):
    """In place of `MixedStreams`: one that repeats the same sequences."""

    parts, places = [None], {}

    def __init__(self, sequences: Dataset):
        self.sequences = sequences

    def __iter__(self):
        notes = {"stream": 0, "place": None, "dataset": 0, "statistics": None}
        return ({"input_ids": row["input_ids"], **notes} for row in itertools.cycle(self.sequences))


class Waits(TrainerCallback):
    def __init__(self, device: StandInDevice):
        self.device = device
        self.of_steps: list[list[str]] = []

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == 0:
            self.device.waits.clear()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.of_steps.append(list(self.device.waits))
        self.device.waits.clear()


@pytest.fixture
def train(tiny_recipe, accelerator, monkeypatch):
    """Train on the stand-in; returns where the host waited, for each step."""
    device = torch.device("meta")
    monkeypatch.setattr(PartialState, "default_device", device)
    monkeypatch.setattr(TrainingArguments, "device", property(lambda args: args._setup_devices and device))
    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda parameter: None)
    # A parameter there is not of the very class.
    monkeypatch.setattr(causal_lm, "can_skip_logits", lambda head, loss_function: True)
    monkeypatch.setattr(throughput, "peak_memory_bytes", lambda device: 0)
    monkeypatch.setattr(throughput, "measured_peak_flops", lambda *arguments, **kwargs: 1e12)

    def train(*words, trainer_class=PretrainingTrainer, stream=False):
        settings = {
            "max_steps": STEPS,
            "logging_steps": STEPS,
            "logging_first_step": "false",
            "save_strategy": "no",
            "eval_strategy": "no",
            "report_to": "none",
            "dataloader_pin_memory": "true",
        }
        given = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        with monkeypatch.context() as context:
            context.setattr(torch.accelerator, "is_available", lambda: True)
            recipe = parse_recipe(["--config", str(tiny_recipe), *given, *words])
        ids = torch.randint(300, (48, 32), generator=torch.Generator().manual_seed(0))
        sequences = Dataset.from_dict({"input_ids": ids.tolist()}).with_format("numpy")
        sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 32}
        config = GPT2ScratchConfig(vocab_size=300, bos_token_id=0, eos_token_id=0, **sizes)
        with torch.device("meta"):
            model = GPT2ScratchForCausalLM(config)
        assert isinstance(model.lm_head.weight, DeviceTensor)
        waits = Waits(accelerator)
        trainer = trainer_class(
            model=model,
            args=recipe.training,
            train_dataset=Stream(sequences) if stream else sequences,
            eval_dataset=sequences,
            data_collator=collate_sequences,
            sequence_tokens=32,
            data_name="test",
            callbacks=[waits],
            **recipe.trainer_values(),
        )
        trainer.train()
        return waits.of_steps

    return train


class Scaling(PretrainingTrainer):
    """In fp16, which accelerate refuses for a device of this name."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dtypes: set[torch.dtype] = set()  # of the matrix products in the blocks
        self.model.transformer.blocks[0].attention.q_proj.register_forward_hook(
            lambda layer, inputs, output: self.dtypes.add(output.dtype)
        )
        self.args.fp16 = self.accelerator.native_amp = True
        self.accelerator.state._mixed_precision = "fp16"
        self.accelerator.scaler = torch.amp.GradScaler("meta")

    def train(self, *args, **kwargs):
        super().train(*args, **kwargs)
        assert self.dtypes == {torch.float16}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ((), {}),
        (("--optim_name", "muon", "--gradient_accumulation_steps", "2"), {}),
        (("--label_smoothing_factor", "0.1"), {}),
        (("--gradient_accumulation_steps", "2"), {"trainer_class": StreamingTrainer, "stream": True}),
        ((), {"trainer_class": Scaling}),
    ],
    ids=["plain", "muon", "smoothing", "streamed", "fp16"],
)
def test_no_training_step_waits(train, words, kind):
    """Model, loss, clipping, optimizer, guard and callbacks; that of the second step settles the first, and so on."""
    assert train(*words, **kind) == [[]] * STEPS


@pytest.mark.parametrize(
    ("words", "callers"),
    [
        (("--logging_steps", "1"), ["trainer.py"] * 2),  # the loss and the gradient's norm
        (("--eval_strategy", "steps", "--eval_steps", "1"), ["trainer_pt_utils.py", "evaluating.py"]),
        (("--optim_name", "muon"), ["optimizer.py"]),  # torch's own loss scaling, under any optimizer but a fused one
    ],
    ids=["log", "evaluation", "muon-fp16"],
)
def test_where_a_step_waits(train, words, callers):
    """A log line and an evaluation of a dozen batches, noted in the step after them; fp16 without a fused optimizer."""
    waits = train(*words, "--per_device_eval_batch_size", "4", trainer_class=Scaling)[1]
    assert [re.search(r"([^/]+):\d+", wait)[1] for wait in waits] == callers


class Noting(PretrainingTrainer):
    noted: dict[str, list[torch.Tensor]] = {}
    names: list[str] = []

    def save_more(self, unfinished):
        states = self.optimizer.state_dict()["state"]
        type(self).names = list(self.model.state_dict())
        tensors = [*self.model.state_dict().values(), *(state["exp_avg"] for state in states.values())]
        self.noted[unfinished.name] = [tensor.on_cpu.clone() for tensor in tensors]
        super().save_more(unfinished)


def test_a_save_in_the_background_waits_for_nothing(train, tmp_path):
    words = ("--save_strategy", "steps", "--save_steps", "2", "--async_save", "true", "--max_steps", "3")
    assert train(*words, trainer_class=Noting)[:3] == [[]] * 3
    checkpoint = tmp_path / "run" / "checkpoint-2"
    weights = load_file(checkpoint / "model.safetensors")
    weights["lm_head.weight"] = weights["transformer.token_embedding.weight"]
    states = torch.load(checkpoint / "optimizer.pt")["state"]
    found = [*(weights[name] for name in Noting.names), *(state["exp_avg"] for state in states.values())]
    assert all(torch.equal(one, other) for one, other in zip(found, Noting.noted["checkpoint-2"], strict=True))


class Reading(PretrainingTrainer):
    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        assert loss.item() > 0
        return loss


class Choosing(PretrainingTrainer):
    def compute_loss(self, model, inputs, *args, **kwargs):
        ids = inputs["input_ids"]
        assert len(ids[ids > 0]) > 0
        return super().compute_loss(model, inputs, *args, **kwargs)


class OnTheWrongDevice(PretrainingTrainer):
    def training_step(self, *args, **kwargs):
        return super().training_step(*args, **kwargs) + torch.zeros(1)


@pytest.mark.parametrize(("trainer_class", "operator"), [(Reading, "_local_scalar_dense"), (Choosing, "index.Tensor")])
def test_a_step_that_waits_is_found(train, trainer_class, operator):
    for waits in train(trainer_class=trainer_class):
        (wait,) = waits
        assert operator in wait and "test_accelerators.py" in wait


def test_a_tensor_on_the_wrong_device_is_found(train):
    with pytest.raises(RuntimeError, match="tensors of the CPU"):
        train(trainer_class=OnTheWrongDevice)
