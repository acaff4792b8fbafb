"""Makes a model folder of a GGUF file: ``python -m autellix.backends.torch.convert``.

A process of its own, because it holds the interpreter for most of a minute, takes three
times the memory of the model, and writes to the terminal what nobody asked for.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers


def convert(gguf: Path, folder: Path) -> None:
    """Write safetensors in bfloat16, tokenizer and chat template into ``folder``."""
    network: Any = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    network.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name
    )
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
