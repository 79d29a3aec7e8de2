"""One side of a case, in a process of its own: builds its model and works when it is its turn.

Started by `train.benchmark.duel` as `python -m train.benchmark.contender SIDE CASE`; a line on its standard input
begins a turn, and lines that start with `ANSWER` on its standard output are its answers.
"""

import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import PartialState
from torch.nn.attention import SDPBackend, activate_flash_attention_impl, sdpa_kernel
from transformers import AutoTokenizer, PreTrainedModel, TrainerCallback, set_seed

from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.benchmark.cases import BESIDE, PACKAGES, SDPA_KERNELS, Case, ModelSize
from train.benchmark.sides import build_trainer
from train.callbacks.flops import flops_per_token, wait_for
from train.callbacks.peak_memory import peak_memory_bytes
from train.data.files.shard_reading import ROWS_PER_BATCH
from train.data.files.sources import SAMPLE_FOLDER, find_source
from train.data.rows.reading import rows_of
from train.data.rows.row_filter import RowFilter
from train.data.rows.schemas import find_schema
from train.data.rows.synth import reason_to_drop, row_to_text
from train.data.sequences.preparation import Preparation, SequenceSettings
from train.data.sequences.prepare import prepare_data
from train.dry_run import activation_bytes, state_bytes
from train.hardware import available_cores


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


def write_rows(file: Path, times: int = 1) -> None:
    """The embedded sample as a file, with rows as long as those of SYNTH, written so many times."""
    sample = pq.read_table(SAMPLE_FOLDER / "train.parquet")
    rows = sample.to_pylist()
    for number, row in enumerate(rows):
        row["synthetic_reasoning"] = " ".join(str(rows[number - other]["query"]) for other in range(QUERIES_IN_A_ROW))
    pq.write_table(pa.Table.from_pylist(rows * times, schema=sample.schema), file)


def prepare(side: str, case: Case, folder: str, turns: Turns) -> int:
    """Rows to sequences on disk, or the same texts to token ids by another library; returns the tokens of a turn."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    rows_file = Path(folder, "rows.parquet")
    write_rows(rows_file)
    texts = [row_to_text(row) for row in rows_of(find_source(str(rows_file))) if reason_to_drop(row) is None]
    if case.work == "prepare_text":
        pq.write_table(pa.table({"text": texts}), rows_file)
    source = find_source(str(rows_file))
    row_filter, settings = RowFilter(schema=find_schema(source)), SequenceSettings(case.length)
    tokens = 0
    for turn in range(case.turns):
        place = Path(folder, str(turn))
        turns.begin()
        if side == "ours":
            preparation = Preparation(source, row_filter, settings, tokenizer, place)
            tokens = sum(prepare_data(preparation).statistics.tokens.values())
        elif case.work == "prepare":
            batches = (texts[start : start + ROWS_PER_BATCH] for start in range(0, len(texts), ROWS_PER_BATCH))
            encoded = itertools.chain.from_iterable(map(tokenizer.backend_tokenizer.encode_batch, batches))
            tokens = sum(len(encoding.ids) + 1 for encoding in encoded)
        else:
            column = datasets.Dataset.from_parquet(str(rows_file), cache_dir=str(place))
            mapped = column.map(lambda rows: tokenizer(rows["text"]), batched=True, remove_columns=["text"])
            tokens = sum(len(ids) + 1 for ids in mapped.with_format("numpy", columns=["input_ids"])["input_ids"])
        turns.end()
    return tokens


def estimate_bytes(model: PreTrainedModel, case: Case, device: torch.device) -> int:
    """The memory of a training step, as `--dry_run` reckons it."""
    return state_bytes(model.config, model.num_parameters(), "adamw") + activation_bytes(
        model.config,
        device_type=device.type,
        sequences=case.batch,
        sequence_length=case.length,
        half=case.precision != "float32",
        checkpointing=False,
        eager=case.kernel == "math",
    )


def choose_kernel(kernel: str) -> contextlib.AbstractContextManager:
    """Attention by one kernel alone; where it cannot be used, torch says so."""
    if kernel == "FA2" or not kernel:  # transformers' own
        return contextlib.nullcontext()
    if kernel in PACKAGES:
        activate_flash_attention_impl(kernel)
    return sdpa_kernel(getattr(SDPBackend, SDPA_KERNELS.get(kernel, "FLASH_ATTENTION")))


def work(side: str, case: Case, processes: int, folder: str) -> None:
    """Take all turns of a case, and then tell the figures beside their times."""
    tokens, facts = case.batch * case.length, {"flops_per_token": 0, "parameters": 0}
    if case.work in BESIDE:
        turns = Turns(torch.device("cpu"))
        tokens = prepare(side, case, folder, turns)
    else:
        trainer = build_trainer(side, case, processes, folder)
        turns = Turns(trainer.args.device)
        facts["flops_per_token"] = flops_per_token(trainer.model.config, case.length, case.work == "train")
        facts["parameters"] = trainer.model.num_parameters()
    if case.work == "train":
        if side == "ours":
            facts["estimated_bytes"] = estimate_bytes(trainer.model, case, turns.device)
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
    turns.answer({"tokens": tokens * processes, "peak_memory_bytes": peak_memory_bytes(turns.device), **facts})


def main() -> None:
    side, case_json = sys.argv[1:]
    fields = json.loads(case_json)
    case = Case(**{**fields, "model": ModelSize(**fields["model"])})
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    set_seed(0)
    torch.set_num_threads(max(1, available_cores() // processes))
    with tempfile.TemporaryDirectory() as folder, choose_kernel(case.kernel):
        work(side, case, processes, folder)
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main()
