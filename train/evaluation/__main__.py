"""How good a model is: exact match on questions with short answers, by exercise.

python -m train.evaluation runs/demo --exam sample
"""

import argparse

from transformers import AutoModelForCausalLM, AutoTokenizer

import modeling_gpt2scratch  # noqa: F401  registers the model with AutoModelForCausalLM
from train.data.sources import SAMPLE
from train.evaluation.exam import load_exam, render_exam, take_exam


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run folder, a checkpoint, or a Hub id")
    parser.add_argument(
        "--exam", default=SAMPLE, help="'sample', or a .parquet or .jsonl file of rows (default: sample)"
    )
    parser.add_argument("--exam_tokens", type=int, default=64, help="tokens of an answer, at most (default: 64)")
    arguments = parser.parse_args()
    questions = load_exam(arguments.exam)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model)
    print(render_exam(take_exam(model, tokenizer, questions, arguments.exam_tokens)))


if __name__ == "__main__":
    main()
