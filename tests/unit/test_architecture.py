"""What holds the house together: layers, imports, names, docstrings and what the package ships."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "rootspan"
INTEGRATIONS = sorted(path for path in (ROOT / "integrations").glob("rootspan_*") if path.is_dir())
PACKAGES = [CORE, *INTEGRATIONS]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))

LAYERS = (
    {"errors", "semconv", "record", "description", "log", "version"},
    {"forks"},
    {"freeze", "redaction", "cost", "settings", "ledger", "ids"},
    {"dialect", "encode"},
    {"shortcut"},
    {"transport", "spool"},
    {"pipeline"},
    {"open_span", "host_span"},
    {"scope", "arguments"},
    {"recorder"},
    {"tracking"},
    {"interaction"},
    {"functions"},
    {"decorators", "sessions", "process"},
    {"tracker"},
    {"__init__"},
    {"runs"},
    {"adapter", "testing"},
)
"""A module or package of core imports only from rows above its own; the modules of a package know each other."""

FRAMEWORKS = {
    "rootspan_django": {"django", "asgiref", "rootspan_ui"},  # its command runs `rootspan_ui.check`
    "rootspan_flask": {"flask", "werkzeug", "rootspan_ui"},  # likewise
    "rootspan_langchain": {"langchain_core", "langgraph"},
    "rootspan_starlette": {"starlette", "anyio", "typing_extensions"},  # the last for type checkers only
}
"""What an adapter may import beside the standard library and rootspan: its framework and what that one stands on."""

PUBLIC = ["rootspan", *(f"rootspan.{name}" for name in sorted(LAYERS[-1]))]
ADAPTERS = [path for path in INTEGRATIONS if path.name != "rootspan_ui"]
LONGEST_ADAPTER = 200


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the dotted name of everything that a file imports."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{label(path)}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def lines_of_code(path: Path) -> int:
    """Lines that are not blank, a comment or a docstring."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    source = path.read_text("utf-8")
    tokens = (token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in silent)
    lines = {number for token in tokens for number in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_the_helpers_see_what_they_should(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text('"""Doc."""\n\n# why\nx = """a\nb"""\n\n\ndef f():\n    """Doc\n    more."""\n    return 1\n')
    assert lines_of_code(path) == 4
    assert {"ast", "pathlib.Path", "collections.abc.Iterator"} <= {name for _, name in imported(Path(__file__))}


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=label)
def test_a_module_of_core_imports_only_from_the_rows_above(path: Path) -> None:
    row = {name: number for number, names in enumerate(LAYERS) for name in names}
    name = path.relative_to(CORE).parts[0].removesuffix(".py")
    assert name in row, f"give {name} a row in LAYERS"
    for line, target in imported(path):
        package, _, rest = target.partition(".")
        if package != "rootspan":
            continue
        other = rest.partition(".")[0]
        other = other if (CORE / f"{other}.py").exists() or (CORE / other).is_dir() else "__init__"
        assert other == name or row[other] < row[name], f"{label(path)}:{line} imports {other}: not in a row above"


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=label)
def test_core_imports_no_framework(path: Path) -> None:
    allowed = {"opentelemetry", "orjson", "rootspan", "urllib3", "genai_prices"} | sys.stdlib_module_names
    foreign = {f"line {line}: {target}" for line, target in imported(path) if target.split(".")[0] not in allowed}
    assert not foreign
    assert not [
        name for _, name in imported(path) if name.startswith(("opentelemetry.exporter", "opentelemetry.proto"))
    ]


def test_core_says_all_it_says_through_one_function() -> None:
    """A handler of the host's may raise, and then only `log` keeps that from the call and from the worker."""
    found = {path.name for path in CORE.rglob("*.py") if 'getLogger("rootspan")' in path.read_text("utf-8")}
    assert found == {"log.py"}


def test_importing_rootspan_is_light() -> None:
    """In a fresh interpreter, with warnings as errors: no framework, nothing that only a delivery needs."""
    code = "import json, sys, rootspan; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    loaded = set(json.loads(done.stdout))
    assert "rootspan" in loaded
    heavy = {"django", "flask", "starlette", "fastapi", "langchain_core", "pydantic", "requests", "google.protobuf"}
    assert not loaded & {*heavy, "urllib3", "genai_prices", "numpy"}
    later = ("dialect", "encode", "redaction", "spool", "transport")
    assert not {name for name in loaded if name.startswith(tuple(f"rootspan.{part}" for part in later))}


def test_importing_rootspan_adds_no_library_that_few_calls_need() -> None:
    """Beside what the SDK imports by itself on this Python."""
    code = "import json, sys, opentelemetry.sdk.trace.export; before = set(sys.modules); import rootspan\n"
    code += "print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    added = set(json.loads(done.stdout))
    assert "rootspan" in added
    assert not added & {"fractions", "hashlib", "hmac", "pathlib"}


@pytest.mark.parametrize("package", ADAPTERS, ids=label)
def test_an_adapter_imports_only_rootspan_and_its_framework(package: Path) -> None:
    allowed = {"rootspan", package.name} | FRAMEWORKS[package.name] | sys.stdlib_module_names
    for path in package.rglob("*.py"):
        foreign = {f"line {line}: {target}" for line, target in imported(path) if target.split(".")[0] not in allowed}
        assert not foreign, label(path)


@pytest.mark.parametrize("package", ADAPTERS, ids=label)
def test_an_adapter_is_small(package: Path) -> None:
    sizes = [lines_of_code(path) for path in package.rglob("*.py")]
    # LangChain's events are many and wide: there each module is held to what a web adapter is as a whole.
    assert (max if package.name == "rootspan_langchain" else sum)(sizes) < LONGEST_ADAPTER


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_a_module_has_a_telling_name_and_a_docstring(path: Path) -> None:
    assert not {"utils", "util", "helpers", "base", "manager", "common", "misc"} & set(path.stem.split("_"))
    assert ast.get_docstring(parse(path)), "say in one sentence what it is for"


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_every_public_definition_has_a_docstring(path: Path) -> None:
    body = parse(path).body
    exported = [
        node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    public = set(ast.literal_eval(exported[0])) if exported else None
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert not [
        f"line {node.lineno}: {node.name}"
        for node in body
        if isinstance(node, definitions) and not ast.get_docstring(node)
        if (node.name in public if public is not None else not node.name.startswith("_"))
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name: str) -> None:
    """Every exported function and class, and every public method of such a class."""
    module = importlib.import_module(name)
    undocumented: list[str] = []
    for public in module.__all__:
        thing = getattr(module, public)
        if not (inspect.isclass(thing) or callable(thing)):
            continue
        members = vars(thing).items() if inspect.isclass(thing) and thing.__module__.startswith("rootspan") else ()
        methods = [(key, value) for key, value in members if not key.startswith(("_", "test_")) and documentable(value)]
        undocumented += [f"{public}.{key}" for key, value in methods if not inspect.getdoc(value)]
        if not inspect.getdoc(thing):
            undocumented.append(public)
    assert not undocumented


@pytest.mark.parametrize("package", PACKAGES, ids=label)
def test_the_examples_in_docstrings_run(package: Path) -> None:
    """In a process of their own: they configure the default tracker."""
    for framework in FRAMEWORKS.get(package.name, ()):
        pytest.importorskip(framework, reason="it is not installed here")
    paths = [path for path in sorted(package.rglob("*.py")) if ">>> " in path.read_text("utf-8")]
    parts = [path.relative_to(package.parent).with_suffix("").parts for path in paths]
    needing = set() if importlib.util.find_spec("genai_prices") else {"rootspan.cost"}
    names = [name for part in parts if (name := ".".join(part).removesuffix(".__init__")) not in needing]
    code = "import doctest, importlib, sys; [doctest.testmod(importlib.import_module(n)) for n in sys.argv[1:]]"
    environ = {**os.environ, "ROOTSPAN_DISABLED": "1"}
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, env=environ)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def documentable(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod))


@pytest.mark.parametrize("package", PACKAGES, ids=label)
def test_a_package_is_typed_and_in_the_distribution(package: Path) -> None:
    """A new integration is one line in three places of pyproject.toml; this finds a forgotten one."""
    assert (package / "py.typed").is_file()
    spec = importlib.util.find_spec(package.name)
    assert spec is not None
    assert spec.origin is not None
    tools = (ROOT / "pyproject.toml").read_text("utf-8").partition("[tool.")[2]
    assert tools.count(f'{package.name}"') == 3, "one line each in packages, source_pkgs and toplevel"
    if "TOX_ENV_NAME" in os.environ:
        origin = Path(spec.origin)
        assert "site-packages" in origin.parts, "the tests have to run against the built wheel"
        assert (origin.parent / "py.typed").is_file()


def test_the_changelog_has_an_entry_for_the_version() -> None:
    version = importlib.import_module("rootspan").__version__
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)


def test_the_readme_names_the_options_that_there_are() -> None:
    options = importlib.import_module("rootspan.settings").OPTIONS
    section = (ROOT / "README.md").read_text("utf-8").partition("## Configuration")[2].partition("\n## ")[0]
    assert not {name for name in options if f"`{name}`" not in section}
    table = section.partition("| argument |")[2].partition("\n\n")[0]
    rows = [row.split(" | ")[:2] for row in table.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert named >= {"endpoint", "api_key"}
    assert named <= set(options)
    variables = {name for row in rows for name in re.findall(r"`ROOTSPAN_(\w+)`", row[1])}
    assert variables <= {name.upper() for name, option in options.items() if option.parse}


def test_continuous_integration_runs_the_command_that_the_readme_gives() -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("a source distribution carries no .ci/run")
    commands = re.findall(r"^(pip install .*tox.*)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(commands) == 1
    assert f"({commands[0]})" in script.read_text("utf-8")


def test_the_page_about_web_requests_names_every_option() -> None:
    options = importlib.import_module("rootspan.adapter").RequestOptions
    table = (ROOT / "docs" / "web.md").read_text("utf-8").partition("| option |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert named == [name for name in inspect.signature(options).parameters if not name.startswith("_")]
