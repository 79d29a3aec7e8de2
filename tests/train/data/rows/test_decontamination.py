import gzip
import json
import pickle
import subprocess
import sys
import time
from functools import partial

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.rows import decontamination
from train.data.rows.decontamination import GRAM_WORDS, MIN_GRAM_WORDS, Contamination


PASSAGE = (
    "The river rises in the hills north of the old town, and it runs for ten kilometres through fields of barley "
    "before it meets the sea beside a lighthouse that nobody has lit since the war."
)


def words(count, prefix="w"):
    """So many words that stand nowhere else."""
    return " ".join(f"{prefix}{number}" for number in range(count))


@pytest.fixture
def contamination_of(tmp_path):
    """Makes a `Contamination` of some passages, by way of a .txt file."""

    def make(*passages):
        (tmp_path / "passages.txt").write_text("\n\n".join(passages))
        return Contamination.from_sources([str(tmp_path / "passages.txt")])

    return make


def test_a_run_of_words_is_found_wherever_it_stands(contamination_of):
    run = " ".join(PASSAGE.split()[5 : 5 + GRAM_WORDS])
    found_in = contamination_of(PASSAGE).found_in
    for text in (
        PASSAGE,
        run,
        f"{words(500)} {run}",
        f"{run} {words(500)}",
        f"{words(99, 'a')} {run} {words(99, 'b')}",
    ):
        assert found_in(text)
    for text in ("", "...", words(1), words(2000), " ".join(reversed(PASSAGE.split()))):
        assert not found_in(text)


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda text: text.replace(" ", "\n"),
        lambda text: text.replace(",", " --").replace(".", "?!"),
        lambda text: "«" + text.replace(" ", "; ") + "»",
        lambda text: text.replace(" ", " *\t") + "*",
    ],
)
def test_case_punctuation_and_line_breaks_do_not_matter(contamination_of, change):
    assert contamination_of(PASSAGE).found_in(change(PASSAGE))
    assert contamination_of(change(PASSAGE)).found_in(PASSAGE)


def test_other_alphabets_and_broken_characters_are_words_too(contamination_of):
    assert contamination_of("Die Straße ist lang, " + words(GRAM_WORDS)).found_in("DIE STRASSE IST LANG " + words(9))
    greek = "Μῆνιν ἄειδε θεὰ Πηληϊάδεω Ἀχιλῆος οὐλομένην ἣ μυρί Ἀχαιοῖς ἄλγε ἔθηκε"
    assert contamination_of(greek).found_in(greek.upper())
    assert not contamination_of(PASSAGE).found_in(f"\ud800 {words(20)} \ud800a")


def test_one_word_less_is_not_found(contamination_of):
    contamination = contamination_of(words(40))
    shared = words(40).split()[10 : 10 + GRAM_WORDS]
    assert contamination.found_in(" ".join(shared))
    for twelve in (shared[1:], shared[:-1], [*shared[:6], "other", *shared[6:]]):
        assert not contamination.found_in(" ".join([*words(50, "a").split(), *twelve, *words(50, "b").split()]))


@pytest.mark.parametrize("length", range(MIN_GRAM_WORDS, GRAM_WORDS))
def test_a_short_passage_is_one_gram(contamination_of, length):
    contamination = contamination_of(words(length), PASSAGE)
    assert contamination.found_in(f"{words(30, 'a')} {words(length)} {words(30, 'b')}")
    assert not contamination.found_in(f"{words(30, 'a')} {words(length - 1)} {words(30, 'b')}")
    assert contamination.found_in(PASSAGE)
    assert len(contamination) == 1 + len(PASSAGE.split()) - GRAM_WORDS + 1


def test_a_shorter_passage_is_left_out(contamination_of):
    assert not contamination_of(words(MIN_GRAM_WORDS - 1), PASSAGE).found_in(words(30))


def test_no_gram_crosses_a_blank_line(contamination_of):
    contamination = contamination_of(words(20, "a"), words(20, "b"))
    assert not contamination.found_in(
        f"{' '.join(words(20, 'a').split()[-12:])} {' '.join(words(20, 'b').split()[:12])}"
    )
    assert contamination_of(PASSAGE.replace(" ", "\n")).found_in(PASSAGE)


NESTED_ROWS = [
    {"id": 7, "text": words(20, "a"), "choices": [words(9, "b"), words(10, "c")], "none": None},
    {"id": 8, "text": "short", "choices": [], "none": None, "more": {"answers": [{"text": words(20, "d")}]}},
]


@pytest.mark.parametrize("kind", ["jsonl", "JSONL", "jsonl.gz", "parquet"])
def test_every_text_in_a_row_is_a_passage(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    if kind != "parquet":
        lines = "\n\n".join(json.dumps(row) for row in NESTED_ROWS).encode()
        path.write_bytes(gzip.compress(lines) if kind == "jsonl.gz" else lines)
    else:
        schema = pa.Table.from_pylist(NESTED_ROWS[1:]).schema.set(2, pa.field("choices", pa.list_(pa.string())))
        pq.write_table(pa.Table.from_pylist(NESTED_ROWS, schema=schema), path)
    contamination = Contamination.from_sources([str(path)])
    assert len(contamination) == 8 + 1 + 1 + 8
    for passage in (words(20, "a"), words(9, "b"), words(10, "c"), words(20, "d")):
        assert contamination.found_in(passage)


def test_several_sources_are_united(tmp_path):
    (tmp_path / "one.txt").write_text(f"{words(20, 'a')}\n\n{words(20, 'b')}")
    (tmp_path / "two.jsonl").write_text(json.dumps({"texts": [words(20, "b"), words(20, "c")]}))
    sources = [str(tmp_path / name) for name in ("one.txt", "two.jsonl")]
    contamination = Contamination.from_sources(sources)
    assert len(contamination) == 3 * 8
    assert (np.diff(contamination.grams) > 0).all()
    assert np.array_equal(contamination.grams, Contamination.from_sources(sources[::-1]).grams)
    assert len(Contamination.from_sources(sources[:1])) == 2 * 8


def test_no_source_finds_nothing():
    contamination = Contamination.from_sources([])
    assert len(contamination) == 0
    assert not contamination.found_in(PASSAGE)


def test_another_process_makes_the_same_grams(tmp_path, contamination_of):
    contamination = contamination_of(PASSAGE, words(9))
    script = (
        "from train.data.rows.decontamination import Contamination\n"
        f"print(Contamination.from_sources([{str(tmp_path / 'passages.txt')!r}]).grams.tolist())"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == str(contamination.grams.tolist())


def test_a_worker_process_can_be_given_it(contamination_of):
    contamination = contamination_of(PASSAGE, words(9))
    copy = pickle.loads(pickle.dumps(contamination))
    assert np.array_equal(copy.grams, contamination.grams)
    assert copy.found_in(words(9))


def naive_grams(text, lengths):
    """{words of a gram}, for a text of words parted by spaces."""
    words = text.split()
    return {tuple(words[start : start + n]) for n in lengths for start in range(len(words) - n + 1)}


# Two words and many repetitions: most texts share some gram, and many nearly do.
TEXTS = st.lists(st.sampled_from(["a", "b"]), max_size=30).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(passages=st.lists(TEXTS, max_size=5), text=TEXTS)
def test_the_same_is_found_as_by_comparing_all_grams(tmp_path_factory, passages, text):
    file = tmp_path_factory.getbasetemp() / "naive.jsonl"
    file.write_text(json.dumps({"texts": [words(20), *passages]}))
    grams = set()
    for passage in passages:
        length = min(len(passage.split()), GRAM_WORDS)
        grams |= naive_grams(passage, [length]) if length >= MIN_GRAM_WORDS else set()
    contamination = Contamination.from_sources([str(file)])
    assert len(contamination) == len(grams) + 20 - GRAM_WORDS + 1
    assert contamination.found_in(text) == bool(grams & naive_grams(text, range(MIN_GRAM_WORDS, GRAM_WORDS + 1)))


def test_long_rows_are_looked_up_by_the_hundred_a_second(tmp_path):
    random = np.random.default_rng(0)
    vocabulary = np.array(words(30_000).split())
    (tmp_path / "passages.txt").write_text(" ".join(random.choice(vocabulary, 100_000)))
    contamination = Contamination.from_sources([str(tmp_path / "passages.txt")])
    rows = [" ".join(random.choice(vocabulary, 1000)) for _ in range(200)]
    begin = time.process_time()
    assert not any(map(contamination.found_in, rows))
    assert len(rows) / (time.process_time() - begin) > 200  # thousands, but for a slow or busy machine


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet", "yaml"])
def test_missing_and_empty_files_are_refused(tmp_path, kind):
    file = tmp_path / f"passages.{kind}"
    with pytest.raises(ValueError, match=rf"--decontaminate .*passages\.{kind}: there is no such file, or it is empty"):
        Contamination.from_sources([str(file)])
    file.touch()
    with pytest.raises(ValueError, match=rf"passages\.{kind}: there is no such file, or it is empty"):
        Contamination.from_sources([str(file)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.txt", words(7).encode(), "it has no passage of at least 8 words"),
        ("blank.txt", b"\n \n\n", "it has no passage of at least 8 words"),
        ("latin.txt", b"caf\xe9 " * 20, "can't decode"),
        ("broken.jsonl", b'{"text": "fine"}\n{"text": ', "line 2 is no JSON"),
        ("broken.parquet", b"PAR1 and no more", "Parquet"),
    ],
)
def test_files_without_passages_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"--decontaminate .*{name}: .*{message}"):
        Contamination.from_sources([str(tmp_path / name)])


def test_a_task_without_lm_eval_says_how_to_get_it(monkeypatch):
    decontamination._task_manager.cache_clear()
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(ValueError, match=r"--decontaminate my_task: .*pip install .* -e \.\[lm_eval\]"):
        Contamination.from_sources(["my_task"])


@pytest.fixture
def no_shipped_tasks(monkeypatch):
    """Reading the descriptions of all tasks that lm-eval ships takes seconds."""
    tasks = pytest.importorskip("lm_eval.tasks")
    monkeypatch.setattr(tasks, "TaskManager", partial(tasks.TaskManager, include_defaults=False))
    decontamination._task_manager.cache_clear()
    yield
    decontamination._task_manager.cache_clear()


def test_neither_a_file_nor_a_task_is_refused(no_shipped_tasks):
    with pytest.raises(ValueError, match=r"--decontaminate rows\.csv: .* no such task .* \.txt, \.parquet, "):
        Contamination.from_sources(["rows.csv"])


TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{{split}: {folder}/{name}.jsonl}}, cache_dir: {folder}/cache}}
{split}_split: {split}
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: word_perplexity}}]
"""


def test_a_task_of_lm_eval_and_a_group_of_them(tmp_path, no_shipped_tasks):
    assert datasets.config.HF_HUB_OFFLINE
    for name, split in (("has_test", "test"), ("has_validation", "validation")):
        docs = [
            {"text": words(20, f"{name}{number}"), "more": [words(9, f"{name}more{number}")]} for number in range(3)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, split=split, folder=tmp_path))
    (tmp_path / "both.yaml").write_text("group: both\ntask: [has_test, has_validation]\n")

    one = Contamination.from_sources([str(tmp_path / "has_test.yaml")])
    assert len(one) == 3 * (8 + 1)
    assert one.found_in(words(20, "has_test2"))
    assert one.found_in(words(9, "has_testmore1"))
    assert not one.found_in(words(20, "has_validation0"))
    both = Contamination.from_sources([str(tmp_path / "both.yaml")])
    assert len(both) == 2 * len(one)
    assert both.found_in(words(9, "has_validationmore2"))

    (tmp_path / "no_task.yaml").write_text("recipe: small\n")
    with pytest.raises(ValueError, match=r"--decontaminate .*no_task\.yaml: lm-eval finds no such task"):
        Contamination.from_sources([str(tmp_path / "no_task.yaml")])
