"""A run that is stopped and resumed equals one that never was: every logged number, every weight, every picture."""

import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from train.pretrain import main


pytestmark = pytest.mark.slow

# 8 sequences a step and 7 steps an epoch, three epochs; evaluation, with a text sample, at every third step.
EXACT = (
    *("--max_samples", "80", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"),
    *("--max_steps", "-1", "--num_train_epochs", "3", "--eval_steps", "3", "--save_steps", "100"),
    *("--attn_pdrop", "0.1", "--resid_pdrop", "0.1", "--embd_pdrop", "0.1", "--lr_scheduler_type", "cosine"),
    *("--sample_prompts", "What follows 3?", "--sample_tokens", "6", "--sample_temperature", "0.7"),
)
ASYNC = ("--async_save", "true", "--save_steps", "2")
STEPS_IN_EPOCH = 7
LAST_STEP = 3 * STEPS_IN_EPOCH


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("exact")


@pytest.fixture
def words(tiny_recipe, shared, row):
    rows = shared / "rows.jsonl"
    rows.write_text("".join(json.dumps(row(number)) + "\n" for number in range(200)))
    return ["--config", str(tiny_recipe), "--dataset", str(rows), "--data_cache_dir", str(shared / "cache"), *EXACT]


def record(folder, log_by_step):
    """All that a run leaves behind that must not depend on its having been stopped."""
    scalars = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    events = {
        tag: [(event.step, event.value) for event in scalars.Scalars(tag)]
        for tag in scalars.Tags()["scalars"]
        # Not rates and times, which no two runs share, and not what is only known of the last start.
        if tag in ("train/loss", "train/grad_norm", "train/learning_rate", "train/tokens_seen", "eval/loss")
    }
    state = json.loads((folder / "trainer_state.json").read_text())
    return {
        "log": log_by_step(folder),
        "tensorboard": events,
        "samples": (folder / "samples.jsonl").read_text(),
        "best": (state["best_metric"], state["best_global_step"]),
        "epoch": state["epoch"],
        "weights": load_file(folder / "model.safetensors"),
    }


def assert_same(found, expected):
    for name in expected.keys() - {"weights"}:
        assert found[name] == expected[name], name
    assert found["weights"].keys() == expected["weights"].keys()
    for name, tensor in expected["weights"].items():
        assert torch.equal(found["weights"][name], tensor), name


@pytest.fixture
def never_stopped(words, shared, log_by_step):
    """The results of a run that was left alone, by the number of workers."""

    def of(workers):
        folder = shared / f"never-stopped-{workers}"
        if not folder.exists():
            assert main([*words, "--dataloader_num_workers", workers, "--output_dir", str(folder)]) == 0
        return record(folder, log_by_step)

    return of


@pytest.mark.parametrize(
    ("workers", "stops", "saving"),
    [
        ("0", [1, 2, 3, 4], ()),  # 3: at an evaluation
        ("0", [STEPS_IN_EPOCH - 1, STEPS_IN_EPOCH, STEPS_IN_EPOCH + 1, LAST_STEP - 1], ASYNC),
        ("2", [2, STEPS_IN_EPOCH, 2 * STEPS_IN_EPOCH], ASYNC),
    ],
    ids=str,
)
def test_stopped_and_resumed_equals_never_stopped(
    workers, stops, saving, words, shared, never_stopped, stop_after, log_by_step
):
    expected = never_stopped(workers)
    assert expected["log"].keys() >= set(range(1, LAST_STEP + 1))
    assert [step for step, _ in expected["tensorboard"]["train/loss"]] == list(range(1, LAST_STEP + 1))
    folder = shared / f"stopped-{workers}-{'-'.join(map(str, stops))}"
    words = [*words, *saving, "--dataloader_num_workers", workers, "--output_dir", str(folder)]
    words += ["--resume_from_checkpoint", "auto"]
    for stop in stops:
        stop_after(stop)
        assert main(words) == 128 + signal.SIGTERM
    stop_after(None)
    assert main(words) == 0
    assert_same(record(folder, log_by_step), expected)


def test_muon_under_a_decaying_schedule_resumes_exactly(words, shared, stop_after, log_by_step):
    """Stopped before the decay begins and within it; each kind of weight has its own rate."""
    words = [*words, "--optim_name", "muon", "--hidden_lr_scale", "2", "--embedding_lr_scale", "0.5"]
    words += ["--lr_scheduler_type", "warmup_stable_decay", "--decay_steps", "0.5", "--warmup_steps", "3"]
    whole, stopped = shared / "muon", shared / "muon-stopped"
    assert main([*words, "--output_dir", str(whole)]) == 0
    words += ["--output_dir", str(stopped), "--resume_from_checkpoint", "auto"]
    for stop in (5, 16):
        stop_after(stop)
        assert main(words) == 128 + signal.SIGTERM
    stop_after(None)
    assert main(words) == 0
    assert_same(record(stopped, log_by_step), record(whole, log_by_step))


STREAMED = (
    *("--streaming", "true", "--shuffle_buffer", "30", "--max_eval_sequences", "4"),
    *("--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2", "--max_steps", "24"),
    *("--attn_pdrop", "0.1", "--resid_pdrop", "0.1", "--embd_pdrop", "0.1", "--save_steps", "100"),
    *("--sample_prompts", "What follows 3?", "--sample_tokens", "6", "--sample_temperature", "0.7"),
)


@pytest.fixture
def streamed_words(tiny_recipe, shared, row):
    """A run over 200 rows in four files, a little more than two passes."""
    folder = shared / "rows"
    folder.mkdir(exist_ok=True)
    for file in range(4):
        rows = [row(number) for number in range(50 * file, 50 * (file + 1))]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return [
        "--config",
        str(tiny_recipe),
        "--dataset",
        str(folder),
        "--data_cache_dir",
        str(shared / "cache"),
        *STREAMED,
    ]


def data_of(folder):
    return json.loads((folder / "results.json").read_text())["data"]


@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        ((), [3, 9, 15, 16]),
        (("--dataloader_num_workers", "2", "--packing", "best_fit"), [5, 12]),
    ],
    ids=["concat", "workers, best fit"],
)
def test_a_stream_goes_on_where_it_was(settings, stops, streamed_words, shared, stop_after, log_by_step):
    words = [*streamed_words, *settings]
    whole, stopped = (shared / f"{name}-{len(settings)}" for name in ("streamed", "streamed-stopped"))
    assert main([*words, "--output_dir", str(whole)]) == 0
    words += ["--output_dir", str(stopped), "--resume_from_checkpoint", "auto"]
    for stop in stops:
        stop_after(stop)
        assert main(words) == 128 + signal.SIGTERM
    stop_after(None)
    assert main(words) == 0
    assert_same(record(stopped, log_by_step), record(whole, log_by_step))
    assert data_of(stopped) == data_of(whole)
    assert data_of(whole)["rows_read"] > 200


@pytest.mark.parametrize("content", ["version https://git-lfs.github.com/spec/v1\n", '{"query": "Why?"}\n'])
def test_a_stream_that_would_come_to_a_bad_file_does_not_start(streamed_words, shared, caplog, content):
    folder, run = shared / "bad-rows", shared / "never-started"
    shutil.copytree(shared / "rows", folder, dirs_exist_ok=True)
    (folder / "3.jsonl").write_text(content)
    assert main([*streamed_words, "--dataset", str(folder), "--output_dir", str(run)]) == 2
    assert "3.jsonl" in caplog.text
    assert not run.exists()


def test_a_stream_goes_on_with_workers_in_the_place_of_processes_only_if_their_product_is_the_same(
    streamed_words, shared, stop_after, caplog
):
    words = [*streamed_words, "--output_dir", str(shared / "other-streams")]
    stop_after(3)
    assert main(words) == 128 + signal.SIGTERM
    stop_after(None)
    words += ["--resume_from_checkpoint", "true", "--dataloader_num_workers", "2"]
    assert main(words) == 2
    assert "was made with 1 streams" in caplog.text


def test_another_number_of_accumulated_batches_sees_the_same_rows(
    words, shared, never_stopped, stop_after, log_by_step
):
    """2 batches of 4 or 1 of 8: no dropout, so that only rounding differs."""
    words = [*words, "--attn_pdrop", "0", "--resid_pdrop", "0", "--embd_pdrop", "0"]
    one, other = shared / "no-dropout", shared / "other-batches"
    assert main([*words, "--output_dir", str(one)]) == 0
    stop_after(9)
    assert main([*words, "--output_dir", str(other)]) == 128 + signal.SIGTERM
    stop_after(None)
    words += ["--per_device_train_batch_size", "8", "--output_dir", str(other), "--resume_from_checkpoint", "true"]
    assert main(words) == 0
    expected, found = log_by_step(one), log_by_step(other)
    assert expected.keys() == found.keys()
    for step in expected:
        assert found[step] == pytest.approx(expected[step], rel=1e-5), step
