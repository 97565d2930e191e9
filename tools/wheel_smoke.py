"""Use an installed wheel as a newcomer would, from an environment without torch. Prints what was checked."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors.numpy

import regrain
import regrain.numpy

home = Path(regrain.__file__).parent
assert home.is_relative_to(sys.prefix), f"regrain must come from the wheel, not from {home}"
assert importlib.util.find_spec("torch") is None, "this environment must be without torch"
assert importlib.metadata.version("regrain") == regrain.__version__
assert (home / "py.typed").exists(), "the wheel must be typed"

rng = np.random.default_rng(0)
tensors = {
    "weight": rng.standard_normal((512, 256), np.float32).astype(ml_dtypes.bfloat16),
    "bias": rng.standard_normal(512, np.float32),
    "ids": np.arange(100, dtype=np.int64),
}
command = str(Path(sys.executable).with_name("regrain"))
with tempfile.TemporaryDirectory() as folder:
    plain, packed, back = (
        Path(folder) / name for name in ("m.safetensors", "m.regrain.safetensors", "back.safetensors")
    )
    safetensors.numpy.save_file(tensors, plain)
    for arguments in (
        ["compress", plain, "-o", packed],
        ["verify", packed, "--against", plain],
        ["inspect", packed],
        ["restore", packed, "-o", back],
    ):
        subprocess.run([command, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    assert back.read_bytes() == plain.read_bytes(), "restore must give back the very same bytes"
    assert packed.stat().st_size < plain.stat().st_size
    loaded = regrain.numpy.load_file(packed)
    assert all(loaded[name].tobytes() == tensor.tobytes() for name, tensor in tensors.items())
    print(f"wheel: {plain.stat().st_size:,} bytes -> {packed.stat().st_size:,}, restored byte for byte, without torch")
