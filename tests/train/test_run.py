"""Figures before the first step are measured once, and read by the starts that resume a run; how a run gives up."""

from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from train import pretrain
from train.run import figures_before


def test_a_resumed_run_reads_the_figures_of_its_first_start(tmp_path):
    def measure() -> dict:
        measured.append(1)
        return {"exam": [{"exercise": "mcq"}]}

    measured: list[int] = []
    first = figures_before(tmp_path, is_resumed=False, writes=True, measure=measure)
    assert figures_before(tmp_path, is_resumed=True, writes=True, measure=measure) == first
    assert len(measured) == 1
    figures_before(tmp_path, is_resumed=False, writes=True, measure=measure)
    assert len(measured) == 2


def test_a_process_that_does_not_write_measures_all_the_same(tmp_path):
    assert figures_before(tmp_path, is_resumed=True, writes=False, measure=lambda: {"exam": []}) == {"exam": []}
    assert not list(tmp_path.iterdir())


def test_a_launcher_of_several_processes_is_told_the_last_line(tmp_path, monkeypatch, caplog):
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert pretrain.main(["--learning_rate", "nan"]) == 2
        failure = ProcessFailure(int(rank), pid=1, exitcode=2, error_file=str(file))
        assert failure.message.startswith("pretrain.py: --learning_rate nan must be a finite number")
    assert len(caplog.records) == 1  # one process of a machine prints it, too
