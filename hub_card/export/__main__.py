"""Write a trained model in a form that other tools open.

    python -m hub_card.export runs/demo --format hf          # Hugging Face's GPT-2
    python -m hub_card.export runs/demo --format onnx        # for ONNX Runtime and transformers.js, in 32 and 8 bits
    python -m hub_card.export runs/demo --format openvino    # for OpenVINO, in 32 bits
    python -m hub_card.export runs/demo --format gguf        # for llama.cpp

A run, a checkpoint, an export, or a model on the Hub. ONNX and OpenVINO files answer questions of the exam beside the
model, and the table says how many texts and tokens are the same. In 32 bits, nearly all must be.

Exit status: 0; 1 where what was written computes something else; 2 where the model or the arguments are not fit for it.
"""

import argparse
import importlib.util
import logging
import sys
from functools import partial

from hub_card.publishing import report_errors
from train.run_files import command_parser, filled, number, user_path


logger = logging.getLogger("hub_card.export")

PACKAGES = {"hf": (), "onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "gguf": ()}


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    parser = command_parser("hub_card.export", __doc__)
    parser.add_argument("model", type=filled, help="a run folder, e.g. runs/demo, a checkpoint in it, or a Hub id")
    parser.add_argument("--format", required=True, choices=PACKAGES, help="what to write")
    parser.add_argument("--output_dir", type=user_path, help="an empty or new folder; beside the run where unset")
    parser.add_argument(
        "--max_questions", type=number(int, 1), default=100, help="questions of the exam to compare on (default: 100)"
    )
    return report_errors(partial(run, parser.parse_args(argv)), "hub_card.export")


def run(arguments: argparse.Namespace) -> None:
    if missing := [name for name in PACKAGES[arguments.format] if importlib.util.find_spec(name) is None]:
        words = "openvino" if missing == ["openvino"] else "-e .[export]"
        raise ValueError(f"{' and '.join(missing)} not installed: pip install -c constraints.txt {words}")
    from hub_card.export.formats import write_export

    lines = write_export(arguments.model, arguments.format, arguments.output_dir, arguments.max_questions)
    logger.info("%s", "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
