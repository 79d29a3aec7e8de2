"""Answers of the model to fixed questions after each evaluation, for people to read."""

from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from train.data.rows.synth import question_to_ids
from train.evaluation.generation import write_texts
from train.run_files import SAMPLES_FILE, read_samples, to_json_line, write_whole


@dataclass(eq=False)
class TextSamples(TrainerCallback):
    """After each evaluation, lets the model answer a few questions, or continue beginnings of texts.

    What it writes goes to the console, to `samples.jsonl` in the run folder and, as one table over the steps, to the
    trackers that `--report_to` names.
    """

    tokenizer: PreTrainedTokenizerBase
    questions: list[str]
    max_new_tokens: int
    temperature: float  # 0 takes the likeliest token
    as_questions: bool = True  # in the form of training texts; else each is the beginning of a text
    _in_training = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Forget what a stopped run has written after the step that this one resumes from."""
        self._in_training = True
        file = Path(args.output_dir) / SAMPLES_FILE
        if state.is_world_process_zero and file.exists():
            kept = [sample for sample in read_samples(file.parent) if sample["step"] <= state.global_step]
            write_whole(file, "".join(map(to_json_line, kept)))

    def on_evaluate(self, args, state, control, model: PreTrainedModel, **kwargs) -> None:
        if self.as_questions:
            prompts = [question_to_ids(f"Q: {question}", self.tokenizer) for question in self.questions]
        else:
            end = self.tokenizer.eos_token_id  # which stands before a text
            texts = self.tokenizer(self.questions, split_special_tokens=True)["input_ids"] if self.questions else []
            prompts = [[end, *ids] for ids in texts]
        room = model.config.max_position_embeddings - max(map(len, prompts), default=0)
        written = write_texts(
            model,
            prompts,
            max_new_tokens=min(self.max_new_tokens, room),
            end_of_text=self.tokenizer.eos_token_id,
            title="Samples",
            temperature=self.temperature,
            seed=args.seed,
            shared=False,
        )
        if not state.is_world_process_zero:
            return
        samples_file = Path(args.output_dir) / SAMPLES_FILE
        with open(samples_file, "a", encoding="utf-8") as file:
            for question, (ids,) in zip(self.questions, written, strict=True):
                text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
                file.write(to_json_line({"step": state.global_step, "question": question, "text": text}))
                asked = f"Q: {question}\n\n" if self.as_questions else f"{question} | "
                tqdm.write(f"\n--- step {state.global_step:,}\n{asked}{text}")

        samples = read_samples(samples_file.parent)
        if self._in_training and samples:  # the Trainer's callbacks close their trackers' runs after it
            _send_to_trackers(args.report_to, samples, state.global_step)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self._in_training = False


def _send_to_trackers(trackers: list[str], samples: list[dict], step: int) -> None:
    """Send all samples so far, as one table, to those trackers that know tables."""
    columns = ["step", "question", "text"]
    rows = [[sample[column] for column in columns] for sample in samples]
    if "wandb" in trackers:
        import wandb

        wandb.log({"samples": wandb.Table(columns=[*columns], data=rows), "train/global_step": step})
    if "trackio" in trackers:
        import pandas
        import trackio

        trackio.log({"samples": trackio.Table(dataframe=pandas.DataFrame(rows, columns=columns))}, step=step)
    if "mlflow" in trackers:
        import mlflow

        # The form of mlflow.log_table, which would add to the rows that are there already.
        mlflow.log_dict({"columns": columns, "data": rows}, "samples.json")
