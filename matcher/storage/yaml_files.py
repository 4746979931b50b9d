"""YAML that a person or a stranger wrote -> its value. Anchors may not make a page of text take all memory and time."""

from __future__ import annotations

from typing import Any

import yaml

LONGEST = 1_000_000  # characters
DEEPEST = 50  # mappings and lists within one another
MERGE = "tag:yaml.org,2002:merge"  # of <<, which may be there several times
MOST = 100_000  # values, each counted as often as anchors repeat it


def parse_yaml(text: str) -> Any:
    """Text -> its value. yaml.YAMLError whatever is wrong with it: no YAML, too long, too deep, too much, without end."""
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"{len(text):,} characters are more than the {LONGEST:,} that a config may have")
    check_depth(text)
    loader = yaml.SafeLoader(text)
    try:
        if (node := loader.get_single_node()) is None:
            return None
        if count(node, {}) > MOST:
            raise yaml.YAMLError(f"its anchors repeat more than {MOST:,} values")
        return loader.construct_document(node)
    except (ValueError, OverflowError) as error:  # dates that are none, numbers of thousands of digits
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def check_depth(text: str) -> None:
    """yaml.YAMLError if the text nests too deeply to be read."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError(f"it nests more than {DEEPEST} deep")


def count(node: yaml.Node, known: dict[int, int]) -> int:
    """A node -> the values in it, as often as they are named. yaml.YAMLError if it contains itself, or a key twice."""
    if (found := known.get(id(node))) is not None:
        if not found:
            raise yaml.YAMLError("an anchor contains itself")
        return found
    known[id(node)] = 0  # begun
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        inner = [one for pair in node.value for one in pair]
        refuse_repeated([key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE])
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    known[id(node)] = 1 + sum(count(one, known) for one in inner)
    return known[id(node)]


def refuse_repeated(keys: list[yaml.ScalarNode]) -> None:
    """The keys of a mapping -> yaml.YAMLError if one is there twice: YAML would take the last."""
    seen: set[str] = set()
    for key in keys:
        if key.value in seen:
            raise yaml.YAMLError(f"line {key.start_mark.line + 1}: {key.value} is there a second time")
        seen.add(key.value)
