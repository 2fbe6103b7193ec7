"""Walks the expression graph a client sends: nodes by reference, functions by name, each value computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from farm_intel.simulation.emulators.earth_engine_functions import Function
from farm_intel.simulation.emulators.earth_engine_values import Collection, EmulatorRefusalError

Environment = Mapping[str, Any]


class GraphWalk:
    """Evaluates one expression.

    Args:
        expression: `{"result": id, "values": {id: node}}`.
        functions: known functions by name; others are refused naming them.

    """

    def __init__(self, expression: Mapping[str, Any], functions: Mapping[str, Function]) -> None:
        self._values: Mapping[str, Any] = expression.get("values", {})
        self._result = str(expression.get("result", ""))
        self._functions = functions
        self._known: dict[str, Any] = {}

    def run(self) -> Any:
        """Return the result.

        Raises:
            EmulatorRefusalError: the graph holds something unknown, or a function refuses its arguments.

        """
        return self._reference(self._result, {})

    def _reference(self, name: str, environment: Environment) -> Any:
        if name not in self._values:
            raise EmulatorRefusalError(f"the expression has no value {name!r}")
        if environment:
            return self._node(self._values[name], environment)
        if name not in self._known:
            self._known[name] = self._node(self._values[name], environment)
        return self._known[name]

    def _node(self, node: Mapping[str, Any], environment: Environment) -> Any:
        ((kind, content),) = node.items()
        readers: dict[str, Callable[[Any, Environment], Any]] = {
            "constantValue": lambda value, _: value,
            "integerValue": lambda value, _: int(value),
            "valueReference": self._reference,
            "argumentReference": self._argument,
            "arrayValue": lambda value, env: [self._node(item, env) for item in value["values"]],
            "dictionaryValue": lambda value, env: {k: self._node(item, env) for k, item in value["values"].items()},
            "functionDefinitionValue": self._definition,
            "functionInvocationValue": self._invocation,
        }
        if kind not in readers:
            raise EmulatorRefusalError(f"emulator does not know nodes of kind '{kind}'")
        return readers[kind](content, environment)

    @staticmethod
    def _argument(name: str, environment: Environment) -> Any:
        if name not in environment:
            raise EmulatorRefusalError(f"unbound argument {name}")
        return environment[name]

    def _definition(self, content: Mapping[str, Any], environment: Environment) -> Function:
        names = content["argumentNames"]
        return lambda *values: self._reference(
            content["body"], {**environment, **dict(zip(names, values, strict=True))}
        )

    def _invocation(self, content: Mapping[str, Any], environment: Environment) -> Any:
        arguments = {name: self._node(node, environment) for name, node in content.get("arguments", {}).items()}
        if "functionReference" in content:
            return self._reference(content["functionReference"], environment)(**arguments)
        name = content["functionName"]
        if name == "Collection.map":
            algorithm = arguments["baseAlgorithm"]
            return Collection(items=[algorithm(item) for item in arguments["collection"].items])
        if name not in self._functions:
            raise EmulatorRefusalError(f"emulator does not implement '{name}'")
        try:
            return self._functions[name](**arguments)
        except TypeError as error:
            raise EmulatorRefusalError(f"{name}: {error}") from error
