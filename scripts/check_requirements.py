"""Says in a line why this Python does not meet requirements.txt, and exits with 1; silent and 0 if it does.

python scripts/check_requirements.py requirements.txt
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, version


def numbers(text):
    """2.13.0+cpu -> (2, 13, 0): what a range compares; a build's own suffix does not count."""
    return tuple(int(n) for n in re.match(r"\d+(?:\.\d+)*", text)[0].split("."))


def fault(line):
    name, bounds = re.match(r"([\w.-]+)(.*)", line).groups()
    try:
        have = numbers(version(name))
    except PackageNotFoundError:
        return f"{name} is missing"
    for sign, wanted in re.findall(r"(>=|<=|==)\s*([\w.]+)", bounds):
        size = max(len(have), len(numbers(wanted)))
        ours, theirs = ((n + (0,) * size)[:size] for n in (have, numbers(wanted)))
        if not {">=": ours >= theirs, "<=": ours <= theirs, "==": ours == theirs}[sign]:
            return f"{name} is {version(name)}, {sign}{wanted} is asked for"
    return None


if __name__ == "__main__":
    if sys.version_info < (3, 10):
        sys.exit(f"Python is {sys.version.split()[0]}, 3.10 or newer is asked for")
    with open(sys.argv[1], encoding="utf-8") as file:
        found = [fault(line) for line in map(str.strip, file) if line and not line.startswith("#")]
    sys.exit(next((text for text in found if text), 0))
