"""Answers of the model to fixed questions after each evaluation, for people to read."""

from pathlib import Path

from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from train.data.rows.synth import question_to_ids
from train.evaluation.generation import write_texts
from train.run_files import SAMPLES_FILE, read_samples, to_json_line, write_whole


class TextSamples(TrainerCallback):
    """After each evaluation, lets the model answer a few questions; the texts go to the console, to `samples.jsonl` in
    the run folder and, as one table over the steps, to the trackers that `--report_to` names."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, questions: list[str], max_new_tokens: int, temperature: float
    ):
        self.tokenizer = tokenizer
        self.questions = questions  # asked in the form that the model is trained on
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature  # 0 takes the likeliest token
        self._in_training = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Forget what a stopped run has written after the step that this one resumes from."""
        self._in_training = True
        file = Path(args.output_dir) / SAMPLES_FILE
        if state.is_world_process_zero and file.exists():
            kept = [sample for sample in read_samples(file.parent) if sample["step"] <= state.global_step]
            write_whole(file, "".join(map(to_json_line, kept)))

    def on_evaluate(self, args, state, control, model: PreTrainedModel, **kwargs) -> None:
        prompts = [question_to_ids(f"Q: {question}", self.tokenizer) for question in self.questions]
        room = model.config.max_position_embeddings - max(map(len, prompts), default=0)
        texts = write_texts(
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
            for question, (ids,) in zip(self.questions, texts, strict=True):
                text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
                file.write(to_json_line({"step": state.global_step, "question": question, "text": text}))
                tqdm.write(f"\n--- step {state.global_step:,}\nQ: {question}\n\n{text}")

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

        wandb.log({"samples": wandb.Table(columns=columns, data=rows), "train/global_step": step})
    if "trackio" in trackers:
        import pandas
        import trackio

        trackio.log({"samples": trackio.Table(dataframe=pandas.DataFrame(rows, columns=columns))}, step=step)
    if "mlflow" in trackers:
        import mlflow

        # The form of mlflow.log_table, which would add to the rows that are there already.
        mlflow.log_dict({"columns": columns, "data": rows}, "samples.json")
