"""Who may know whom: the levels of pyproject.toml, and providers that nobody else knows by name."""

import ast
import io
import pkgutil
import re
import subprocess
import sys
import tokenize
import tomllib
from functools import cache
from pathlib import Path

import pytest

import receiver
import schemas
from receiver import intake, providers
from receiver.reconcile import records
from schemas.rows import Rows

ROOT = Path(__file__).parents[1]
PROVIDERS = providers.load()
SOURCES = [path for package in (receiver, schemas) for path in Path(package.__path__[0]).rglob("*.py")]
# What a provider's module may import of ours, beside its own schemas.
PROVIDERS_MAY_USE = (
    {"receiver.errors"}
    | {f"schemas.{name}" for name in ("advice", "event", "fields", "repairing", "rows", "times")}
    | {f"receiver.providers.shared.{name}" for name in ("client", "contract", "decoding", "normalising", "redacting")}
)
LONGEST_MODULE = 400  # lines
LONGEST_FUNCTION = 60
LONG_FUNCTIONS = {("receiver/store/tables.py", "define")}  # declares every table, and does nothing else


def own_files(provider):
    """Its module, or all of a package of that name, and its schemas."""
    name = provider.replace("-", "_")
    folder = Path(receiver.__path__[0], "providers")
    return {folder / f"{name}.py", Path(schemas.__path__[0], f"{name}.py"), *(folder / name).glob("*.py")}


def files_named_alike(name):
    """Those of providers whose name begins with this one, which is no sign of knowing it."""
    return {path for other in PROVIDERS if other.startswith(f"{name}-") for path in own_files(other)}


def fields(schema):
    """The names of fields as the provider writes them."""
    for one in schema.fields.values():
        yield from (one.data_key or one.name).split(".")
        if isinstance(one, Rows):
            yield from fields(one.row)


def tokens(path):
    return tokenize.generate_tokens(io.StringIO(path.read_text()).readline)


@cache
def words(path):
    """The names and strings in its code, each with the line where it first stands."""
    lines = {}
    for token in tokens(path):
        if token.type in (tokenize.NAME, tokenize.STRING) and not token.string.startswith('"""'):
            lines.setdefault(token.string, token.start[0])
    return lines


def texts(path):
    """Every string constant of a file."""
    constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    return {constant for constant in constants if isinstance(constant, str)}


def imports(path):
    """The modules a file imports; a name imported from a package counts as a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            in_package = module in ("receiver", "schemas", "receiver.providers")
            yield from (f"{module}.{alias.name}" for alias in node.names) if in_package else (module,)


def test_no_module_imports_a_higher_one():
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_a_level():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    levels = {name.strip() for layer in layers for name in re.split(r"[|:]", layer)}
    modules = {f"receiver.{module.name}" for module in pkgutil.iter_modules(receiver.__path__)}
    assert levels == modules - {"receiver.__main__"} | {"schemas"}


def test_modules_and_functions_are_short():
    long = []
    for path in SOURCES:
        name, source = path.relative_to(ROOT), path.read_text()
        if (count := len(source.splitlines())) > LONGEST_MODULE:
            long.append(f"{name}: {count} lines; a module has at most {LONGEST_MODULE}: split it along its seams")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (str(name), node.name) in LONG_FUNCTIONS:
                continue
            if (count := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
                where = f"{name}:{node.lineno}: {node.name} has {count} lines"
                long.append(f"{where}; a function has at most {LONGEST_FUNCTION}: split it")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_uses_the_contract_and_its_own_schemas_only(name):
    module = name.replace("-", "_")
    for path in filter(Path.exists, own_files(name)):
        ours = {module for module in imports(path) if module.startswith(("receiver", "schemas"))}
        of_its_own = {one for one in ours if one.startswith(f"receiver.providers.{module}.")}
        assert ours <= PROVIDERS_MAY_USE | {f"schemas.{module}"} | of_its_own


@pytest.mark.parametrize("name", PROVIDERS)
def test_nobody_else_names_a_provider(name):
    """In code, that is: a comment may say whose habit it is about."""
    for path in set(SOURCES) - own_files(name) - files_named_alike(name):
        for word, line in words(path).items():
            assert not re.search(rf"(?<![a-z]){name}", word, re.IGNORECASE), f"{path}:{line}"


def test_no_expression_needs_what_early_pythons_3_11_match_wrongly():
    """Possessive quantifiers and atomic groups: Python 3.11.2, which is Debian 12's, loses text by them."""
    # typeshed does not know the parser
    from re import _constants as constants  # type: ignore[attr-defined]
    from re import _parser as parser

    found = 0
    for path in SOURCES:
        relative = path.relative_to(ROOT).with_suffix("")
        module = ".".join(relative.parts).removesuffix(".__init__")
        for call in ast.walk(ast.parse(path.read_text())):
            is_of_re = isinstance(call, ast.Call) and re.fullmatch(r"re\.\w+", ast.unparse(call.func))
            if not is_of_re or not isinstance(call.args[0], ast.Constant | ast.JoinedStr):
                continue
            # Other values stand for themselves: a name in a class has no quantifier of its own.
            code = compile(ast.Expression(call.args[0]), str(path), "eval")
            names = {name.id: "x" for name in ast.walk(call.args[0]) if isinstance(name, ast.Name)}
            pattern = eval(code, {**names, **vars(sys.modules.get(module, ast))})
            text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
            operations = str(parser.parse(text, re.VERBOSE if "re.VERBOSE" in ast.unparse(call) else 0).data)
            assert str(constants.POSSESSIVE_REPEAT) not in operations, f"{path}:{call.lineno}"
            assert str(constants.ATOMIC_GROUP) not in operations, f"{path}:{call.lineno}"
            found += 1
    assert found > 50


def test_a_field_of_a_provider_is_written_in_its_own_modules_only():
    """As text, that is; plain words that are names of ours as well (status, reason) tell nothing."""
    owners = {}
    for provider in PROVIDERS.values():
        schemas_of = [provider.callback.schema] if provider.callback else []
        schemas_of += [report.schema for report in (provider.reports.records if provider.reports else ())]
        once = provider.callback.once if provider.callback else ()
        for name in {*(name for schema in schemas_of for name in fields(schema)), *once}:
            owners.setdefault(name, set()).update(own_files(provider.name))
    everybodys = set(SOURCES) - {path for name in PROVIDERS for path in own_files(name)}
    ours = {token.string for path in everybodys for token in tokens(path) if token.type == tokenize.NAME}
    assert {"OutTransID", "shortstatus", "faxRecipient", "FaxStatus"} <= owners.keys() - ours
    strangers = {
        (name, path.name)
        for path in SOURCES
        for name in (owners.keys() - ours) & texts(path)
        if path not in owners[name]
    }
    assert strangers == set()


def stations_of(module):
    """The shared stations that a module calls."""
    calls = (node.func for node in ast.walk(ast.parse(Path(module.__file__).read_text())) if isinstance(node, ast.Call))
    return {call.attr for call in calls if isinstance(call, ast.Attribute) and ast.unparse(call.value) == "stations"}


def test_a_callback_and_a_row_of_a_report_pass_the_same_stations():
    assert stations_of(intake) == stations_of(records) == {"understand", "announce", "odd", "tell"}
