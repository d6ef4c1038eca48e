import subprocess
import sys
from pathlib import Path


def test_the_check_command_finds_nothing():
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", root], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
