"""What kind of machine this is, and with what was measured. No host names, no paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from regrain import __version__, kernels

PACKAGES = ("numpy", "torch", "safetensors", "zipnn", "zstandard", "blosc2")


def describe() -> dict[str, object]:
    """Everything about this machine that a figure may depend on."""
    cpu = _cpu()
    return {
        "kind": kind(),
        "cpu": cpu,
        "cores": cores(),
        "l2_kib": _cache(2),
        "l3_kib": _cache(3),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {' '.join(platform.libc_ver())}",
        "huge_pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "load_average": round(os.getloadavg()[0], 2),
        "instruction_set": kernels.instruction_set(),
        "instruction_sets": list(kernels.instruction_sets()),
        "python": platform.python_version(),
        "packages": {"regrain": __version__, **{name: found for name in PACKAGES if (found := _version(name))}},
    }


def kind() -> str:
    """A short name of the CPU and its cores, for the name of a file of results."""
    cpu = _cpu()
    names = [cpu["vendor"], f"family{cpu['family']}", f"model{cpu['model']}", f"{cores()}cores"]
    return "-".join(name.lower().replace(" ", "") for name in names)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_bytes(level: int, default: int) -> int:
    """Size of one data cache of that level."""
    return (_cache(level) or 0) * 1024 or default


def _cpu() -> dict[str, str]:
    """Vendor, family, model and name; on processors other than x86 what there is of them."""
    fields: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    vendors = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}
    vendor = fields.get("vendor_id", fields.get("CPU implementer", platform.machine()))
    return {
        "vendor": vendors.get(vendor, vendor),
        "family": fields.get("cpu family", fields.get("CPU architecture", "0")),
        "model": fields.get("model", fields.get("CPU part", "0")),
        "name": fields.get("model name", platform.machine()),
    }


def _cache(level: int) -> int | None:
    """KiB of the data cache of a level that the first processor uses."""
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if int((folder / "level").read_text()) == level and (folder / "type").read_text().strip() != "Instruction":
                return int((folder / "size").read_text().strip().removesuffix("K"))
        except (OSError, ValueError):
            continue
    return None


def _chosen(path: str) -> str | None:
    try:
        text = Path(path).read_text()
    except OSError:
        return None
    return text.partition("[")[2].partition("]")[0]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def huge_bytes() -> int:
    """Bytes of this process that are in huge pages now."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages"))
