"""The report while the run trains."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from train.run_files import REPORT_DATA_FILE, REPORT_FILE, write_whole
from train.run_report.environment import describe_environment, shorten_paths_in
from train.run_report.page import write_page
from train.run_report.run_record import Condition, read_run


logger = logging.getLogger(__name__)

SHARE_OF_TIME = 0.01  # that writing may take between evaluations


class RunReport(TrainerCallback):
    """Writes `report.html`, and `report.json` with what it needs and no other file says: at the start, with the log,
    after each evaluation and save, and at the end; in the main process only.

    It draws no random number and reads no device, so that training is the same with it. Its errors are warnings.
    `facts` are known before the first step, under the names of `results.json`; if not `wanted`, nothing is written.
    """

    def __init__(self, folder: Path, facts: dict, wanted: bool = True):
        self.folder = folder
        self._record: dict = {**facts, "starts": []}
        self._wanted = wanted
        self._state: TrainerState | None = None
        self._is_due = False
        self._has_failed = False
        self._next_at = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        if not self._wanted or not state.is_world_process_zero:
            return
        self._state = state  # the same object until the end of the training
        with self._only_warning():
            if state.global_step:  # resumed
                self._record["starts"] = read_run(self.folder, is_held=True).record.get("starts", [])
            self._record["starts"].append({"step": state.global_step, "environment": describe_environment(args)})
        self.write("running")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        if time.monotonic() >= self._next_at:
            self._is_due = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self._is_due = True

    on_save = on_evaluate

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        # Here and not in the events above, of which one step can have all.
        if self._is_due:
            self.write("running")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self.write("running")  # the last evaluation follows

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Around the training: an error that ends it is in the report."""
        try:
            yield
        except BaseException as error:
            self._record["reason"] = shorten_paths_in(f"{type(error).__name__}: {error}")
            self.write("stopped" if isinstance(error, KeyboardInterrupt) else "failed")
            raise

    def write(self, condition: Condition) -> None:
        """Write the page now; "finished" is for after the last file of the run."""
        if self._state is None:
            return
        began = time.monotonic()
        self._is_due = False
        self._record |= {
            "condition": condition,
            "updated_at": time.time(),
            "step": self._state.global_step,
            "total_steps": self._state.max_steps,
        }
        with self._only_warning():
            log = json.dumps(self._state.log_history)
            self._record["log"] = json.loads(log, parse_constant=lambda constant: None)  # JSON has no NaN
            write_whole(self.folder / REPORT_DATA_FILE, json.dumps(self._record))
            write_page(read_run(self.folder, is_held=condition != "finished"), self.folder / REPORT_FILE)
            self._has_failed = False
        ended = time.monotonic()
        self._next_at = ended + (ended - began) / SHARE_OF_TIME

    @contextmanager
    def _only_warning(self) -> Iterator[None]:
        """No page is worth a run: an error is told, once for as long as it lasts."""
        try:
            yield
        except Exception as error:
            if not self._has_failed:
                logger.warning("report.html could not be written; the run goes on. %s: %s", type(error).__name__, error)
            self._has_failed = True
