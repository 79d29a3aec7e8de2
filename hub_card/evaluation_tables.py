"""What `evaluation.json` holds (see `train.evaluation.record`), as Markdown for the card."""

from collections.abc import Sequence

from hub_card.card_tables import escape, table


def loss_table(validation: dict) -> str:
    """Loss, perplexity and bits per byte, of all rows, by exercise and by language, with 95% intervals."""
    groups = [("all", validation["overall"])]
    for kind in ("exercise", "language"):
        by_kind = validation[f"by_{kind}"]
        groups += (
            [(f"{kind}: {escape(name)}", figures) for name, figures in by_kind.items()] if len(by_kind) > 1 else []
        )
    rows = [
        (
            name,
            f"{figures['rows']:,}",
            _with_half(figures["loss"], figures["loss_interval"]),
            f"{figures['perplexity']:,.2f}",
            _with_half(figures["bits_per_byte"], figures["bits_per_byte_interval"]),
            _with_half(figures["answer_loss"], figures["answer_loss_interval"]),
        )
        for name, figures in groups
    ]
    return table(("", "rows", "nats per token", "perplexity", "bits per byte", "answer alone: nats per token"), rows)


def exam_table(exam: dict) -> str:
    """Exact match and form, of all questions and by exercise."""
    marks = [exam["overall"], *(exam["by_exercise"] if len(exam["by_exercise"]) > 1 else [])]
    rows = [
        (
            escape(mark["exercise"]),
            f"{mark['asked']:,}",
            f"{mark['chance']:.1%}",
            f"{mark['exact_match']:.1%}",
            "{:.1%} to {:.1%}".format(*mark["exact_match_interval"]),
            f"{mark['well_formed_share']:.1%}",
            f"{mark['ended_share']:.1%}",
        )
        for mark in marks
    ]
    header = ("exercise", "questions", "chance", "exact match", "95% interval", "well formed", "ended by itself")
    return table(header, rows)


def citations_text(citations: dict | None) -> str:
    """One sentence on the sources that answers to rag questions cite; empty where there are none."""
    if citations is None:
        return ""
    shares = {name: citations[f"{name}_share"] for name in ("exact", "precision", "recall")}
    exact, precision, recall = (
        "none to count" if share is None else f"{share:.1%}" for share in (shares[name] for name in shares)
    )
    return (
        f"In {citations['answers']:,} answers to rag questions, the right sources and no others were cited: {exact}; "
        f"sources cited that were given: {precision}; sources expected that were cited: {recall}."
    )


def tasks_table(tasks: list[dict]) -> str:
    """Tasks of lm-evaluation-harness, beside what was published of GPT-2 small, and where."""
    rows, sources = [], []
    for figure in tasks:
        published = figure["gpt2_small"]
        sources += [one for one in published if one not in sources]
        numbers = [f"{one['value']:.4g}{_shots(one, figure)} [{sources.index(one) + 1}]" for one in published]
        rows.append(
            (
                f"{escape(figure['task'])} {escape(figure['metric'])}",
                "" if figure["samples"] is None else f"{figure['samples']:,}",
                "" if figure["shots"] is None else str(figure["shots"]),
                _with_half(figure["value"], figure["interval"], ".4f"),
                ", ".join(numbers) or "none found",
            )
        )
    header = ("task", "samples", "shots", "this model", "GPT-2 small, as published")
    notes = [
        f"{number}. {escape(one['source'])}" + (f" ({escape(one['note'])})" if one["note"] else "")
        for number, one in enumerate(sources, 1)
    ]
    return "\n\n".join([table(header, rows), *(["\n".join(notes)] if notes else [])])


def comparison_text(comparisons: list[dict]) -> str:
    """What the tests against other models say, a line each; groups only where they differ by more than chance."""
    lines = []
    for comparison in comparisons:
        shown = [test for test in comparison["tests"] if test["group"] == "overall" or test["better"]]
        lines += [f"- {escape(test['sentence'])}" for test in shown]
        lines += [f"- {escape(note)}" for note in comparison["notes"]]
    return "\n".join(lines)


def _with_half(value: float, interval: Sequence[float] | None, form: str = ".3f") -> str:
    """A value and half of its interval."""
    return f"{value:{form}}" if interval is None else f"{value:{form}} ± {(interval[1] - interval[0]) / 2:{form}}"


def _shots(published: dict, figure: dict) -> str:
    return "" if published["shots"] == figure["shots"] else f" ({published['shots']}-shot)"
