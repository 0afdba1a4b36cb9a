from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import coarsegrad
from coarsegrad import packed
from coarsegrad.cli import app
from coarsegrad.packed import Program, Sign
from commandline import Run

COMMAND = [sys.executable, "-m", "coarsegrad.cli"]
COMMANDS = ("train", "summary", "check", "convert", "pack", "verify", "predict", "bench", "demo",
            "reproduce", "doctor")  # fmt: skip


def test_help_names_every_command_and_the_exit_codes(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.out
    assert "..." not in done.out.partition("Commands:")[2], "a command's first line is cut off"
    assert "Exit codes: 0 done; 1 an error that its message explains" in done.out
    assert "--install-completion" in done.out
    assert run().out == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_json_and_help_in_80_columns(command: str, run: Run) -> None:
    done = run(command, "--help")
    assert done.code == 0
    assert "--json" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert [c.callback.__name__ for c in app.registered_commands] == list(COMMANDS)


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.code, done.out) == (0, f"coarsegrad {coarsegrad.__version__}\n")


WRONG = [
    (["fly"], "No such command 'fly'"),
    (["pack"], "Missing argument 'SOURCE'"),
    (["pack", "x", "--zip"], "No such option: --zip"),
    (["bench", "x.cgrad", "--batch", "0"], "should be greater than or equal to 1"),
    (["convert", "mynets:floats", "--first", "bits"], "'bits' is not one of"),
    (["pack", "mynets:pair", "--as-built"], "--out FILE.cgrad is needed to pack mynets:pair"),
    (["verify", "mynets:pair", "--as-built"], "verify SOURCE FILE"),
    (["summary", "x.cgrad", "--input", "8"], "--input and --averaged are for models"),
    (["train", "mnist_small_cnn", "--set", "epochs"], "needs KEY=VALUE"),
    (["train", "mnist_small_cnn", "--set", "ste=[a"], "is not YAML"),
    (["train", "mnist_small_cnn", "--seeds", "2", "--set", "seed=3"], "exclude each other"),
    (["reproduce", "bnn"], "no paper 'bnn'; there are: bamsprod, "),
    (["reproduce", "coarse-gradient", "fig9"], "no item 'fig9'; it has: lemmas, fig3"),
    (["reproduce", "coarse-gradient", "--seeds", "0"], "should be greater than or equal to 1"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=str)
def test_wrong_usage_is_2_and_names_the_help(words: list[str], message: str, run: Run) -> None:
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert message in done.said
    assert "Usage: coarsegrad" in done.err
    as_json = run(*words, "--json")
    assert as_json.code == 2
    found = json.loads(as_json.out)["error"]
    assert found["kind"] == "UsageError"
    assert message in found["message"]


def test_an_error_in_json_is_one_document(run: Run) -> None:
    done = run("predict", "none.cgrad", "x.npy", "--json")
    assert done.code == 1
    found = json.loads(done.out)["error"]
    assert found["kind"] == "SourceError"
    assert found["message"].startswith("there is no packed file 'none.cgrad'")
    assert done.said == f"error: {found['message']}"


def test_what_the_system_refuses_is_an_error_too(run: Run, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "net.cgrad")

    monkeypatch.setattr("coarsegrad.runtime.load", full)
    Path("net.cgrad").write_bytes(b"")
    done = run("predict", "net.cgrad", "x.npy")
    assert (done.code, done.out) == (1, "")
    assert done.said == "error: [Errno 28] No space left on device: 'net.cgrad'"


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["lines", "one flush"])
def test_a_reader_that_leaves_is_no_error(options: list[str], tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", Program((3,), (Sign(),), {}))
    np.save(tmp_path / "x.npy", np.ones((9, 3), np.float32))
    with subprocess.Popen([*COMMAND, "predict", "net.cgrad", "x.npy", *options], cwd=tmp_path,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, "PYTHONUNBUFFERED": ""}) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_piped_output_is_plain_and_80_wide(tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", Program((3,), (Sign(),), {}))
    environment = {**os.environ, "FORCE_COLOR": "1"}
    environment.pop("COLUMNS", None)
    done = subprocess.run([*COMMAND, "summary", "net.cgrad"], capture_output=True, text=True,
                          check=False, cwd=tmp_path, env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "┃" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def on_a_terminal(words: list[str], cwd: Path, **environment: str) -> str:
    """Return what a command writes to a terminal."""
    import pty

    ours, theirs = pty.openpty()
    given = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", **environment}
    with subprocess.Popen([*COMMAND, *words], stdout=theirs, stderr=theirs, cwd=cwd, env=given):
        os.close(theirs)
        written = b""
        while True:
            try:
                written += os.read(ours, 1 << 16)
            except OSError:  # the other side is closed
                break
    os.close(ours)
    return written.decode()


def test_no_color_is_honoured(tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", Program((3,), (Sign(),), {}))
    assert "\x1b[" in on_a_terminal(["summary", "net.cgrad"], tmp_path)
    assert "\x1b" not in on_a_terminal(["summary", "net.cgrad"], tmp_path, NO_COLOR="1")


def test_predict_needs_no_torch(tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", Program((3,), (Sign(),), {}))
    np.save(tmp_path / "x.npy", np.array([[-1, 2, -1]], np.float32))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from coarsegrad.cli import main\n"
        "sys.exit(main(['predict', 'net.cgrad', 'x.npy']) + main(['summary', 'net.cgrad']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=False, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1\n")
    assert "total: the file" in done.stdout


def test_without_the_train_extra_it_says_what_to_install(run: Run, monkeypatch) -> None:
    Path("empty").mkdir()
    monkeypatch.setitem(sys.modules, "torch", None)
    for words in (["pack", "empty"], ["train", "mnist_mlp"], ["demo"], ["check", "mynets:pair"]):
        done = run(*words)
        assert (done.code, done.out) == (1, "")
        assert "pip install 'coarsegrad[train]'" in done.said


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    command = [*COMMAND, "train", "digits_small_cnn", "--json",
               "--set", "model=mlp", "--set", "checkpoint_every=1"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE)  # fmt: skip
    while not (tmp_path / "runs/digits_small_cnn/last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate()
    assert process.returncode == 130
    assert "interrupted; go on with the same command and --resume" in said
    assert json.loads(out)["error"]["kind"] == "KeyboardInterrupt"
    assert not list((tmp_path / "runs/digits_small_cnn").glob("*.part"))


def fastest(*arguments: str, tries: int = 7) -> float:
    times = []
    for _ in range(tries):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        times.append(time.perf_counter() - begin)
    return min(times)


@pytest.mark.slow
def test_quick_to_start() -> None:
    """Ratios to an empty Python with numpy, since these machines are noisy."""
    numpy_alone = fastest("-c", "import numpy")
    help_ = fastest("-m", "coarsegrad.cli", "--help")
    runtime = fastest("-c", "import coarsegrad.runtime")
    print(f"--help {help_:.3f} s, import runtime {runtime:.3f} s, import numpy {numpy_alone:.3f} s")
    assert help_ < 5 * numpy_alone
    assert runtime < 2.5 * numpy_alone
