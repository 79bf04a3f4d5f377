"""Reads parameter files with ROS 2's own parser (rcl_yaml_param_parser) and prints what it made of them as JSON.

Needs the wheels `ros-jazzy-rcl-yaml-param-parser` beside the Python that runs it. Arguments: files; or `-p VALUE …`.
"""
import ctypes as c
import glob
import json
import math
import sys


class Allocator(c.Structure):
    _fields_ = [(n, c.c_void_p) for n in ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class Array(c.Structure):
    _fields_ = [("values", c.c_void_p), ("size", c.c_size_t)]


class Strings(c.Structure):
    _fields_ = [("size", c.c_size_t), ("data", c.POINTER(c.c_char_p)), ("allocator", Allocator)]


class Variant(c.Structure):
    _fields_ = [
        ("bool", c.POINTER(c.c_bool)), ("integer", c.POINTER(c.c_int64)), ("double", c.POINTER(c.c_double)),
        ("string", c.c_char_p), ("bytes", c.POINTER(Array)), ("bools", c.POINTER(Array)),
        ("integers", c.POINTER(Array)), ("doubles", c.POINTER(Array)), ("strings", c.POINTER(Strings)),
    ]


class Node(c.Structure):
    _fields_ = [("names", c.POINTER(c.c_char_p)), ("values", c.POINTER(Variant)),
                ("count", c.c_size_t), ("capacity", c.c_size_t)]


class Params(c.Structure):
    _fields_ = [("names", c.POINTER(c.c_char_p)), ("nodes", c.POINTER(Node)),
                ("count", c.c_size_t), ("capacity", c.c_size_t), ("allocator", Allocator)]


def library(name):
    for base in [sys.prefix, *sys.path]:
        for path in glob.glob(f"{base}/**/lib{name}.so*", recursive=True):
            return c.CDLL(path, mode=c.RTLD_GLOBAL)
    sys.exit(f"no lib{name}.so below {sys.prefix}")


rcutils = library("rcutils")
parser = library("rcl_yaml_param_parser")
rcutils.rcutils_get_default_allocator.restype = Allocator
parser.rcl_yaml_node_struct_init.restype = c.POINTER(Params)
parser.rcl_yaml_node_struct_init.argtypes = [Allocator]
parser.rcl_parse_yaml_file.restype = c.c_bool
parser.rcl_parse_yaml_file.argtypes = [c.c_char_p, c.POINTER(Params)]
parser.rcl_parse_yaml_value.restype = c.c_bool
parser.rcl_parse_yaml_value.argtypes = [c.c_char_p, c.c_char_p, c.c_char_p, c.POINTER(Params)]


def number(v):
    return v if math.isfinite(v) else str(v)


def array(pointer, kind):
    a = pointer.contents
    return [number(v) if kind is c.c_double else v for v in c.cast(a.values, c.POINTER(kind))[: a.size]]


def value(v):
    if v.bool:
        return {"bool": v.bool.contents.value}
    if v.integer:
        return {"integer": v.integer.contents.value}
    if v.double:
        return {"double": number(v.double.contents.value)}
    if v.string is not None:
        return {"string": v.string.decode()}
    if v.bools:
        return {"bools": array(v.bools, c.c_bool)}
    if v.integers:
        return {"integers": array(v.integers, c.c_int64)}
    if v.doubles:
        return {"doubles": array(v.doubles, c.c_double)}
    if v.strings:
        s = v.strings.contents
        return {"strings": [s.data[i].decode() for i in range(s.size)]}
    return {"empty": True}


def told(ok, params):
    if not ok:
        rcutils.rcutils_reset_error()
        return None
    p = params.contents
    return [
        [p.names[i].decode(), [[n.names[j].decode(), value(n.values[j])] for j in range(n.count)]]
        for i in range(p.count)
        for n in [p.nodes[i]]
    ]


def new():
    return parser.rcl_yaml_node_struct_init(rcutils.rcutils_get_default_allocator())


results = []
if sys.argv[1] == "-p":
    for text in sys.argv[2:]:
        params = new()
        results.append(told(parser.rcl_parse_yaml_value(b"/**", b"x", text.encode(), params), params))
else:
    for path in sys.argv[1:]:
        params = new()
        results.append(told(parser.rcl_parse_yaml_file(path.encode(), params), params))
print(json.dumps(results))
