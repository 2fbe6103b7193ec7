"""Image.parseExpression: arithmetic, comparisons and functions on bands, as the service defines them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

from farm_intel.simulation.emulators.earth_engine_values import EmulatorRefusalError, Image

Operations = Mapping[str, Callable[..., Image]]
_BINARY = {
    ast.Add: "Image.add",
    ast.Sub: "Image.subtract",
    ast.Mult: "Image.multiply",
    ast.Div: "Image.divide",
    ast.Pow: "Image.pow",
}
_COMPARE = {
    ast.Lt: "Image.lt",
    ast.LtE: "Image.lte",
    ast.Gt: "Image.gt",
    ast.GtE: "Image.gte",
    ast.Eq: "Image.eq",
    ast.NotEq: "Image.neq",
}
_UNARY = {"sqrt", "exp", "log", "abs"}
_PAIRS = {"min", "max"}


class Expression:
    """A parsed expression, callable with its images by argument name."""

    def __init__(self, text: str, argument: str, operations: Operations) -> None:
        self._argument = argument
        self._operations = operations
        try:
            self._root = ast.parse(text.replace("&&", " and ").strip(), mode="eval").body
        except SyntaxError as error:
            raise EmulatorRefusalError(f"Image.parseExpression: {error.msg} in {text[:60]!r}") from error

    def __call__(self, **images: Image) -> Image:
        """Return the image the expression makes."""
        return self._image(self._root, images)

    def _image(self, node: ast.expr, images: Mapping[str, Image]) -> Image:  # noqa: PLR0911 - one per kind of node
        match node:
            case ast.Constant(value=int() | float() as value):
                return self._operations["Image.constant"](value=value)
            case ast.Name(id=name) if name in images:
                return images[name]
            case ast.Call():
                return self._call(node, images)
            case ast.BinOp() if type(node.op) in _BINARY:
                return self._pair(_BINARY[type(node.op)], node.left, node.right, images)
            case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _COMPARE:
                return self._pair(_COMPARE[type(operator)], left, right, images)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                zero = self._operations["Image.constant"](value=0)
                return self._operations["Image.subtract"](image1=zero, image2=self._image(operand, images))
            case ast.BoolOp(op=ast.And(), values=values):
                found = self._image(values[0], images)
                for other in values[1:]:
                    found = self._operations["Image.and"](image1=found, image2=self._image(other, images))
                return found
        raise EmulatorRefusalError(f"Image.parseExpression: emulator does not know {ast.unparse(node)[:60]!r}")

    def _pair(self, name: str, left: ast.expr, right: ast.expr, images: Mapping[str, Image]) -> Image:
        return self._operations[name](image1=self._image(left, images), image2=self._image(right, images))

    def _call(self, node: ast.Call, images: Mapping[str, Image]) -> Image:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "b" and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
            selector = node.args[0].value
            return self._operations["Image.select"](input=images[self._argument], bandSelectors=[selector])
        if name in _PAIRS and len(node.args) == 2:
            return self._pair(f"Image.{name}", node.args[0], node.args[1], images)
        if name in _UNARY and len(node.args) == 1:
            return self._operations[f"Image.{name}"](value=self._image(node.args[0], images))
        raise EmulatorRefusalError(f"Image.parseExpression: emulator does not know {ast.unparse(node)[:60]!r}")
