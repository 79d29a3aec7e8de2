"""One side of a case, in a process of its own: builds its model and works when it is its turn.

Started by `train.benchmark.duel` as `python -m train.benchmark.contender SIDE CASE`; a line on its standard input
begins a turn, and lines that start with `ANSWER` on its standard output are what it has to say.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from modeling_gpt2scratch import TOKENIZER_FOLDER, GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.benchmark.cases import Case, ModelSize
from train.callbacks.flops import flops_per_token, wait_for
from train.callbacks.peak_memory import peak_memory_bytes
from train.data.files.shard_reading import ROWS_PER_BATCH
from train.data.files.sources import SAMPLE_FOLDER, find_source
from train.data.rows.reading import rows_of
from train.data.rows.row_filter import RowFilter
from train.data.rows.synth import reason_to_drop, row_to_text
from train.data.sequences.packing import collate_sequences
from train.data.sequences.preparation import Preparation, SequenceSettings
from train.data.sequences.prepare import prepare_data
from train.hardware import available_cores, set_up_hardware, set_up_model
from train.settings.recipe import parse_recipe
from train.trainer.pretraining import PretrainingTrainer


ANSWER = "benchmark answer: "
QUERIES_IN_A_ROW = 110  # which makes the rows as long as those of SYNTH, about 940 tokens


class Turns:
    """The times when this side may work, given by the parent; only the main process of a side asks."""

    def __init__(self, device: torch.device):
        self.device = device
        self.speaks = os.environ.get("RANK", "0") == "0"
        self._start = 0.0

    def begin(self) -> None:
        if self.speaks:
            sys.stdin.readline()
        self._start = time.perf_counter()

    def end(self) -> None:
        wait_for(self.device)
        self.answer({"seconds": time.perf_counter() - self._start})

    def answer(self, facts: dict) -> None:
        if self.speaks:
            print(ANSWER + json.dumps(facts), flush=True)


class TakeTurns(TrainerCallback):
    """Cuts training into turns at the beginnings of steps, so that logging and fetching data are inside."""

    def __init__(self, turns: Turns, steps_per_turn: int):
        self.turns = turns
        self.steps_per_turn = steps_per_turn

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step % self.steps_per_turn == 0:
            if state.global_step:
                self.turns.end()
            self.turns.begin()

    def on_train_end(self, args, state, control, **kwargs):
        self.turns.end()


def training_settings(case: Case, folder: str) -> dict:
    """What both sides give to `TrainingArguments`."""
    return {
        "output_dir": folder,
        "max_steps": case.turns * case.steps_per_turn,
        "per_device_train_batch_size": case.batch,
        "per_device_eval_batch_size": case.batch,
        "learning_rate": 3e-4,
        "max_grad_norm": 1.0,
        "logging_steps": 1 if case.steps_per_turn == 1 else 10,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "bf16": case.bf16,
        "torch_compile": case.compiled,
        "prediction_loss_only": True,  # stock would keep the logits of the whole evaluation
        "use_cpu": not torch.accelerator.is_available(),
        "dataloader_pin_memory": torch.accelerator.is_available(),
    }


def build_ours(case: Case, blocks: Dataset, folder: str) -> Trainer:
    """Our model under our Trainer, as `train/pretrain.py` sets them up."""
    dropouts = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), case.dropout)
    recipe_file = Path(folder, "benchmark.yaml")
    settings = {
        **training_settings(case, folder),
        **dropouts,
        "sequence_length": case.length,
        "n_positions": case.length,
    }
    recipe_file.write_text(json.dumps(settings))
    recipe = parse_recipe(["--config", str(recipe_file)])
    training = recipe.training
    set_up_hardware(training.device, training.world_size, recipe.run.cpu_threads, recipe.tokens_per_step)
    config = GPT2ScratchConfig(**sizes(case.model), **dropouts, n_positions=positions(case))
    model = GPT2ScratchForCausalLM._from_config(config, attn_implementation=case.attention)
    set_up_model(model, training.device, case.compiled)
    return PretrainingTrainer(
        model=model,
        args=recipe.training,
        train_dataset=blocks,
        eval_dataset=blocks.select(range(case.batch * recipe.training.world_size)),
        data_collator=collate_sequences,
        sequence_tokens=case.length,
        data_name="benchmark",
        **recipe.trainer_values(),
    )


def build_stock(case: Case, blocks: Dataset, folder: str) -> Trainer:
    """transformers' GPT-2 under transformers' Trainer, as its users set them up."""
    dropouts = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), case.dropout)
    config = GPT2Config(**sizes(case.model), **dropouts, n_positions=positions(case))
    rows = blocks.map(lambda batch: {"labels": batch["input_ids"]}, batched=True).with_format("torch")
    arguments = TrainingArguments(**training_settings(case, folder))
    return Trainer(
        model=GPT2LMHeadModel._from_config(config, attn_implementation=case.attention),
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows.select(range(case.batch * arguments.world_size)),
        data_collator=default_data_collator,
    )


def sizes(model: ModelSize) -> dict[str, int]:
    return {"n_layer": model.n_layer, "n_head": model.n_head, "n_embd": model.n_embd}


def positions(case: Case) -> int:
    return max(case.length + case.new_tokens, 1024 if case.work == "generate" else 0)


def generate(model: PreTrainedModel, case: Case, turns: Turns) -> None:
    model.eval().to(turns.device)
    prompt = torch.randint(50_000, (case.batch, case.length), device=turns.device)
    for _ in range(case.turns):
        turns.begin()
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            min_new_tokens=case.new_tokens,
            max_new_tokens=case.new_tokens,
            pad_token_id=50_256,
        )
        turns.end()


def prepare(side: str, case: Case, folder: str, turns: Turns) -> int:
    """Rows to blocks on disk, or the same texts through `tokenizers` alone; returns the tokens of a turn."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    rows_file = Path(folder, "rows.parquet")
    sample = pq.read_table(SAMPLE_FOLDER / "train.parquet")
    rows = sample.to_pylist()
    for number, row in enumerate(rows):
        row["synthetic_reasoning"] = " ".join(str(rows[number - other]["query"]) for other in range(QUERIES_IN_A_ROW))
    pq.write_table(pa.Table.from_pylist(rows, schema=sample.schema), rows_file)
    source = find_source(str(rows_file))
    texts = [row_to_text(row) for row in rows_of(source) if reason_to_drop(row) is None]
    tokens = 0
    for turn in range(case.turns):
        turns.begin()
        if side == "ours":
            settings = SequenceSettings(case.length)
            preparation = Preparation(source, RowFilter(), settings, tokenizer, Path(folder, str(turn)))
            tokens = sum(prepare_data(preparation).statistics.tokens.values())
        else:
            encoded = (
                encoding
                for start in range(0, len(texts), ROWS_PER_BATCH)
                for encoding in tokenizer.backend_tokenizer.encode_batch(texts[start : start + ROWS_PER_BATCH])
            )
            tokens = sum(len(encoding.ids) + 1 for encoding in encoded)
        turns.end()
    return tokens


def main() -> None:
    side, case_words = sys.argv[1:]
    case_fields = json.loads(case_words)
    case = Case(**{**case_fields, "model": ModelSize(**case_fields["model"])})
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    set_seed(0)
    torch.set_num_threads(max(1, available_cores() // processes))
    # The same tokens for both sides, more than enough blocks for all steps.
    rows = torch.randint(50_257, (case.batch * processes * max(4, case.steps_per_turn), case.length))
    tokens, flops, parameters = case.batch * case.length, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        if case.work == "prepare":
            turns = Turns(torch.device("cpu"))
            tokens = prepare(side, case, folder, turns)
        else:
            blocks = Dataset.from_dict({"input_ids": rows.tolist()}).with_format("numpy")
            trainer = (build_ours if side == "ours" else build_stock)(case, blocks, folder)
            turns = Turns(trainer.args.device)
            flops = flops_per_token(trainer.model.config, case.length, case.work == "train")
            parameters = trainer.model.num_parameters()
        if case.work == "train":
            trainer.add_callback(TakeTurns(turns, case.steps_per_turn))
            trainer.train()
        elif case.work == "evaluate":
            for _ in range(case.turns):
                turns.begin()
                for _ in range(case.steps_per_turn):
                    trainer.evaluate()
                turns.end()
        elif case.work == "generate":
            generate(trainer.model, case, turns)
            tokens = case.batch * case.new_tokens
        turns.answer(
            {
                "tokens": tokens * processes,
                "peak_memory_bytes": peak_memory_bytes(turns.device),
                "flops_per_token": flops,
                "parameters": parameters,
            }
        )
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main()
