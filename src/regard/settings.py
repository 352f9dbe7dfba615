"""The base of every settings class, and the way between settings, YAML and the command line.

Settings are frozen, refuse unknown keys with the nearest known one, and are plain data: nothing in a settings file is
ever imported or evaluated.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from yaml.events import AliasEvent

from regard.errors import SettingsError, did_you_mean


class Settings(BaseModel):
    """Immutable plain data; a subclass lists its fields with types and defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SettingsType = TypeVar("SettingsType", bound=Settings)

MOST_SHOWN = 200
"""Characters of a wrong value that a message repeats."""


class PlainLoader(yaml.SafeLoader):
    """YAML 1.2's core schema without aliases: ``no`` is a word, ``1e-4`` a number, and nothing can expand."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            [(name, _)] = Counter(key.value for key, _ in node.value).most_common(1)
            raise yaml.MarkedYAMLError(f"'{name}' is given twice", node.start_mark)
        return mapping


class PlainDumper(yaml.SafeDumper):
    """Quotes each word that `PlainLoader`, or a reader of YAML 1.1, would take for something else."""


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
PlainLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|)$", [*"~n", ""]),
    ("bool", r"^(?:true|false)$", [*"tf"]),
    ("int", r"^[-+]?\d+$", [*"-+0123456789"]),
    ("float", rf"^{_NUMBER}$", [*"-+.0123456789"]),
):
    for _kind in (PlainLoader, PlainDumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
PlainLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))  # 010 is ten, not eight


def parse_yaml(text: str, where: str) -> Any:
    """Plain data from YAML text; anything that is not plain data is refused."""
    try:
        return yaml.load(text, PlainLoader)  # a SafeLoader with fewer types
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        hint = "only names and plain values: no !tags, no *aliases, no name twice"
        raise SettingsError(f"not plain YAML: {error}", where=where, hint=hint) from None


def to_yaml(settings: Settings) -> str:
    return yaml.dump(settings.model_dump(mode="json"), Dumper=PlainDumper, sort_keys=False, allow_unicode=True)


def parse(kind: type[SettingsType], data: Any, where: str) -> SettingsType:
    """Validated settings, or one error that names the setting, what was found and what is allowed.

    Raises:
        SettingsError: unknown key, wrong type, out of range.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _explain(kind, error, where) from None


def load(kind: type[SettingsType], path: Path) -> SettingsType:
    """Settings from a YAML file.

    Raises:
        SettingsError: the file cannot be read, or does not hold valid settings.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"cannot be read: {reason}", where=str(path), hint="is the path right?") from None
    return parse(kind, parse_yaml(text, str(path)), str(path))


def override(settings: SettingsType, assignments: list[str]) -> SettingsType:
    """Settings with ``path.to.setting=value`` applied in order; the value is read as YAML.

    Setting another ``kind`` resets its siblings to that kind's defaults. What only later ones make valid is accepted.
    """
    data, refused = settings.model_dump(mode="json"), None
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError("no value given", where=f"--set {assignment}", hint=f"write --set {path}=VALUE")
        _assign(data, path, parse_yaml(value, f"--set {path}"))
        try:
            settings = parse(type(settings), data, f"--set {path}")
            data, refused = settings.model_dump(mode="json"), None  # with a new kind's defaults, for what is set next
        except SettingsError as error:
            refused = refused or error
    if refused:
        raise refused
    return settings


def is_set(settings: Settings, assignment: str) -> bool:
    """Whether ``path.to.setting=value`` is how the settings have it already."""
    path = assignment.partition("=")[0].split(".")
    given, wanted = settings.model_dump(mode="json"), override(settings, [assignment]).model_dump(mode="json")
    for name in path:
        given, wanted = given[name], wanted[name]
    return bool(given == wanted)


def _assign(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    node = data
    for depth, name in enumerate(parents):
        where = ".".join(parents[: depth + 1])
        if name in node and node[name] is None:
            raise SettingsError(
                f"'{where}' is null", where=f"--set {path}", hint=f"set it whole: {where}={{{last}: ...}}"
            )
        if not isinstance(node.get(name), dict):
            raise SettingsError(f"no setting '{where}'", where=f"--set {path}", hint=did_you_mean(name, node))
        node = node[name]
    if last == "kind" and node.get(last) != value:
        node.clear()
    node[last] = value


def _explain(kind: type[Settings], error: ValidationError, where: str) -> SettingsError:
    first = error.errors(include_url=False)[0]
    fields, known = _follow(kind, [str(part) for part in first["loc"]])
    name = ".".join(fields)
    if first["type"] == "extra_forbidden":
        return SettingsError(f"no setting '{name}'", where=where, hint=did_you_mean(fields[-1], known))
    if first["type"] == "union_tag_invalid":
        found, kinds = str(first["ctx"]["tag"]), first["ctx"]["expected_tags"]
        hint = did_you_mean(found, [one.strip("'") for one in kinds.split(", ")])
        return SettingsError(f"'{name}.kind': no kind '{found}'", where=where, hint=hint)
    named = f"'{name}': " if name else ""
    if first["type"] == "value_error":  # raised by a validator of ours, whose words say it all
        return SettingsError(f"{named}{first['ctx']['error']}", where=where)
    found = "" if first["type"] == "missing" else f", found {_shortened(repr(first['input']))}"
    return SettingsError(f"{named}{first['msg'].lower()}{found}", where=where)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _follow(kind: type[BaseModel], location: list[str]) -> tuple[list[str], list[str]]:
    """An error's location without the tags of unions in it, and the settings known where it points."""
    fields: list[str] = []
    kinds: list[type[BaseModel]] = [kind]
    for name in location:
        by_tag = [one for one in kinds if "kind" in one.model_fields and one.model_fields["kind"].default == name]
        if len(kinds) > 1 and by_tag:
            kinds = by_tag
            continue
        fields.append(name)
        if kinds and name in kinds[0].model_fields:
            kinds = _settings_in(kinds[0].model_fields[name].annotation)
    return fields, [name for one in kinds[:1] for name in one.model_fields]


def _settings_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes a field may hold: one, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _settings_in(part)]
