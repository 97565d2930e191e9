"""Peak anonymous memory over the baseline after imports, in fresh processes."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from models import MODELS, artifact_file, model_file, need
from peers import missing, peers
from safetensors import safe_open
from setup import Setup
from tables import Goal, Shown, Table

NAMES = ("minilm-bf16", "minilm-fp32")
ALLOWED = 64e6
PAUSE = 1e-4

# The child says when it is ready, waits, does the job, says so, and waits again so that its last state is seen too.
CHILD = """
import sys
{setup}
print("ready", flush=True); sys.stdin.readline()
result = {job}
print("done", flush=True); sys.stdin.readline()
"""
LOAD = "import regrain.numpy, ml_dtypes"
COMPRESS = "import regrain, regrain.pipelines.compress"


def measure(setup: Setup) -> dict[str, Any]:
    return {name: _measure(name, setup) for name in (NAMES[:1] if setup.quick else NAMES)}


def _measure(name: str, setup: Setup) -> dict[str, Any]:
    plain = need(model_file(name, setup.folder), MODELS[name].package)
    artifact = need(artifact_file(name, setup.folder), MODELS[name].package)
    target = setup.folder / "memory.regrain.safetensors"
    times = 1 if setup.quick else 5
    peaks = {
        f"load_file, {count}": [
            _peak(LOAD, f"regrain.numpy.load_file({str(artifact)!r}, threads={threads})") for _ in range(times)
        ]
        for threads, count in ((1, "one thread"), (2, "2 threads"))
    }
    for threads, count in ((1, "one thread"), (2, "2 threads")):
        job = f"regrain.compress({str(plain)!r}, {str(target)!r}, force=True, threads={threads})"
        peaks[f"compress, {count}"] = [_peak(COMPRESS, job) for _ in range(times)]
    if "zipnn" not in missing():
        peer = next(peer for peer in peers(MODELS[name].dtype) if peer.name == "ZipNN")
        path = setup.folder / f"{name}.zipnn"
        path.write_bytes(peer.compress(bytearray(plain.read_bytes())))
        find = f"next(p for p in peers.peers({MODELS[name].dtype!r}) if p.name == 'ZipNN')"
        load = f"import peers, pathlib; peer = {find}; path = pathlib.Path({str(path)!r})"
        peaks["ZipNN decompress, file mapped"] = [
            _peak(load, "peer.decompress(peers.mapped(path))") for _ in range(times)
        ]
    return {"result": _tensor_bytes(plain, sum), "largest": _tensor_bytes(plain, max), "peaks": peaks}


def _tensor_bytes(plain: Path, fold: Any) -> int:
    import math

    with safe_open(plain, "np") as file:
        parts = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - no dict
        width = {"BF16": 2, "F16": 2, "F32": 4, "I64": 8}
        return int(fold(math.prod(part.get_shape()) * width[part.get_dtype()] for part in parts))


def _peak(setup: str, job: str) -> int:
    """Bytes of anonymous memory that `job` takes at most, beyond what is there after `setup`."""
    script = CHILD.format(setup=setup, job=job)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # or a line could wait in a buffer, where `select` does not see it
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path]))},
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        baseline = peak = _anonymous(child.pid)
        child.stdin.write(b"\n")
        while not select.select([child.stdout], [], [], PAUSE)[0]:
            peak = max(peak, _anonymous(child.pid))
        child.stdout.readline()
        peak = max(peak, _anonymous(child.pid))
        child.stdin.write(b"\n")
    if child.returncode:
        raise SystemExit(f"{job} must not fail")
    return peak - baseline


def _anonymous(pid: int) -> int:
    """RssAnon of a process in bytes: neither mapped files nor the page cache are in it."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("RssAnon")), 0)


def show(result: dict[str, Any]) -> Shown:
    shown = Shown()
    for name, found in result.items():
        title = MODELS[name].title
        rows = []
        for job, peaks in found["peaks"].items():
            wanted = found["largest"] if job.startswith("compress") else found["result"]
            peak = max(peaks)
            rows.append([job, f"{peak / 1e6:.1f}", f"{wanted / 1e6:.1f}", f"{(peak - wanted) / 1e6:+.1f}"])
            if not job.startswith("ZipNN"):
                text = f"{title}: {job}, MB beyond " + ("the largest tensor" if job[0] == "c" else "the result")
                shown.goals.append(Goal(text, (peak - wanted) / 1e6, ALLOWED / 1e6, least=False, form=".0f"))
        columns = ["job", "peak, MB", "result or largest tensor, MB", "difference"]
        shown.tables.append(Table(f"{title}: memory", columns, rows))
    return shown
