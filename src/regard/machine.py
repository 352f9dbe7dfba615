"""What this installation and this machine can do."""

import importlib.metadata
import os
import platform
import time

import torch

PACKAGES = ("torch", "numpy", "safetensors", "sentencepiece", "pydantic", "sacrebleu", "Babel")


def examine() -> dict[str, str]:
    """Versions, devices and measured matrix rates, by name."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {"regard": importlib.metadata.version("regard"), "python": platform.python_version()}
    found |= {name: importlib.metadata.version(name) for name in PACKAGES}
    found["system"] = platform.platform()
    found["threads"] = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    found["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        found[f"matrix product {name}"] = f"{matrix_rate(kind, device):,.0f} GFLOP/s"
    return found


def matrix_rate(kind: torch.dtype, device: torch.device, size: int = 1024, repeats: int = 10) -> float:
    """Measured 10^9 operations per second of a square matrix product."""
    one = torch.randn(size, size, dtype=kind, device=device)
    product = one @ one
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        product = one @ one
    if device.type == "cuda":
        torch.cuda.synchronize()
    del product
    return float(2 * size**3 * repeats / (time.perf_counter() - started) / 1e9)
