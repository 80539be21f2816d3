"""Bodies of up to 1 MiB that are expensive to refuse, by what they are full of; each with the path it is sent to."""

from __future__ import annotations

__all__ = ["BODIES", "MIB"]

MIB = 2**20
MODEL = '{"model":"shapes-sit",'


def filled(start: str, part: str, end: str, size: int = MIB) -> bytes:
    """A body of this size: a start, the same part as often as it fits with commas between, and an end."""
    times = (size - len(start) - len(end) + 1) // (len(part) + 1)
    return (start + ",".join([part] * times) + end).encode()


def fields(count: int) -> str:
    return ",".join(f'"f{number}":0' for number in range(count))


BODIES: dict[str, tuple[str, bytes]] = {
    "empty prunes": ("/studies", filled(MODEL + '"prunes":[', "{}", "]}")),
    "empty measures": ("/studies", filled(MODEL + '"measures":[', '""', "]}")),
    "empty grids": ("/studies", filled(MODEL + '"grid":[', "{}", "]}")),
    "empty schedules": ("/studies", filled(MODEL + '"grid":{"thresholds":[1],"schedules":[', "{}", "]}}")),
    "labels of a wrong type": ("/prune-sample", filled(MODEL + '"threshold":1,"labels":[', "{}", "]}")),
    "negative labels": ("/prune-sample", filled(MODEL + '"threshold":1,"labels":[', "-1", "]}")),
    "labels that no class has": ("/prune-sample", filled(MODEL + '"threshold":1,"labels":[', '"\\ud83d"', "]}")),
    "thresholds": ("/prune-sample", filled(MODEL + '"threshold":[', "1", "]}")),
    "times": ("/extract", filled(MODEL + '"timesteps":[', '"a"', "]}")),
    "unknown fields": ("/prune-sample", f"{{{fields(95_000)}}}".encode()),
    "unknown fields of a nested object": (
        "/prune-sample",
        f'{MODEL}"threshold":1,"schedule":{{{fields(80_000)}}}}}'.encode(),
    ),
    "unknown fields of many prunes": ("/studies", filled(MODEL + '"prunes":[', f"{{{fields(99)}}}", "]}")),
    "few unknown fields of many prunes": ("/studies", filled(MODEL + '"prunes":[', f"{{{fields(15)}}}", "]}", 120_000)),
    "unknown fields of long names": (
        "/prune-sample",
        ("{" + ",".join(f'"{number}{"é" * 5000}":0' for number in range(99)) + "}").encode(),
    ),
    "repeated names": ("/prune-sample", filled("{", '"model":"a"', "}")),
    "many repeated names": (
        "/studies",
        filled(MODEL + '"prunes":[', '{"keep":1,"keep":1,"fill":"zero","fill":"zero"}', "]}"),
    ),
    "one long text": ("/prune-sample", f'{{"model":"{"a" * (MIB - 20)}"}}'.encode()),
    "one long text in a union": ("/prune-sample", f'{MODEL}"threshold":1,"labels":"{"a" * (MIB - 99)}"}}'.encode()),
    "one long name": ("/prune-sample", f'{{"{"é" * (MIB // 2 - 20)}":1}}'.encode()),
    "deep lists": ("/prune-sample", b"[" * MIB),
    "deep objects": ("/prune-sample", b'{"model":' * (MIB // 9)),
    "deep lists that end": ("/prune-sample", b'{"labels":' + b"[" * 900 + b"]" * 900 + b"}"),
    "a number of many digits": ("/prune-sample", b'{"model":"shapes-sit","threshold":' + b"9" * (MIB - 99) + b"}"),
    "numbers of thousands of digits": ("/prune-sample", filled(MODEL + '"threshold":1,"labels":[', "9" * 4000, "]}")),
    "a fraction of many digits": ("/prune-sample", b'{"model":"shapes-sit","threshold":0.' + b"9" * (MIB - 99) + b"}"),
    "commas": ("/prune-sample", b"," * MIB),
    "commas in a list": ("/prune-sample", b'{"labels":[' + b"," * (MIB - 11)),
    "spaces": ("/prune-sample", b" " * MIB),
    "zero bytes": ("/prune-sample", bytes(MIB)),
    "empty lists": ("/compact", filled("[", "[]", "]")),
    "nulls": ("/extract", filled("[", "null", "]")),
}
