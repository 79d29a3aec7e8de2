from pathlib import Path

import pytest
from transformers import TrainingArguments

from train.settings.arguments import RECIPES_FOLDER
from train.settings.recipe import SHOWN, TRAINING_DEFAULTS, parse_recipe, settings_parser


@pytest.fixture
def parse():
    return parse_recipe


@pytest.fixture
def recipe_file(tmp_path):
    def write(text: str) -> str:
        file = tmp_path / "recipe.yaml"
        file.write_text(f"output_dir: {tmp_path / 'run'}\n{text}")
        return str(file)

    return write


def test_defaults_give_way_to_yaml_and_yaml_to_the_command_line(parse, recipe_file):
    config = recipe_file("learning_rate: 5e-4\nn_layer: 3\n")
    recipe = parse(["--config", config, "--n_layer", "4"])
    assert recipe.model.n_layer == 4
    assert recipe.training.learning_rate == 5e-4
    assert recipe.training.weight_decay == TRAINING_DEFAULTS["weight_decay"]


def test_no_words_at_all_are_the_demo(parse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = parse([])
    assert recipe.data.dataset == ["sample"]
    assert recipe.training.output_dir == "runs/demo"
    assert recipe.model.tokenizer == "sample"
    for words in (["--dataset", "rows.jsonl"], ["--init_from", "runs/other"]):
        assert parse(words).model.tokenizer is None  # the sample's is for a fresh model of the sample


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("learning_rate: 6e-4", "learning_rate", 6e-4),
        ("learning_rate: 1E-3", "learning_rate", 1e-3),
        ("eval_strategy: no", "eval_strategy", "no"),
        ("report_to: none", "report_to", []),
        ("report_to: [tensorboard, trackio]", "report_to", ["tensorboard", "trackio"]),
        ("bf16: false", "bf16", False),
        ("warmup_steps: 0.1", "warmup_steps", 0.1),
        ("lr_scheduler_kwargs: {min_lr_rate: 0.1}", "lr_scheduler_kwargs", {"min_lr_rate": 0.1}),
    ],
)
def test_yaml_means_what_it_says(parse, recipe_file, text, name, value):
    found = getattr(parse(["--config", recipe_file(text)]).training, name)
    assert getattr(found, "value", found) == value


def test_null_in_yaml_means_unset(parse, recipe_file):
    assert parse(["--config", recipe_file("max_samples: null")]).data.max_samples is None


def test_an_old_recipe_is_read_under_the_present_names(parse, recipe_file):
    recipe = parse(["--config", recipe_file("block_size: 32\nmax_eval_blocks: 4\ngradient_checkpointing: true\n")])
    assert (recipe.data.sequence_length, recipe.data.max_eval_sequences) == (32, 4)
    assert recipe.training.activation_checkpointing
    assert "block_size" not in recipe.settings


def test_lists_come_from_yaml_and_from_words(parse, recipe_file):
    config = recipe_file("languages: [en, fr]\nsample_prompts:\n  - What is it?\n  - Why not?\n")
    assert parse(["--config", config]).data.languages == ["en", "fr"]
    assert parse(["--config", config, "--languages", "de"]).data.languages == ["de"]
    assert parse(["--config", config]).run.sample_prompts == ["What is it?", "Why not?"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lerning_rate", "1e-3"], "'lerning_rate'.*'learning_rate'"),
        (["--block_size", "32"], "--block_size is now --sequence_length"),
        (["--gradient-checkpointing=true"], "--gradient-checkpointing is now --activation_checkpointing"),
        (["--n_layers=3"], "'n_layers'.*'n_layer'"),
        (["--n_layer", "three"], "n_layer.*invalid int value: 'three'"),
        (["--eval_strategy", "sometimes"], "eval_strategy.*'sometimes'"),
        (["stray"], "stray"),
        (["--config", "nowhere.yaml"], "nowhere.yaml.*no such file"),
        (["--sequence_length", "2048"], "sequence_length 2048.*n_positions 1024"),
        (["--sequence_length", "1"], "sequence_length 1 .*at least 2"),
        (["--max_samples", "0"], "max_samples 0"),
        (["--validation_fraction", "1.5"], "validation_fraction 1.5"),
        (["--learning_rate", "0"], "learning_rate 0"),
        (["--per_device_train_batch_size", "0"], "per_device_train_batch_size 0"),
        (["--dataloader_drop_last", "true"], "dataloader_drop_last"),
        (["--deepspeed", "x"], "deepspeed x: checkpoints would not hold its state"),
        (["--accelerator_config", "x"], "accelerator_config x: it changes batches"),
        (["--lr_scheduler_kwargs", '{"num_decay_steps": 3}'], "num_decay_steps: say it by --decay_steps"),
        (["--metric_for_best_model", ""], "this run has loss, perplexity"),
        (["--push_to_hub", "true"], "push_to_hub.*python -m hub_card.publish"),
        (["--report_to", "wandbx"], "wandbx"),
        (["--report_to", "flyte"], "report_to flyte: .*not installed.*pip install flyte"),
        (["--packing", "bfd"], "packing: invalid choice: 'bfd' .choose from 'concat', 'best_fit'"),
        (["--packing", "best_fit", "--use_cache", "true"], "use_cache true with --packing best_fit"),
        (["--broken_shards", "ignore"], "broken_shards.*'ignore' .choose from 'stop', 'skip'"),
        (["--exercise_weights", "rag"], "exercise_weights rag: NAME=WEIGHT"),
        (["--min_row_tokens", "9", "--max_row_tokens", "8"], "max_row_tokens 8 must be at least 9"),
        (["--streaming", "true"], "streaming needs --max_eval_sequences"),
        (["--streaming", "true", "--max_eval_sequences", "2"], "streaming needs --max_steps"),
        (["--streaming", "true", "--max_eval_sequences", "2", "--max_samples", "9"], "max_samples 9: a stream ends"),
        (["--fp16", "true", "--use_cpu", "true"], "fp16 true: on CPUs it would train in float32"),
        (["--bf16_full_eval", "true"], "bf16_full_eval True: it would save a model in bf16"),
        (["--use_liger_kernel", "true"], "its kernels know other models only"),
        (["--metric_for_best_model", "accuracy"], "metric_for_best_model accuracy: this run has loss, perplexity"),
        (["--max_steps", "9", "--warmup_steps", "10"], "warmup_steps 10 take 10 steps, the run has 9"),
        (
            ["--max_steps=9", "--warmup_steps=5", "--lr_scheduler_type=warmup_stable_decay", "--decay_steps=0.5"],
            "warmup_steps 5 and --decay_steps 0.5 take 10 steps, the run has 9",
        ),
        (["--sample_prompts", "caf\udce9"], r"'caf.udce9' holds bytes that are no UTF-8"),
        (["--optim_name", "adam"], "optim_name.*'adam' .choose from 'adamw', 'muon'"),
    ],
)
def test_a_mistake_is_refused_by_name(parse, recipe_file, words, message):
    config = [] if "--config" in words else ["--config", recipe_file("n_layer: 2\n")]
    with pytest.raises(ValueError, match=message):
        parse([*config, *words])


def test_a_dry_run_shows_a_recipe_for_a_gpu_on_a_machine_without(parse, recipe_file):
    recipe = parse(["--config", recipe_file("n_layer: 2\nfp16: true\n"), "--use_cpu", "true", "--dry_run"])
    assert recipe.training.fp16


@pytest.mark.parametrize(
    ("precision", "words", "found"),
    [
        ("bf16", [], "bf16: True"),
        ("bf16", ["--bf16", "true"], "bf16: True"),
        ("no", ["--bf16", "true"], "bf16: True"),
        ("no", [], "bf16: False"),
        ("fp16", ["--bf16", "true"], "recipe says --bf16 true"),
        ("fp16", ["--use_cpu", "true"], "on CPUs it would train in float32"),
        ("fp8", [], "mixed_precision 'fp8' .* is in float32, bf16 or fp16"),
    ],
)
def test_a_precision_of_accelerates_configuration_is_recorded_or_refused(
    parse, recipe_file, monkeypatch, precision, words, found
):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    words = ["--config", recipe_file("n_layer: 2\n"), *words]
    if not found.startswith("bf16"):
        with pytest.raises(ValueError, match=found):
            parse(words)
        return
    recipe = parse(words)
    assert recipe.training.mixed_precision == ("bf16" if recipe.training.bf16 else "no")
    assert f"bf16: {recipe.settings.get('bf16', False)}" == found


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("ACCELERATE_DYNAMO_BACKEND", "inductor", "Take it out there, or set --torch_compile"),
        ("ACCELERATE_USE_FSDP", "true", "Take it out there; --fsdp_size shards a model"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "Take it out there[.]"),
        ("ACCELERATE_DYNAMO_USE_FULLGRAPH", "True", "Take it out there[.]"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1", "Take it out there, or set --tf32"),
    ],
)
def test_what_else_accelerates_configuration_changes_is_refused(parse, recipe_file, monkeypatch, variable, value, name):
    monkeypatch.setenv(variable, "no")
    parse(["--config", recipe_file("n_layer: 2\n")])
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable}={value}: .* {name}"):
        parse(["--config", recipe_file("n_layer: 2\n")])


@pytest.mark.parametrize(("processes", "accumulated"), [(1, 6), (2, 3), (3, 2), (4, None)])
def test_accumulation_follows_from_the_global_batch(parse, recipe_file, monkeypatch, processes, accumulated):
    monkeypatch.setattr("train.settings.resolving.reader_count", lambda settings: processes)
    monkeypatch.setattr("transformers.TrainingArguments.world_size", processes)  # no others are there to meet
    words = ["--config", recipe_file("global_batch_size: 48\n")]
    if accumulated is None:
        with pytest.raises(
            ValueError, match=r"--global_batch_size: 4 processes .* of 48 .*: 8 x 1 or 2 or 3 or 6 proc"
        ):
            parse(words)
        return
    recipe = parse(words)
    assert recipe.training.gradient_accumulation_steps == accumulated
    assert recipe.sequences_per_step == 48


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("muon_momentum: 0.9", "--muon_momentum 0.9 has no effect: it needs --optim_name muon."),
        ("optim: adafactor\noptim_args: a=1", "--optim_args a=1 has no effect"),
        ("lr_scheduler_type: constant\nwarmup_steps: 5", "--warmup_steps 5.0 has no effect: it needs another"),
        ("decay_steps: 0.4", "--decay_steps 0.4 has no effect: it needs --lr_scheduler_type warmup_stable_decay."),
        ("shuffle_buffer: 9", "--shuffle_buffer 9 has no effect: it needs --streaming true."),
        ("validation_dataset: a.txt\nsplit_seed: 3", "--split_seed 3 has no effect: it needs validation rows that are"),
        ("sample_tokens: 9", "--sample_tokens 9 has no effect: it needs --sample_prompts."),
        ("tokenizer: sample\ndataset: a.txt", "--tokenizer sample has no effect: it needs a fresh model of --dataset"),
        ("async_save: true\nsave_strategy: no", "--async_save True has no effect: it needs checkpoints amid"),
        ("exam_tokens: 9", "--exam_tokens 9 has no effect: it needs --exam."),
        (
            "global_batch_size: 32\ngradient_accumulation_steps: 2",
            "--gradient_accumulation_steps 2 has no effect: it needs no --global_batch_size, from which it follows.",
        ),
        ("global_batch_size: 16\ngradient_accumulation_steps: 2", None),
        ("optim_name: muon\nmuon_momentum: 0.9", None),
        ("exam: sample\nexam_tokens: 9", None),
    ],
)
def test_a_setting_without_effect_is_named(parse, recipe_file, text, line):
    found = parse(["--config", recipe_file(text + "\n")]).unread
    assert [one.startswith(line) for one in found] == ([True] if line else [])


@pytest.mark.parametrize(
    ("words", "is_greater_better"),
    [
        (["--metric_for_best_model", "eval_perplexity"], False),
        (["--metric_for_best_model", "loss"], False),
        (["--metric_for_best_model", "perplexity", "--greater_is_better", "true"], True),
        ([], None),
    ],
)
def test_a_metric_has_its_direction(parse, recipe_file, words, is_greater_better):
    recipe = parse(["--config", recipe_file("n_layer: 2\n"), *words])
    assert recipe.training.greater_is_better is is_greater_better


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wieght_decay: 0.1", "recipe.yaml.*'wieght_decay'.*'weight_decay'"),
        ("learning_rate: fast", "learning_rate.*'fast'"),
        ("- a\n- b", "YAML"),
        ("n_layer: [", "YAML"),
        ("n_layer: 2\nn_layer: 3", "'n_layer' stands twice in it"),
    ],
)
def test_a_mistake_in_yaml_is_refused_by_name(parse, recipe_file, text, message):
    with pytest.raises(ValueError, match=message):
        parse(["--config", recipe_file(text)])


def test_a_recipe_that_is_no_utf8_is_refused_by_name(parse, tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"sample_prompts: [caf\xe9]")
    with pytest.raises(ValueError, match=r"latin.yaml is not valid YAML: .*0xe9"):
        parse(["--config", str(tmp_path / "latin.yaml")])


def test_the_resolved_recipe_reads_back_to_the_same_settings(parse, recipe_file, tmp_path):
    config = recipe_file(
        "learning_rate: 6e-4\neval_strategy: no\nlanguages: [en, de]\nlr_scheduler_type: cosine_with_min_lr\n"
        "lr_scheduler_kwargs: {min_lr_rate: 0.1}\nadam_beta2: 0.95\nn_embd: 96\n"
    )
    first = parse(["--config", config, "--n_layer", "5"])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(first.to_yaml())
    second = parse(["--config", str(resolved)])
    assert second.settings == first.settings
    assert second.training.lr_scheduler_kwargs == {"min_lr_rate": 0.1}
    assert (second.model, second.data) == (first.model, first.data)


def test_one_process_for_several_gpus_is_refused(parse, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match=r"One process for 2 GPUs.*accelerate launch, or .* CUDA_VISIBLE_DEVICES=0"):
        parse([])


def test_a_recipe_resolved_without_an_accelerator_does_not_force_the_cpu_elsewhere(parse, recipe_file):
    recipe = parse(["--config", recipe_file("n_layer: 2\n")])
    assert "use_cpu" not in recipe.settings


def show_help(word: str, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        parse_recipe([word])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_shows_our_own_settings_first_then_those_of_the_trainer_that_pre_training_uses(capsys):
    text = show_help("--help", capsys)
    titles = ["\nmodel:", "\ndata:", "\noptimizer:", "\nrun:", "\ntraining:", "\nRecipes: "]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    for name, group in (("--n_layer", 0), ("--dataset", 1), ("--optim_name", 2), ("--dry_run", 3)):
        assert places[group] < text.index(f"  {name} ") < places[group + 1]
    assert all(places[4] < text.index(f"  --{name} ") < places[5] for name in SHOWN)
    assert 25 <= len(SHOWN) <= 35
    assert "--neftune_noise_alpha" not in text
    assert "demo.yaml" in text


def test_help_all_shows_every_setting_with_its_meaning(capsys):
    text = show_help("--help_all", capsys)
    assert text.startswith(show_help("--help", capsys).split("\nRecipes: ")[0])
    names = {name for name in settings_parser([]).names if f"--{name}" not in text}
    assert names == set()


def test_shipped_recipes_lie_where_the_readme_says():
    names = {path.name for path in RECIPES_FOLDER.glob("*.yaml")}
    assert {"demo.yaml", "gpt2_124m_synth.yaml", "gpt2_124m_synth_10b.yaml"} <= names
    assert all(Path(path).stat().st_size for path in (RECIPES_FOLDER / "accelerate").glob("*.yaml"))


def test_a_token_is_not_written_down(tmp_path):
    recipe = parse_recipe(["--output_dir", str(tmp_path), "--hub_token", "hf_secret"])
    assert "hf_secret" not in recipe.to_yaml()


def test_a_list_without_values_takes_back_the_one_of_a_recipe(tmp_path):
    recipe = tmp_path / "languages.yaml"
    recipe.write_text("languages: [en]\n")
    assert parse_recipe(["--config", str(recipe)]).data.languages == ["en"]
    assert parse_recipe(["--config", str(recipe), "--languages"]).data.languages is None
