"""The parts of doc/performance.md that programs write, between two marks each."""
import os
from .server import HERE

DOCUMENT = os.path.join(os.path.dirname(HERE), "doc", "performance.md")


def put(name, writer, lines):
    with open(DOCUMENT) as file:
        text = file.read()
    begin, end = f"<!-- {name}: begin, written by {writer} -->\n", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise SystemExit(f"{writer}: {DOCUMENT} has no place for {name}: it needs the lines {begin.strip()} and {end}")
    text = text[:text.index(begin) + len(begin)] + "\n".join(lines) + "\n" + text[text.index(end):]
    with open(DOCUMENT, "w") as file:
        file.write(text)
