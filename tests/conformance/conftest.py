"""Brings transformers' tests to our classes, and compares our results with those of Hugging Face's GPT-2."""

import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import transformers
from transformers.models.auto import modeling_auto


# The processes that distributed tests start inherit this, too.
sys.path.insert(0, str(Path(__file__).parent))

from model_testers import OurTester
from transformers_tests import test_fsdp_mixin, test_tensor_parallel_mixin


collect_ignore = ["transformers_tests"]
OUTCOMES = ("passed", "skipped", "failed")

# The tests look up what a class is for in these dictionaries of the library's own models, which `Auto*.register` leaves
# alone.
for mapping, model_class in {
    "MODEL_MAPPING_NAMES": OurTester.base_model_class,
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": OurTester.causal_lm_class,
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES": OurTester.sequence_classification_class,
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES": OurTester.token_classification_class,
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES": OurTester.question_answering_class,
}.items():
    getattr(modeling_auto, mapping)[OurTester.config_class.model_type] = model_class.__name__
# The library's CI runs the distributed tests on a choice of its models; here they run on both of these.
test_tensor_parallel_mixin.TP_DISTRIBUTED_TEST_MODEL_TYPES = None
test_fsdp_mixin.FSDP_DISTRIBUTED_TEST_MODEL_TYPES = None

# {class name: {test name: outcome}}
outcomes: dict[str, dict[str, str]] = defaultdict(dict)
passed_subtests: Counter[str] = Counter()  # by class name
# Tests that Hugging Face's GPT-2 passes and ours skip, each with its reason.
EXPLAINED: dict[str, str] = {}


def pytest_runtest_logreport(report):
    _, class_name, test_name = report.nodeid.split("::")
    if isinstance(report, pytest.SubtestReport):
        passed_subtests[class_name] += report.passed
        if report.failed:
            outcomes[class_name][test_name] = "failed"
    elif report.when == "call" or not report.passed:
        outcomes[class_name].setdefault(test_name, report.outcome)


def worse_than_stock() -> dict[str, str]:
    """The tests that Hugging Face's GPT-2 passes in this run and ours do not, unless explained."""
    ours, stock = outcomes["GPT2ScratchConformanceTest"], outcomes["StockGPT2ConformanceTest"]
    if not ours or not stock:  # a run of one of them, chosen with -k
        return {}
    return {
        name: ours.get(name, "missing")
        for name, outcome in stock.items()
        if outcome == "passed" and ours.get(name) != "passed" and name not in EXPLAINED
    }


def pytest_sessionfinish(session):
    if worse_than_stock() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section(f"conformance to transformers {transformers.__version__}")
    for class_name, results in sorted(outcomes.items()):
        counts = Counter(results.values())
        terminalreporter.line(
            f"{class_name:30}"
            + "".join(f"{counts[kind]:6} {kind}" for kind in OUTCOMES)
            + f"{passed_subtests[class_name]:8} subtests passed"
        )
    ours, stock = outcomes["GPT2ScratchConformanceTest"], outcomes["StockGPT2ConformanceTest"]
    for name in sorted(name for name in ours if ours[name] == "passed" and stock.get(name) == "skipped"):
        terminalreporter.line(f"passed here, skipped by Hugging Face's GPT-2: {name}")
    for name, outcome in sorted(worse_than_stock().items()):
        terminalreporter.line(f"FAILED: passed by Hugging Face's GPT-2, {outcome} here: {name}")
    for name, reason in EXPLAINED.items():
        terminalreporter.line(f"skipped here: {name}: {reason}")


def pytest_configure(config):
    for marker in (
        "accelerate_tests",
        "flash_attn_test",
        "flash_attn_3_test",
        "flash_attn_4_test",
        "generate",
        "is_fsdp_test",
        "is_tensor_parallel_test",
        "is_training_test",
        "order",
        "torch_compile_test",
    ):
        config.addinivalue_line("markers", f"{marker}: transformers' own")
