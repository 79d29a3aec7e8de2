"""One sample row in SYNTH's columns, and the words that rows are made of."""

from pathlib import Path

import yaml


WORDS: dict = yaml.safe_load(Path(__file__).with_name("facts.yaml").read_text(encoding="utf-8"))


def build_row(
    exercise: str,
    seed_path: str,
    seed_text: str,
    query: str,
    reasoning: str,
    answer: str,
    constraints: str | None = None,
    language: str = "en",
) -> dict:
    """A row without its `synth_id`, which is its place in the shuffled file. `words` counts reasoning and answer."""
    return {
        "synth_id": None,
        "language": language,
        "exercise": exercise,
        "model": "gpt2scratch-sample-generator",
        "query": query,
        "query_seed_url": f"sample://{seed_path}",
        "query_seed_text": seed_text,
        "additional_seed_url": None,
        "seed_license": "CC0-1.0",
        "constraints": constraints,
        "script": None,
        "synthetic_reasoning": reasoning,
        "synthetic_answer": answer,
        "words": len(reasoning.split()) + len(answer.split()),
    }


def leave_out_reasoning(row: dict) -> None:
    row["synthetic_reasoning"] = ""
    row["words"] = len(row["synthetic_answer"].split())
