"""Figures before the first step are measured once, and read by the starts that resume a run."""

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
