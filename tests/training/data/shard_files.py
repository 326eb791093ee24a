"""Small shards of WebDataset, for tests."""

import io
import json
import tarfile
from pathlib import Path

from PIL import Image

SIDE, SHARDS = 32, 3


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (shade, shade, shade)).save(file, "JPEG")
    return file.getvalue()


def write_shards(folder: Path, *, train: int, val: int, step: int = 10, broken: range = range(0)) -> str:
    """Write three shards of a few images of each of two classes; return the source.

    The images have one shade each, which is `step` times their number. Those of `broken` numbers cannot be read.
    """
    info = {}
    for split, count in (("train", train), ("validation", val)):
        numbers = [range(shard, count, SHARDS) for shard in range(SHARDS)]
        names = [f"x-{split}-{shard}.tar" for shard in range(SHARDS)]
        for name, of_shard in zip(names, numbers, strict=True):
            with tarfile.open(folder / name, "w") as tar:
                for number in of_shard:
                    image = b"no image" if number in broken else jpeg(step * number)
                    for suffix, content in (("jpg", image), ("cls", str(number % 2).encode())):
                        entry = tarfile.TarInfo(f"{number:06d}.{suffix}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
        lengths = list(map(len, numbers))
        info[split] = {"name": split, "num_samples": count, "filenames": names, "shard_lengths": lengths}
    (folder / "_info.json").write_text(json.dumps({"splits": info}))
    return f"timm:wds/x@{folder}"
