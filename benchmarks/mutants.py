"""The one-operator changes of a Python source: other comparisons, signs, numbers, connectives, orders and ends.

Texts, annotations, decorators and the ``strict`` of zip, which fails only on our own mistakes, stay as they are.
"""

import ast
import copy
import random

OPERATORS = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,), ast.Pow: (ast.Mult,), ast.And: (ast.Or,), ast.Or: (ast.And,),
}  # fmt: skip
PAIRS = ("min max", "any all", "floor ceil", "minimum maximum", "argmin argmax", "bisect_left bisect_right",
         "ROUND_FLOOR ROUND_CEILING", "lower upper")  # fmt: skip
NAMES = {**dict(p.split() for p in PAIRS), **{b: a for a, b in map(str.split, PAIRS)}}
SKIPPED = {"annotation", "returns", "decorator_list", "type_params"}


def changed(node, **fields):
    """A copy of the node with other fields."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def changes(node, field, parent, optional):
    """The nodes that may stand in a node's place, one operator away."""
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                for other in OPERATORS[type(op)]:
                    yield changed(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            for other in OPERATORS.get(type(node.op), ()):
                yield changed(node, op=other())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float() as x):
            near = (x + 1, x - 1, 2 * x) if isinstance(x, int) else (x + 1, 2 * x)
            yield from (ast.Constant(y) for y in dict.fromkeys(near) if y != x)
        case ast.Name(ctx=ast.Load()) if node.id in NAMES and node.id not in ("lower", "upper"):
            yield changed(node, id=NAMES[node.id])
        case ast.Attribute() if node.attr in NAMES and (node.attr not in ("lower", "upper") or field != "func"):
            yield changed(node, attr=NAMES[node.attr])
        case ast.Call(func=ast.Name(id="sorted")):
            yield changed(node, keywords=[*node.keywords, ast.keyword("reverse", ast.Constant(True))])
        case ast.Slice():
            for end in ("lower", "upper"):
                if (value := getattr(node, end)) is not None:
                    yield changed(node, **{end: None})
                    yield changed(node, **{end: ast.BinOp(value, ast.Add(), ast.Constant(1))})
        case ast.Return(value=ast.expr()) if optional:
            yield ast.Return(ast.Constant(None))
        case ast.Continue() | ast.Break():
            yield ast.Break() if isinstance(node, ast.Continue) else ast.Continue()
    if (field == "test" or (field == "ifs" and isinstance(parent, ast.comprehension))) and not isinstance(
        node, ast.Compare | ast.BoolOp | ast.UnaryOp
    ):
        yield ast.UnaryOp(ast.Not(), node)


def sites(parent, lines=(0, 0), line=0, optional=False, in_text=False):
    """Every place that can be changed: parent, field, index, line, lines of its statement, and its changes."""
    for field, value in ast.iter_fields(parent):
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            if field in SKIPPED or not isinstance(node, ast.AST):
                continue
            if isinstance(node, ast.keyword) and node.arg == "strict":  # zip's guard: fails only on our own mistakes
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            # before Python 3.12 what stands within an f-string has no good place of its own
            within, here, may = lines, line if in_text else getattr(node, "lineno", line), optional
            if isinstance(node, ast.stmt):
                body = getattr(node, "body", None)
                within = node.lineno, max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
            if isinstance(node, ast.FunctionDef):
                may = node.returns is not None and "None" in ast.unparse(node.returns).split(" | ")
            found = list(changes(node, field, parent, may))
            if found:
                yield parent, field, index if isinstance(value, list) else None, here, within, found
            yield from sites(node, within, here, may, in_text or isinstance(node, ast.JoinedStr))


def put(parent, field, index, node):
    """Put a node into its place; returns what stood there."""
    if index is None:
        old = getattr(parent, field)
        setattr(parent, field, node)
    else:
        old = getattr(parent, field)[index]
        getattr(parent, field)[index] = node
    return old


def mutants(source, seed):
    """All one-operator changes in a seeded order, one of each place first.

    Each as the number of the place, the changed source, the line, the lines of the statement, and before => after.
    """
    tree, rng, queues = ast.parse(source), random.Random(seed), []
    for number, (*place, line, within, found) in enumerate(sites(tree)):
        rng.shuffle(found)
        queues.append([(number, place, line, within, new) for new in found])
    rng.shuffle(queues)
    for turn in range(max(map(len, queues))):
        for number, place, line, within, new in (q[turn] for q in queues if turn < len(q)):
            old = put(*place, new)
            text = ast.unparse(ast.fix_missing_locations(tree))
            put(*place, old)
            name = f"{place[0].arg}=" if isinstance(place[0], ast.keyword) else ""
            yield number, text, line, within, " ".join(f"{name}{ast.unparse(old)} => {ast.unparse(new)}".split())
