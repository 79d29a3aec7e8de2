"""transformers' own tests of models, configurations, training and parallelism: on our classes, and on its GPT-2."""

import unittest

from model_testers import OurTester, StockTester
from transformers_tests import test_fsdp_mixin, test_tensor_parallel_mixin
from transformers_tests.generation.test_utils import GenerationTesterMixin
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin
from transformers_tests.test_training_mixin import TrainingTesterMixin


class AllMixins(
    ModelTesterMixin,
    GenerationTesterMixin,
    TrainingTesterMixin,
    test_tensor_parallel_mixin.TensorParallelTesterMixin,
    test_fsdp_mixin.FSDPTesterMixin,
):
    """The tests that transformers runs on each of its decoder models."""

    model_tester_class: type
    model_tester = None

    def setUp(self):
        self.model_tester = self.model_tester_class()
        self.all_model_classes = self.model_tester.all_model_classes()

    def test_config(self):
        ConfigTester(self, config_class=self.model_tester_class.config_class).run_common_tests()


class GPT2ScratchConformanceTest(AllMixins, unittest.TestCase):
    model_tester_class = OurTester


class StockGPT2ConformanceTest(AllMixins, unittest.TestCase):
    model_tester_class = StockTester
