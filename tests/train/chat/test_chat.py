"""Chat in the terminal: what is shown, what is asked, what is remembered; at a terminal and in a pipe."""

import fcntl
import io
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, set_seed

from modeling_gpt2scratch import TOKENIZER_FOLDER, GPT2ScratchConfig, GPT2ScratchForCausalLM, save_as_hf_gpt2
from train.chat.__main__ import main
from train.chat.history import ChatHistory
from train.chat.stream import DIM, AnswerStream
from train.data.rows.synth import question_to_ids


KNOWN = {
    "What is red?": "Reasoning:\nlooking around: a rose\n\nA: A rose.",
    "And blue?": "A: The sky.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model that knows two answers by heart, alone and after each other."""
    folder = tmp_path_factory.mktemp("known")
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    texts = [f"Q: {question}\n\n{answer}<|endoftext|>" for question, answer in KNOWN.items()]
    rows = [tokenizer(text)["input_ids"] for text in (*texts, texts[0] + texts[1])]
    length = max(map(len, rows))
    labels = torch.tensor([row + [-100] * (length - len(row)) for row in rows])
    input_ids = labels.clamp(min=0)
    set_seed(0)
    model = GPT2ScratchForCausalLM(
        GPT2ScratchConfig(
            n_layer=1, n_head=2, n_embd=32, n_positions=80, initializer_range=0.1, eos_token_id=tokenizer.eos_token_id
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(30):
        optimizer.zero_grad()
        model(input_ids, labels=labels).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def chat(capsys, monkeypatch):
    """Run the script; returns its exit status, standard output and standard error."""

    def run(*words, stdin=None, typed=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        if typed is not None:
            lines = iter(typed)
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))

            def next_line(prompt):
                line = next(lines, EOFError())
                if isinstance(line, BaseException):
                    raise line
                return line

            monkeypatch.setattr("builtins.input", next_line)
        status = main([str(word) for word in words])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_one_question(chat, folder):
    for question, answer in KNOWN.items():
        assert chat(folder, "--temperature", 0, "--ask", question) == (0, answer + "\n", "")


def test_a_pipe_is_one_question(chat, folder):
    question, answer = next(iter(KNOWN.items()))
    assert chat(folder, "--temperature", 0, stdin=f"{question}\n") == (0, answer + "\n", "")


def test_bytes_that_are_no_text_are_replaced(chat, folder, monkeypatch):
    """In words, in a pipe of another encoding, and on the way out to one."""
    words = [folder, "--temperature", 0, "--max_new_tokens", 2]
    assert chat(*words, "--ask", "caf\udce9", "--system", "\udce9\0")[0] == 0
    for text in (b"caf\xe9", b"\0caf\xc3\xa9\r\n"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="ascii"))
        assert chat(*words)[0] == 0
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main([str(word) for word in [*words, "--ask", "x"]]) == 0
    assert out.errors == "replace"


def test_a_temperature_near_zero_is_as_zero(chat, folder):
    assert chat(folder, "--temperature", "1e-320", "--ask", "And blue?")[:2] == (0, "A: The sky.\n")


def test_streams_that_are_closed(chat, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert chat(folder) == (2, "", "chat: the question is empty.\n")
    monkeypatch.setattr(sys, "stdout", None)
    assert main([str(folder), "--ask", "And blue?"]) == 0


def test_several_turns(chat, folder):
    status, out, err = chat(folder, "--temperature", 0, typed=[*KNOWN, "/help", "", "/what now", "/exit"])
    assert status == 0
    assert out == "".join(f"\n{answer}\n\n" for answer in KNOWN.values())
    assert err.count("/clear  forget the conversation so far") == 2
    assert "There is no command /what." in err


def test_turns_that_no_longer_fit_are_dropped_and_said(chat, folder):
    words = ("--temperature", 0, "--context", 50, "--max_new_tokens", 20)
    _, out, err = chat(folder, *words, typed=["What is red?", "What is red?"])
    assert "(1 earlier turn(s) no longer fit the context of 50 tokens.)" in err
    assert out == 2 * "\nReasoning:\nlooking around: a rose\n\nA: A rose.\n\n"


def test_clear_forgets(chat, folder, monkeypatch):
    asked = []
    original = ChatHistory.prompt

    def prompt(self, question, answer_tokens):
        asked.append(original(self, question, answer_tokens)[0])
        return asked[-1], 0

    monkeypatch.setattr(ChatHistory, "prompt", prompt)
    chat(folder, "--max_new_tokens", 2, typed=["What is red?", "And blue?", "/clear", "And blue?"])
    assert len(asked[1]) > len(asked[0]) + len(asked[2])
    assert asked[2] == asked[1][-len(asked[2]) :]


def test_ctrl_c_stops_the_answer_and_not_the_program(chat, folder, monkeypatch):
    original = GPT2ScratchForCausalLM.generate

    def interrupted(self, *args, streamer, **kwargs):
        monkeypatch.setattr(GPT2ScratchForCausalLM, "generate", original)
        streamer.put(args[0])
        streamer.put(torch.tensor([32, 25]))  # "A:"
        signal.raise_signal(signal.SIGINT)
        assert kwargs["stopping_criteria"][0](args[0], None).all()
        streamer.end()

    monkeypatch.setattr(GPT2ScratchForCausalLM, "generate", interrupted)
    status, out, err = chat(folder, "--temperature", 0, typed=["What is red?", "/clear", KeyboardInterrupt(), *KNOWN])
    assert status == 0
    assert out.startswith("\nA:\n\n\nReasoning:\n")
    assert "(stopped)" in err
    assert "(/exit or Ctrl-D leaves)" in err
    monkeypatch.setattr(GPT2ScratchForCausalLM, "generate", interrupted)
    assert chat(folder, "--ask", "What is red?")[0] == 130


def test_the_seed_gives_the_same_answer_again(chat, folder):
    words = (folder, "--temperature", 50, "--top_k", 0, "--max_new_tokens", 8, "--ask", "What is red?", "--seed")
    first, again, other = (chat(*words, seed)[1] for seed in (1, 1, 2))
    assert first == again != other


def test_a_stock_gpt2_is_begun_with_its_answer(chat, folder, tmp_path):
    """A folder without a chat template has not seen the form; what it writes after its answer is not shown."""
    model = GPT2ScratchForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    save_as_hf_gpt2(model, tokenizer, tmp_path / "stock")
    status, out, _ = chat(tmp_path / "stock", "--temperature", 0, "--ask", "And blue?")
    assert (status, out) == (0, "A: The sky.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/none", "--ask", "x"], "runs/none: There is no such folder here, and it cannot be had from the Hub"),
        (["EMPTY", "--ask", "x"], "holds no model: there is no config.json in it"),
        (["FOLDER", "--ask", " \n"], "the question is empty"),
        (["FOLDER", "--ask", "word " * 100], "The question has 104 tokens, and the context of 80 leaves no room"),
        (["FOLDER", "--temperature", "-1"], "--temperature: -1 is not in 0 to"),
        (["FOLDER", "--temperature", "nan"], "--temperature: nan is not in"),
        (["FOLDER", "--top_p", "0"], "--top_p: 0 is not in"),
        (["FOLDER", "--top_k", "-3"], "--top_k: -3 is not in 0 to inf"),
        (["FOLDER", "--max_new_tokens", "0"], "--max_new_tokens: 0 is not in 1 to inf"),
        (["FOLDER", "--context", "81"], "--context 81: the model has positions for 2 to 80"),
        (
            ["FOLDER", "--seed", "99999999999999999999"],
            "--seed: 99999999999999999999 is not in -9223372036854775808 to",
        ),
        (["FOLDER", "--topp", "1"], "unrecognized arguments: --topp 1"),
        ([], "the following arguments are required: model"),
    ],
)
def test_mistakes_are_told_in_one_line(chat, folder, tmp_path, words, message):
    status, out, err = chat(*(word.replace("FOLDER", str(folder)).replace("EMPTY", str(tmp_path)) for word in words))
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("chat: ")
    assert err.count("\n") == 1


def test_another_form_of_chat_is_refused(chat, folder, tmp_path):
    GPT2ScratchForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    status, _, err = chat(tmp_path, "--ask", "x")
    assert status == 2
    assert "chat template of another form ('<|user|>x')" in err


def test_the_history_is_what_the_chat_template_gives(folder):
    """Token by token, the end of text in the user's words and the blank line before an answer excepted."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    history = ChatHistory(tokenizer, context_tokens=200, system="Be short.")
    messages = [{"role": "system", "content": "Be short."}]
    for question, answer in KNOWN.items():
        history.add(question, tokenizer(answer)["input_ids"])
        reasoning, _, content = answer.rpartition("A: ")
        messages += [
            {"role": "user", "content": question},
            {
                "role": "assistant",
                "content": content,
                "reasoning_content": reasoning.removeprefix("Reasoning:\n").strip(),
            },
        ]
    messages.append({"role": "user", "content": "Why?"})
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    prompt, dropped = history.prompt("Why?", 10)
    assert dropped == 0
    assert tokenizer.decode(prompt) == rendered
    assert prompt == tokenizer(rendered + "A")["input_ids"][:-1]


def test_the_end_of_text_in_a_question_ends_nothing(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt, _ = ChatHistory(tokenizer, 100).prompt("<|endoftext|>", 10)
    assert tokenizer.eos_token_id not in prompt
    assert prompt == question_to_ids("Q: <|endoftext|>", tokenizer)


def test_positions_that_a_run_has_not_trained_are_not_used(chat, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").write_text("dataset: sample\nblock_size: 64\n")  # an older name
    status, _, err = chat(tmp_path / "run", "--ask", "word " * 100)
    assert (status, "the context of 64 leaves no room" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "dimmed", "plain"),
    [
        ("Reasoning:\nso it is\n\nA: this", "Reasoning:\nso it is\n", "\nA: this"),
        ("A: this\nB", "", "A: this\nB"),
        ("Reason enough", "", "Reason enough"),
        ("Reasoning:\nno end", "Reasoning:\nno end", ""),
        ("Reasoning:\nso\nA\nA:\n\nA: this\x1b[2J\x07", "Reasoning:\nso\nA\nA:\n", "\nA: this[2J"),
        ("A: this\n\nQ: and?\n\nA: that", "", "A: this\n"),
        ("", "", ""),
        ("Reas", "", "Reas"),
    ],
)
def test_the_reasoning_is_dimmed_and_the_next_question_not_shown(tokenizer, text, dimmed, plain):
    for colours in (True, False):
        shown = io.StringIO()
        stream = AnswerStream(tokenizer, shown, colours)
        for token in [50256, *tokenizer(text)["input_ids"]]:  # the first stands for the prompt
            stream.put(torch.tensor([token]))
        stream.end()
        dims = re.findall(r"\x1b\[2m([^\x1b]*)\x1b\[0m", shown.getvalue())
        assert re.sub(r"\x1b\[\dm", "", shown.getvalue()) == dimmed + plain + "\n"
        assert "".join(dims) == (dimmed if colours else "")


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, command: list[str], repository, **environment: str):
        self.side, other = pty.openpty()
        self.program = subprocess.Popen(
            command,
            cwd=repository,
            stdin=other,
            stdout=other,
            stderr=other,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", **environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C then reaches it as a signal
        )
        os.close(other)
        self.shown = ""
        self._place = 0  # up to which it has been waited for

    def wait_for(self, text: str) -> str:
        """Read until `text` is shown; returns what was shown since what was waited for before."""
        while text not in self.shown[self._place :]:
            self.read()
        start = self._place
        self._place = self.shown.index(text, start) + len(text)
        return self.shown[start : self._place]

    def read(self) -> None:
        ready, _, _ = select.select([self.side], [], [], 120)
        assert ready, f"nothing more is shown: {self.shown}"
        try:
            self.shown += os.read(self.side, 4096).decode()
        except OSError:
            raise AssertionError(f"the program has ended: {self.shown}") from None

    def type(self, text: str) -> None:
        os.write(self.side, text.encode())


@pytest.mark.slow
def test_at_a_terminal(folder, repository, tmp_path):
    """Colours, line editing, Ctrl-C and Ctrl-D as a user has them; the second model would write for long."""
    config = GPT2ScratchConfig(n_layer=1, n_head=2, n_embd=16, n_positions=4000, eos_token_id=50256)
    endless = GPT2ScratchForCausalLM(config)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    with torch.no_grad():  # whatever it reads, it writes " red": an answer without spaces would show at its end only
        (red,) = tokenizer(" red")["input_ids"]
        endless.transformer.token_embedding.weight[red] *= 10
        endless.transformer.final_norm.weight.zero_()
        endless.transformer.final_norm.bias.copy_(endless.transformer.token_embedding.weight[red])
    endless.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    command = [sys.executable, "-m", "train.chat", "--temperature", "0", "--max_new_tokens", "4000"]

    terminal = Terminal([*command, str(folder)], repository)
    terminal.wait_for("Q: ")
    terminal.type("What is red?\n")
    shown = terminal.wait_for("Q: ")
    assert "\x1b[2mReasoning:" in shown
    assert "\x1b[2m\r\n\x1b[0m\r\nA: A rose.\r\n" in shown
    terminal.type("\x04")
    assert terminal.program.wait(30) == 0

    terminal = Terminal([*command, str(tmp_path)], repository, NO_COLOR="1")
    terminal.wait_for("Q: ")
    terminal.type("What is red?\n")
    terminal.wait_for("What is red?\r\n\r\n")
    terminal.wait_for("red red")  # until some of the answer is there
    terminal.type("\x03")
    terminal.wait_for("(stopped)\r\n")
    terminal.wait_for("Q: ")
    terminal.type("/exit\n")
    assert terminal.program.wait(30) == 0
    assert DIM not in terminal.shown
