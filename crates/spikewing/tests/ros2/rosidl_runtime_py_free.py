"""What `rosidl_runtime_py.utilities` would do; it is not among the wheels."""

import importlib


def message_class(ros_type):
    package, folder, name = ros_type.split("/")
    return getattr(importlib.import_module(f"{package}.{folder}"), name)
