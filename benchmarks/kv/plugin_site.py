"""The plugin as `pip install` leaves it. vLLM finds its endpoint by entry points, which a folder of sources has not."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "kvstore" / "vllm_plugin"


def install_plugin(folder: Path) -> Path:
    """What to put on an engine's `PYTHONPATH`, made within `folder`. Nothing is downloaded.

    Raises `subprocess.CalledProcessError`.
    """
    source, site = folder / "source" / "halo_vllm", folder / "site"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(site), str(source)], check=True)
    return site
