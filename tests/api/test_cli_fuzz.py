"""No arguments and no environment make the command line print a traceback: 500 random cases in one process.

Nothing is served, started or sent; what would do that is replaced just below the code that reads settings.
"""

import json
import os
import random
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina

from momalisa_api import server
from momalisa_api.cli import main, up
from momalisa_api.settings import Settings
from tests.support.factories import write_card
from tests.support.walk_server import WALK, walk_server

CASES = 500
SEED = int(os.environ.get("MOMALISA_SEED") or 13)
REFUSED = "127.0.0.1:9"
STRANGE = (
    *("", " ", "-", "--", "a", "a b", "ü🦒", "\udcff", "\udcff.gif", "x" * 300, "\n", "%s", "{0}", "../..", "/", "."),
    *("0", "1", "-1", "+1", "1.5", "٣", "²", "1e5", "9" * 5000, "nan", "inf", "-inf", "1e999", "0x10", "true", "auto"),
    *(
        "http://",
        "http://[::1",
        "http://[x]:1",
        "http://a:b",
        "http://a:99999",
        "ftp://a",
        "://",
        "http://\udcff",
        "foo",
    ),
    *(f"http://{REFUSED}", "http://a b", "http://*", "http://.", "socks5://127.0.0.1:9", "foo://a", "http://%zz"),
    *(
        "gs://",
        "s3://a",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:///.",
        "sqlite:////proc/nowhere/x",
        "sqlite:///a?b=c",
    ),
    *("sqlite:///no.sqlite", "sqlite:///file/x.sqlite", "mysql://a", "postgresql://", "postgresql://[::1/x", "file"),
    *(f"postgresql://u@{REFUSED}/x", f"postgresql://{REFUSED}/x?sslmode=require", "postgresql://u@a:x/y", "file/x.gif"),
    *(
        f"postgresql://u@{REFUSED}/x?target_session_attrs=y",
        f"postgres://ü:\udcff@{REFUSED}",
        "postgresql://u@\udcff/x",
    ),
    *("127.0.0.2", "::1", "256.1.1.1", "vertex+", "dns+", "vertex+https://", "dns+http://a:b", "walk.gif", "a.mp4"),
)
# Leads to a server that would be waited for.
ABROAD = ("dns+", "vertex+", "http://.", "http://*")
SETTINGS = [f"MOMALISA_{name.upper()}" for name in Settings.model_fields]
OTHERS = (
    *("MOMALISA_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "COLUMNS"),
    *(
        "LINES",
        "TERM",
        "NO_COLOR",
        "FORCE_COLOR",
        "HOME",
        "LANG",
        "PGSSLMODE",
        "PGPORT",
        "PGPASSFILE",
        "STAMINA_ACTIVE",
    ),
)
WALK_OPTIONS = (
    *("--frames", "--seed", "--spacing", "--effort", "--steps", "--guidance-scale", "--negative-prompt", "--width"),
    *("--height", "--model", "--scheduler", "--frame-ms", "--out", "--url", "--json", "--local"),
)
KIND_OPTIONS = ("--size", "--model", "--frames", "--frame-ms", "-o", "--json", "--local")
STYLE_OPTIONS = ("--style", "--prompt", "--style-picture", "--strength", "--seed")
OPTIONS = {
    "serve": ("--role",),
    "migrate": (),
    "up": ("--replicas", "--first-port"),
    "keys": ("add", "remove"),
    "models": ("list", "default", "retire", "--undo"),
    "hide": (),
    "purge": (),
    "walk": WALK_OPTIONS,
    "replay": ("--out", "--url", "--json", "--local", "--show"),
    "into": ("--motion", "--amplitude", *KIND_OPTIONS, "--extras"),
    "restyle": (*STYLE_OPTIONS, *KIND_OPTIONS),
    "clip": (*STYLE_OPTIONS, "--size", "--model", "-o", "--json"),
    "apart": ("--most", "--threshold", *KIND_OPTIONS, "--extras"),
    "": ("--help", *WALK_OPTIONS),
}

PLAUSIBLE = {
    "--role": "worker",
    "--replicas": "2",
    "--first-port": "31000",
    "--frames": "5",
    "--seed": "auto",
    "--spacing": "ease",
    "--steps": "4",
    "--guidance-scale": "2.5",
    "--negative-prompt": "ü",
    "--width": "64",
    "--height": "64",
    "--model": "test-model",
    "--scheduler": "DDIM",
    "--frame-ms": "50",
    "--out": "film.mp4",
    "--url": "http://127.0.0.1:9",
    "-o": "film.mp4",
    "--extras": "extras",
    "--motion": "dolly",
    "--amplitude": "0.5",
    "--size": "64",
    "--style": "mosaic",
    "--prompt": "a mosaic",
    "--style-picture": "picture.png",
    "--strength": "0.5",
    "--most": "3",
    "--threshold": "0.5",
}
KINDS = ("into", "restyle", "clip", "apart")


class Ended:
    """A process that ended at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.terminate: Callable[[], None] = lambda: None
        self.wait: Callable[[float], int] = lambda timeout: 1
        self.poll: Callable[[], int] = lambda: 1


@pytest.fixture
def harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder to work in, with all effects replaced. Yields the URL of a server that has every walk."""

    for name in list(os.environ):
        if name.startswith("MOMALISA_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "picture.png").write_text("a picture")
    monkeypatch.setattr(server._Server, "run", lambda _: None)
    monkeypatch.setattr(server, "configure_log", lambda settings: None)
    monkeypatch.setattr(up.anyio, "run", lambda *_: 0)
    monkeypatch.setattr(up.subprocess, "Popen", Ended)
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    stamina.set_testing(True)
    with walk_server() as url:
        yield url
    stamina.set_testing(False)


def drawn(dice: random.Random, url: str, card: str) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of one case. Most are plausible, so that cases get past the first check."""

    def value(plausible: str) -> str:
        return plausible if dice.random() < 0.7 else dice.choice(STRANGE)

    command = dice.choice([*OPTIONS, "walk", "walk"])
    arguments = [command] if command else []
    if command in ("walk", "replay", *KINDS):
        arguments += ["--url", value(url)]
    for option in dice.sample(OPTIONS[command], dice.randrange(min(4, len(OPTIONS[command]) + 1))):
        arguments += [option] if PLAUSIBLE.get(option) is None else [option, value(PLAUSIBLE[option])]
    words = {"walk": 2, "keys": 2 if arguments[1:] == [] else 1, "hide": 1, "purge": 1, "replay": 1}.get(command, 0)
    words += (command in KINDS) + dice.choice((0, 0, 0, 1, -1))
    named = ("picture.png", f"{'0' * 32}#1", "http://a/b.png") if command in KINDS else ("walk.gif", "add", "a giraffe")
    arguments += [value(dice.choice(named)) for _ in range(words)]
    environment = {"MOMALISA_MODEL_CARD": card, "MOMALISA_REPLICAS": f"http://{REFUSED}"}
    environment["MOMALISA_DATABASE_URL"] = value("sqlite:///catalogue.sqlite")
    for _ in range(dice.randrange(3)):
        environment[dice.choice(SETTINGS if dice.random() < 0.6 else OTHERS)] = dice.choice(STRANGE)
    environment = {name: value for name, value in environment.items() if not value.startswith(ABROAD)}
    return [argument for argument in arguments if argument], environment


def outcome(arguments: list[str], environment: dict[str, str]) -> int | str | None:
    """The exit code, or the traceback of what should have been a sentence."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main.main(arguments)
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
                return 1
            return end.code
        except BaseException:
            return traceback.format_exc()
    return "main returned"


def test_no_arguments_and_no_environment_make_a_traceback(tmp_path, harmless, capsys):
    """Exit codes are 0 to 3. MOMALISA_SEED repeats or changes the cases."""
    dice, card = random.Random(SEED), str(write_card(tmp_path))
    codes: dict[int | None, int] = {}
    for number in range(CASES):
        arguments, environment = drawn(dice, harmless, card)
        code = outcome(arguments, environment)
        out, errors = capsys.readouterr()
        case = f"case {number} of seed {SEED}: {json.dumps(environment)} momalisa {arguments}"
        assert code in (0, 1, 2, 3), f"{case}\n{code}"
        assert "Traceback" not in out + errors, f"{case}\n{errors}"
        assert code == 0 or errors.strip() or out.strip(), f"{case}\nno message"
        codes[code] = codes.get(code, 0) + 1
    # Otherwise the cases would only try the parser.
    assert codes[0] > CASES / 10


DURATIONS = [name for name, field in Settings.model_fields.items() if field.annotation is float]


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
def test_no_duration_is_endless(tmp_path, monkeypatch, capsys, name, value):
    """Python cannot compute with it, and says so only after the server has started."""
    case = {"MOMALISA_MODEL_CARD": str(write_card(tmp_path)), f"MOMALISA_{name.upper()}": value}
    monkeypatch.setattr(server, "serve", lambda settings: None)
    assert outcome(["serve"], case) == 2
    assert f"MOMALISA_{name.upper()}: Input should be" in capsys.readouterr().err


def real(folder: Path, *arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "momalisa_api.cli.main", *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOMALISA_")}
    return subprocess.run(command, cwd=folder, env=kept | environment, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "sentence"),
    [
        (["walk", "a", "b", "--guidance-scale", "nan"], {}, 2, "--guidance-scale: must be a number"),
        (["walk", "a", "b", "--url", "http://[::1"], {}, 2, "--url: must be the address of a server"),
        (["walk", "a", b"\xff"], {}, 2, "must be valid UTF-8"),
        (["walk", "a", "b", "--out", "x" * 300 + ".gif"], {}, 2, "not a usable file name: File name too long"),
        (["walk", "a", "b", "--url", f"http://{REFUSED}", "--out", "loop.gif"], {}, 3, "No server responds"),
        (["walk", "a", "b", "--local"], {}, 2, "Cannot write .run/up.log"),
        (["walk", "a", "b"], {"MOMALISA_URL": "nonsense"}, 2, "MOMALISA_URL: must be the address of a server"),
        (["up"], {"MOMALISA_PORT": "99999"}, 2, "99999 is not a valid port"),
        (["up"], {"MOMALISA_PORT": "9" * 5000}, 2, "is not a valid port"),
        (["up", "--first-port", "65535"], {}, 2, "65536 is not a valid port"),
        (["up"], {"MOMALISA_HOST": "\udcff"}, 2, "is not a host name"),
        (["up", "--replicas", "0"], {}, 2, "--replicas: must be 1 to 100"),
        (["migrate"], {"MOMALISA_DATABASE_URL": f"postgresql://u@{REFUSED}/x"}, 1, "Connect call failed"),
        (
            ["migrate"],
            {"MOMALISA_DATABASE_URL": "sqlite:///.run/x.sqlite"},
            1,
            "File exists: .run. Check MOMALISA_DATABASE_URL",
        ),
        (["migrate"], {"MOMALISA_DATABASE_URL": "sqlite:///.run"}, 1, "file is not a database"),
        (["replay", ".run"], {}, 2, ".run carries no walk"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_went_wrong_is_a_sentence(tmp_path, arguments, environment, code, sentence):
    """As real processes; `.run` is a file, which is as good as a folder without permission also for root."""
    (tmp_path / ".run").write_text("no database, no film, no folder")
    (tmp_path / "loop.gif").symlink_to("loop.gif")
    done = real(tmp_path, *arguments, **environment)
    assert done.returncode == code
    assert sentence in done.stderr.decode()
    assert b"Traceback" not in done.stdout + done.stderr


def test_a_prompt_that_the_terminal_cannot_show_is_escaped(tmp_path):
    """The film was saved when the summary failed."""
    walk = {**WALK, "spec": {"frames": 2, "stops": ["a giraffe 🦒", "b"]}}
    with walk_server(json.dumps(walk).encode()) as url:
        done = real(tmp_path, "walk", "--url", url, "a giraffe 🦒", "b", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"a giraffe \\U0001f992 -> b" in done.stdout
    assert (tmp_path / "walk.gif").exists()


def test_output_that_cannot_be_written_is_a_sentence(tmp_path):
    """A full disk, and a reader that has ended."""
    with walk_server() as url:
        command = [sys.executable, "-m", "momalisa_api.cli.main", "walk", "--url", url, "a", "b"]
        full = subprocess.run(
            ["sh", "-c", '"$@" >/dev/full', "sh", *command], cwd=tmp_path, capture_output=True, check=False
        )
        gone = subprocess.run(
            ["sh", "-c", '{ "$@"; echo $? >code; } | true', "sh", *command],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
    assert (full.returncode, full.stderr.count(b"No space left on device")) == (1, 1)
    assert b"Traceback" not in full.stderr + gone.stderr
    assert (tmp_path / "code").read_text() == "0\n"
