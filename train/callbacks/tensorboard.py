"""TensorBoard for runs that are stopped and resumed."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from transformers.integrations import TensorBoardCallback

from train.run_files import grid_of_samples, read_samples


class RunTensorBoard(TensorBoardCallback):
    """Identical to transformers' `TensorBoardCallback`, except that

    - all starts of a run draw into one folder, and a resumed one removes the points after its checkpoint's step;
    - after each evaluation the run's text samples appear as a table.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.logging_dir = str(folder)

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            # At a fresh start 0, which removes what a start drew that was killed before its first checkpoint.
            first_step = state.global_step + 1 if state.global_step else 0
            self.tb_writer = SummaryWriter(self.logging_dir, purge_step=first_step)
        super().on_train_begin(args, state, control, **kwargs)

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        if self.tb_writer is not None and (samples := read_samples(Path(args.output_dir))):
            self.tb_writer.add_text("samples", render_samples(samples), state.global_step)
            self.tb_writer.flush()


def render_samples(samples: list[dict]) -> str:
    """A Markdown table with a row for each step and a column for each question."""
    questions, texts = grid_of_samples(samples)
    lines = [["step", *questions], ["---"] * (len(questions) + 1)]
    lines += [[f"{step:,}", *answers] for step, answers in texts.items()]
    return "\n".join(f"| {' | '.join(map(_escape, line))} |" for line in lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")
