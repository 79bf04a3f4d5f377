"""Policy files: sound ones, dead ones that are well formed, and broken ones."""

import json
import math
import struct

from ros import ROOT

STUDENT = {vehicle: ROOT / f"policies/{vehicle}/student.safetensors" for vehicle in ("crazyflie", "x500")}


def read(vehicle):
    data = STUDENT[vehicle].read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])


def write(header, data):
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)


def put(header, data, name, values):
    begin, end = header[name]["data_offsets"]
    raw = struct.pack(f"<{len(values)}f", *values)
    assert len(raw) == end - begin, name
    data[begin:end] = raw


def sound(vehicle, note=""):
    header, data = read(vehicle)
    header["__metadata__"]["note"] = note
    return write(header, data)


def constant(vehicle, motors):
    """A dead student: always the same command. Its self-test is right."""
    header, data = read(vehicle)
    rows, columns = header["fc3.weight"]["shape"]
    put(header, data, "fc3.weight", [0.0] * (rows * columns))
    bias = [math.atanh(max(-0.999999, min(0.999999, m))) for m in motors]
    put(header, data, "fc3.bias", bias)
    rounded = struct.unpack("<4f", struct.pack("<4f", *bias))
    steps = header["selftest.output"]["shape"][0]
    put(header, data, "selftest.output", [math.tanh(b) for b in rounded] * steps)
    return write(header, data)


KINDS = ["bits", "cut", "random", "nan", "huge", "vehicle", "shape", "rate", "selftest", "sha", "header", "empty", "format"]


def broken(vehicle, rng):
    """(kind, bytes, whether the sha256 is right, format)"""
    good = bytearray(sound(vehicle))
    kind, sha, form = rng.choice(KINDS), True, "safetensors"
    header, data = read(vehicle)
    if kind == "bits":
        for _ in range(rng.randrange(1, 20)):
            good[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        sha = rng.random() < 0.5
    elif kind == "cut":
        good = good[: rng.randrange(len(good))]
    elif kind == "random":
        good = bytearray(rng.randbytes(rng.randrange(1, 200000)))
    elif kind in ("nan", "huge"):
        begin = header["fc2.weight"]["data_offsets"][0]
        data[begin : begin + 4] = struct.pack("<f", float("nan") if kind == "nan" else 1e30)
        good = write(header, data)
    elif kind == "vehicle":
        header["__metadata__"]["vehicle"] = "another"
        good = write(header, data)
    elif kind == "rate":
        header["__metadata__"]["control_rate_hz"] = "500"
        good = write(header, data)
    elif kind == "shape":
        header["fc1.weight"]["shape"] = [18, 256]
        good = write(header, data)
    elif kind == "selftest":
        put(header, data, "fc3.bias", [0.3, -0.3, 0.3, -0.3])
        good = write(header, data)
    elif kind == "sha":
        sha = False
    elif kind == "header":
        good[0:8] = struct.pack("<Q", rng.choice([2**63, 2**40, len(good) * 2]))
    elif kind == "empty":
        good = bytearray()
    elif kind == "format":
        form = "pickle"
    return kind, bytes(good), sha, form
