"""Facts and tables as lines of text."""


def in_columns(facts: dict[str, str]) -> list[str]:
    """Return the non-empty facts, one per line."""
    width = max(map(len, facts))
    return [f"{name:<{width}}  {text}" for name, text in facts.items() if text]


def in_parts(parts: list[list[str]]) -> str:
    """Join lines, with an empty line between parts that are not empty."""
    return "\n\n".join("\n".join(part) for part in parts if part)


def in_table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table: columns aligned to the right, except the last one."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    return [line.rstrip() for line in lines]
