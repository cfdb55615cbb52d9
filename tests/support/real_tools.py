"""The real tools that other people work with, where ``make neighbours`` and ``make neighbours-heavy`` put them."""

import json
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parents[2] / ".venv-neighbours"


def tool(command, folder, **env):
    """What a tool prints, run in a folder of its own; its environment has no proxies and no home but the folder."""
    program = HERE / command[0]
    assert program.exists(), (
        f"{program}: not installed; run make neighbours, or for garak and pyrit make neighbours-heavy"
    )
    home = {name: str(folder / "home") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [str(program), *map(str, command[1:])],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **home, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def installed(name):
    """The version of a tool."""
    package = HERE / name / "node_modules" / name / "package.json"
    if package.exists():
        return json.loads(package.read_text())["version"]
    (info,) = HERE.glob(f"{name}/lib/*/site-packages/{name}-*.dist-info")
    return info.name.removesuffix(".dist-info").partition("-")[2]
