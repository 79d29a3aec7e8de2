"""lm-evaluation-harness: a local task gives equal figures for our folder and for the export."""

import json
import os
import subprocess
import sys

import pytest


# One task that scores given answers, one that scores a text, and one that reads what is generated.
TASKS = {
    "choice": """
output_type: multiple_choice
doc_to_text: "{{before_answer}}"
doc_to_target: "{{right}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "perplexity": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
    "answer": """
output_type: generate_until
doc_to_text: "{{prompt}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["<|endoftext|>"], max_gen_toks: 40, do_sample: false}
filter_list: [{name: answer, filter: [{function: regex, regex_pattern: "A: (.*)$"}, {function: take_first}]}]
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture
def task_folder(answers, tmp_path):
    texts = {prompt: prompt + answer for prompt, answer in answers.items()}
    right = [text.rpartition("A: ")[2] for text in texts.values()]
    rows = [
        {
            "prompt": prompt,
            "text": text,
            "before_answer": text.removesuffix(f" {right[i]}"),
            "answer": right[i],
            "right": i,
            "choices": right,
        }
        for i, (prompt, text) in enumerate(texts.items())
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in TASKS.items():
        data = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}\n"
        (tmp_path / f"{name}.yaml").write_text(data + "test_split: test\n" + task)
    return tmp_path


def figures(folder, task_folder, model_settings):
    """{task and metric: value}, from the command that a user would run; nothing in it imports our package."""
    model = f"pretrained={folder},dtype=float32{model_settings}"
    command = f"lm_eval run --model hf --model_args {model} --device cpu --batch_size 2 --tasks {','.join(TASKS)}"
    output = task_folder / folder.name
    command += f" --include_path {task_folder} --output_path {output}"
    environment = os.environ | {"HF_MODULES_CACHE": str(task_folder / "modules")}
    finished = subprocess.run([sys.executable, "-m", *command.split()], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    (report,) = output.rglob("results_*.json")
    return {
        f"{task} {metric}": value
        for task, metrics in json.loads(report.read_text())["results"].items()
        for metric, value in metrics.items()
        if isinstance(value, float) and "stderr" not in metric
    }


@pytest.mark.slow
def test_equal_figures_for_the_custom_folder_and_the_export(task_folder, custom_folder, exported_folder):
    ours = figures(custom_folder, task_folder, ",trust_remote_code=True")
    stock = figures(exported_folder, task_folder, "")
    assert ours == pytest.approx(stock, abs=5e-6, rel=0)
    assert ours["choice acc,none"] == ours["answer exact_match,answer"] == 1.0
    assert 1 < ours["perplexity word_perplexity,none"] < 100
    assert 0 < ours["perplexity bits_per_byte,none"] < 2
