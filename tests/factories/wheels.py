"""Wheels for tests, made by hand: pure Python, with a compiled module, and ones that lie about themselves."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sysconfig
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

PURE = "py3-none-any"

_C_MODULE = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static PyObject *twice(PyObject *self, PyObject *argument) {
    long value = PyLong_AsLong(argument);
    if (value == -1 && PyErr_Occurred()) return NULL;
    return PyLong_FromLong(2 * value);
}
static PyMethodDef methods[] = {{"twice", twice, METH_O, "Twice a number."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", NULL, -1, methods};
PyMODINIT_FUNC PyInit_NAME(void) { return PyModule_Create(&module); }
"""


def wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, bytes],
    *,
    tag: str = PURE,
    record: Mapping[str, bytes] | None = None,
) -> str:
    """Write a wheel and return its line in a lock.

    Args:
        folder: the wheelhouse.
        name: of the package.
        version: of the package.
        files: content by path.
        tag: python, abi and platform.
        record: what its RECORD says of some of the files instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    claimed = {**content, **(record or {})}
    lines = [f"{path},sha256={_digest(claimed[path])},{len(content[path])}" for path in content]
    content[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in content.items():
            archive.writestr(member, data)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def compiled_module(folder: Path, name: str) -> dict[str, bytes] | None:
    """A compiled module with one function, `twice`; `None` where there is no C compiler."""
    compiler = shutil.which("cc")
    include = Path(sysconfig.get_path("include"))
    if compiler is None or not (include / "Python.h").exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}.c"
    source.write_text(_C_MODULE.replace("NAME", name))
    built = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", f"-I{include}", "-o", built, source], check=True
    )
    return {built.name: built.read_bytes()}


def platform_tag() -> str:
    """The tag of a wheel that is made for this interpreter and machine alone."""
    version = sysconfig.get_config_var("py_version_nodot")
    system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"cp{version}-cp{version}-{system}"


def _digest(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
