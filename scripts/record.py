#!/usr/bin/env python3
"""Records a real run for the README: docs/run.svg.

A real server, the real git, the real Claude Code CLI and the real `agenticore` on a terminal of 100 columns; what answers
Claude and takes the pull request is the tests' stand-in on loopback (tests/deploy/outside.py), so no key and no network
are needed. `make recording` runs it. Touches nothing but a temporary directory, target/ and docs/run.svg.
"""

import html
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import time
import fcntl
import termios

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tests/deploy"))
import outside  # noqa: E402

COLUMNS = 100
# No pause is shown longer than this, in seconds.
LONGEST_PAUSE = 0.9
TASK = "greet the reader by name"
STEPS = [
    ("bash", "ls; cat README.md"),
    ("write", "greet.sh #!/bin/sh\necho \"Hello, ${1:-reader}.\""),
    ("bash", "chmod +x greet.sh && ./greet.sh Ada"),
    ("bash", "printf '\\nTry `./greet.sh Ada`.\\n' >> README.md"),
    ("say", "I added `greet.sh`, which greets whoever is named, and mentioned it in the README."),
]


class Model(outside.Outside):
    """Carries out STEPS, whatever it is told."""

    def messages(self, handler, body):
        played = sum(
            1
            for message in body["messages"]
            if message["role"] == "user" and isinstance(message["content"], list)
            for block in message["content"]
            if block.get("type") == "tool_result"
        )
        verb, argument = STEPS[min(played, len(STEPS) - 1)]
        path, _, text = argument.partition(" ")
        block = {
            "say": lambda: {"type": "text", "text": argument},
            "bash": lambda: outside.tool("Bash", {"command": argument, "description": "run it"}),
            "write": lambda: outside.tool("Write", {"file_path": path, "content": text + "\n"}),
        }[verb]()
        outside.stream(handler, body, block)


def on_a_terminal(words, environment):
    """Runs a command; returns what it showed as (seconds, text)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(words[0], words, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    begin, pieces = time.monotonic(), []
    while time.monotonic() - begin < 120:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        pieces.append((time.monotonic() - begin, piece))
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{words} ended with {os.waitstatus_to_exitcode(status)}: {b''.join(text for _, text in pieces).decode()}")
    return [(at, text.decode(errors="replace")) for at, text in pieces]


def lines_of(pieces, begin):
    """Whole lines, each with when it came."""
    lines, rest, at = [], "", begin
    for seconds, text in pieces:
        at = begin + seconds
        rest += text.replace("\r\n", "\n").replace("\r", "\n")
        *whole, rest = rest.split("\n")
        lines += [(at, line) for line in whole]
    lines += [(at, rest)] if rest else []
    return [(at, part) for at, line in lines for part in wrapped(line)]


def wrapped(line):
    """As a terminal breaks a line that is too long."""
    parts, room, colour = [""], COLUMNS, ""
    for piece in re.findall(r"\x1b\[[0-9;]*m|.", line):
        if piece.startswith("\x1b"):
            colour = "" if piece == "\x1b[0m" else piece
        elif room == 0:
            parts.append(colour)
            room = COLUMNS
        room -= not piece.startswith("\x1b")
        parts[-1] += piece
    return parts


COLOURS = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y", "34": "l"}


def drawn(lines):
    """The picture: each line appears when it came; without motion all are there."""
    height = 20 * len(lines) + 56
    css = (
        "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#d7dae0;white-space:pre}"
        ".b{font-weight:700}.d{fill:#8a92a0}.r{fill:#ff7b72}.g{fill:#7ee787}.y{fill:#e3b341}.l{fill:#79c0ff}.p{fill:#7ee787}"
        "g{animation:s .01s both}@keyframes s{from{opacity:0}to{opacity:1}}"
        "@media(prefers-reduced-motion:reduce){g{animation:none}}"
    )
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 {height}" role="img" aria-label="A run of agenticore">',
        f"<title>A run of agenticore in a terminal</title><style>{css}</style>",
        f'<rect width="880" height="{height}" rx="10" fill="#14171c"/>',
        '<circle cx="22" cy="20" r="6" fill="#ff5f57"/><circle cx="42" cy="20" r="6" fill="#febc2e"/><circle cx="62" cy="20" r="6" fill="#28c840"/>',
    ]
    shown, before = 0.0, 0.0
    for number, (at, line) in enumerate(lines):
        shown += min(max(at - before, 0), LONGEST_PAUSE)
        before = at
        spans, mark = [], ""
        for part in re.split(r"(\x1b\[[0-9;]*m)", line):
            code = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
            if code:
                mark = COLOURS.get(code[1], "")
            elif part:
                text = html.escape(part)
                spans.append(f'<tspan class="{mark}">{text}</tspan>' if mark else text)
        y = 54 + 20 * number
        out.append(f'<g style="animation-delay:{shown:.2f}s"><text x="20" y="{y}" xml:space="preserve">{"".join(spans)}</text></g>')
    return "\n".join([*out, "</svg>", ""])


def main():
    claude = subprocess.run([TOP / "scripts/test-tools.sh"], check=True, capture_output=True, text=True).stdout.split()[-1]
    subprocess.run(["cargo", "build", "--release", "--bins"], check=True, cwd=TOP)
    binary = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")) / "release/agenticore"
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        model = Model(place / "outside", tls=False)
        model.repository("you/project")
        url = f"http://localhost:{model.port}"
        # Nothing of this machine's own.
        server = {
            "PATH": f"{binary.parent}:{os.environ['PATH']}",
            "HOME": str(place / "home"),
            "TMPDIR": str(place / "tmp"),
            "TERM": "xterm-256color",
            "AGENTICORE_PORT": "8200",
            "AGENTICORE_POD_NAME": "laptop",
            "AGENTICORE_CLAUDE_BINARY": claude,
            "ANTHROPIC_API_KEY": outside.KEY,
            "ANTHROPIC_BASE_URL": url,
            "GITHUB_SERVER_URL": url,
            "GITHUB_API_URL": f"{url}/api/v3",
            "GITHUB_TOKEN": outside.TOKEN,
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        for made in ("home", "tmp"):
            (place / made).mkdir()
        serving = subprocess.Popen([binary, "serve"], env=server, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            subprocess.run([binary, "status", "--wait", "30"], env=server, check=True, stdout=subprocess.DEVNULL)
            client = {name: server[name] for name in ("PATH", "HOME", "TERM")}
            lines = []
            for words in (["run", TASK, "--repo", f"{url}/you/project.git", "--wait"], ["jobs"]):
                at = lines[-1][0] + 1 if lines else 0
                shown = " ".join(f'"{word}"' if " " in word else word for word in words)
                lines += [(at, f"\x1b[32m$\x1b[0m \x1b[1magenticore {shown}\x1b[0m")]
                pieces = on_a_terminal(["agenticore", *words], client)
                # Where this machine has its temporary files is nobody's business.
                named = [(seconds, text.replace(str(place / "home"), "~").replace(str(place), "")) for seconds, text in pieces]
                lines += lines_of(named, at + 0.5)
                lines.append((lines[-1][0], ""))
        finally:
            serving.terminate()
            serving.wait()
            model.close()
        if model.complaints:
            sys.exit(f"GitHub would not have taken: {model.complaints}")
    (TOP / "docs/run.svg").write_text(drawn(lines[:-1]))
    print(f"docs/run.svg: {len(lines) - 1} lines")


if __name__ == "__main__":
    main()
