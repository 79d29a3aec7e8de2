"""`evaluation.json`: what an evaluation found, and of which weights. Importing this module loads no heavy library.

    format        1; raised when a key changes its meaning
    date          when it was made, UTC, ISO 8601
    model         name; parameters; window_tokens, read at once; weights_sha256 (see `hash_weights`; null for weights
                  that are in no safetensors file at hand); trained_on, dataset_revision where a recipe names them
    settings      max_rows, max_questions, num_fewshot, limit
    versions, hardware, git_commit
    kept_from     {part: date}: parts that this evaluation left out, kept from an earlier one of the same weights

    validation      absent where it was left out
      rows        where they come from, in words; rows_used of rows_found; all_read: whether there are no others;
                  first_token_scored (train/evaluation/losses/document_scores.py)
      overall, by_exercise {name: ...}, by_language {name: ...}: rows, tokens, loss, loss_interval, perplexity,
                  perplexity_interval, bits_per_byte, bits_per_byte_interval, answer_tokens, answer_loss,
                  answer_loss_interval (train/evaluation/losses/loss_figures.py)

    exam          absent where it was left out
      questions   where they come from, in words; notes: what known and new mean here; asked; max_new_tokens of an
                  answer; too_long: questions that leave no room in the context for so many, and so were not put to the
                  model, and count as wrong
      overall, by_exercise [...]: exercise, correct, asked, chance, well_formed, ended (evaluation/exam/exam.py), and
                  of correct, well_formed and ended the share and its Wilson interval: exact_match,
                  exact_match_interval, well_formed_share, well_formed_interval, ended_share, ended_interval
      citations   of its rag questions, and of held-out rag rows; null where none cites: answers, exact, citing, cited,
                  existing, expected, recalled, quotes, true_quotes, and shares (train/evaluation/exam/citations.py)

    tasks         [...], absent where none was asked for: task, metric, filter, part_of_group (whether a group that was
                  asked for has its figure in it), value, stderr, interval, samples, of_samples, shots,
                  higher_is_better, gpt2_small: [{value, shots, source, note}]
                  (train/evaluation/tasks/lm_eval_tasks.py, published_gpt2.py)

    comparisons   [...], absent where none was asked for; of this model with each other one
      model, validation, exam, tasks: of the other model, as above
      tests       [...]: measure (loss, bits_per_byte, exact_match, or a task with its metric), group, n, this, other,
                  difference (this - other), interval, p, adjusted_p (Holm; of groups), better (this, other, null),
                  sentence (train/evaluation/comparison.py)
      notes       what limits the comparison

All intervals are [low, high] with 95% confidence, null where they are not known; shares and losses are plain numbers.
"""

import hashlib
import json
from pathlib import Path

from train.run_files import EVALUATION_FILE, write_whole


FORMAT = 1
PARTS = ("validation", "exam", "tasks")


def write_evaluation(folder: Path, evaluation: dict) -> Path:
    """Write it into a folder, at once and whole; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / EVALUATION_FILE
    write_whole(file, json.dumps(evaluation, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return file


def keep_earlier(evaluation: dict, earlier: dict | None) -> dict:
    """The evaluation with the parts that it left out, from an earlier one of the same weights; of tasks, those that
    were not run again."""
    digest = evaluation["model"]["weights_sha256"]
    if earlier is None or digest is None or earlier["model"]["weights_sha256"] != digest:
        return evaluation
    kept = {part: earlier[part] for part in PARTS if part in earlier and part not in evaluation}
    if "tasks" in evaluation and "tasks" in earlier:
        again = {figure["task"] for figure in evaluation["tasks"]}
        old = [figure for figure in earlier["tasks"] if figure["task"] not in again]
        kept |= {"tasks": evaluation["tasks"] + old} if old else {}
    dates = {part: earlier.get("kept_from", {}).get(part, earlier["date"]) for part in kept}
    return {**evaluation, **kept, "kept_from": dates}


def read_evaluation(folder: Path) -> dict | None:
    """The evaluation in a run folder; `None` where there is none.

    Raises:
        ValueError: it cannot be read, or a newer version of this code wrote it.
    """
    file = folder / EVALUATION_FILE
    if not file.is_file():
        return None
    try:
        # "held_out" is the name that evaluations of earlier versions give to the part "validation".
        text = file.read_text(encoding="utf-8").replace('"held_out":', '"validation":')
        evaluation = json.loads(text)
        written = evaluation["format"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}): evaluate again.") from error
    if written != FORMAT:
        raise ValueError(f"{file} has format {written}, this code reads {FORMAT}: evaluate again.")
    return evaluation


def fits_weights(evaluation: dict, folder: Path) -> bool:
    """Whether it is of the weights that lie in the folder, and not of older ones."""
    digest = hash_weights(sorted(folder.glob("*.safetensors")))
    return digest is not None and evaluation["model"]["weights_sha256"] == digest


def hash_weights(files: list[Path]) -> str | None:
    """Names the weights: a file's SHA-256 (as the Hub shows it), of several that of their names and sums; `None` of
    none."""
    sums = []
    for file in sorted(files):
        with open(file, "rb") as opened:
            sums.append(hashlib.file_digest(opened, "sha256").hexdigest())
    if len(sums) < 2:
        return sums[0] if sums else None
    lines = "".join(f"{digest}  {file.name}\n" for digest, file in zip(sums, sorted(files), strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()
