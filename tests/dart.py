"""Dart rewritten as TypeScript: the syntax that the listing for Flutter uses, and no more.

A grammar parses the Dart. Where the two languages agree, the text stays as it is; tsc finds what is
valid in neither, and wrong types but for an `int` that should be a `double`. `stubs/flutter` has
Dart's library and the package, as far as the listing uses them.
"""

import itertools
import re

import tree_sitter
import tree_sitter_dart

TYPES = {"String": "string", "int": "number", "double": "number"}
TYPES |= {"List": "Array", "Future": "Promise"}


def parse(code):
    """The root of the syntax tree."""
    assert code.isascii()  # offsets count bytes
    language = tree_sitter.Language(tree_sitter_dart.language())
    return tree_sitter.Parser(language).parse(code.encode()).root_node


def to_typescript(code):
    """A file that declares one class, as TypeScript that exports the class."""
    (declared,) = (node for node in parse(code).children if node.type == "class_definition")
    return f"export {Class(declared).text}\n"


class Class:
    """A class whose private constructor sets its fields; members are named without `this`."""

    def __init__(self, node):
        self._name = _text(_child(node, "identifier"))
        nodes = _child(node, "class_body").named_children
        fields = {
            _text(_child(child, "initialized_identifier_list")): _child(child, "type_identifier")
            for child in nodes
            if child.type == "declaration" and child.named_children[0].type == "final_builtin"
        }
        methods = [
            (signature, body)
            for signature, body in itertools.pairwise(nodes)
            if body.type == "function_body"
        ]
        self._members = set(fields) | {
            _text(_child(_child(signature, "function_signature"), "identifier"))
            for signature, _ in methods
        }
        given = ", ".join(f"readonly {name}: {_text(kind)}" for name, kind in fields.items())
        self.text = "\n\n".join(
            [
                f"class {self._name} {{",
                f"private constructor({given}) {{}}",
                *(self._method(signature, body) for signature, body in methods),
                "}",
            ]
        )

    def _method(self, signature, body):
        function = _child(signature, "function_signature")
        name = _text(_child(function, "identifier"))
        returned = _types(_text(function).partition(f" {name}(")[0])
        kinds = {child.type for child in body.children}
        head = "static " * (signature.children[0].type == "static")
        head += "async " * ("async" in kinds) + "*" * ("sync*" in kinds) + name
        head += f"{self._rewritten(_child(function, 'formal_parameter_list'))}: {returned}"
        if "=>" in kinds:
            result = "return " * (returned != "void")
            return f"{head} {{ {result}{self._joined(body).partition('=>')[2].strip()} }}"
        return f"{head} {self._rewritten(_child(body, 'block'))}"

    def _rewritten(self, node):
        return getattr(self, f"_{node.type}", self._joined)(node)

    def _joined(self, node):
        """The children of a node, rewritten, with what is between them."""
        if not node.children:
            return _text(node)
        parts, at = [], 0
        for child in node.children:
            begin = child.start_byte - node.start_byte
            parts.append(_text(node)[at:begin])
            at = child.end_byte - node.start_byte
            if child.type == "cascade_section":
                first = parts.index("=") + 1
                call = self._joined(child).removeprefix("..")
                parts[first:] = [f" cascade({''.join(parts[first:])}, (it) => it.{call})"]
            else:
                parts.append(self._rewritten(child))
        return "".join(parts)

    def _identifier(self, node):
        if node.next_sibling and _text(node.next_sibling) == "._":  # the constructor
            return f"new {_text(node)}"
        member = _text(node) in self._members and not node.parent.type.endswith("selector")
        return "this." * member + _text(node)

    def _selector(self, node):
        return "" if _text(node) == "._" else self._joined(node)

    def _formal_parameter(self, node):
        kind, name = _text(node).rsplit(" ", 1)
        return f"{name}: {_types(kind)}"

    def _optional_formal_parameters(self, node):
        """Those by position stay in their places, those by name are one object."""
        given = self._joined(node)
        if given.startswith("["):
            return given[1:-1]
        names = re.sub(r": \w+ =", " =", given)
        types = ", ".join(f"{name}?: {kind}" for name, kind in re.findall(r"(\w+): (\w+) =", given))
        return f"{names}: {{ {types} }} = {{}}"

    def _inferred_type(self, _):
        return "let"

    def _final_builtin(self, _):
        return "const"

    def _string_literal(self, node):
        text, count = re.subn(r"\$(\w+)", r"${\1}", _text(node))
        return f"`{text[1:-1]}`" if count else text


def _child(node, kind):
    return next(child for child in node.named_children if child.type == kind)


def _text(node):
    return node.text.decode()


def _types(text):
    return re.sub(r"\w+", lambda word: TYPES.get(word[0], word[0]), text)
