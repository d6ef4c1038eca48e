# For pyright, which has partial types of TensorFlow that are wrong in places: everything is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
