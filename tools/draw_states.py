"""Draws what PROTOCOL.md takes from the code: the diagram of `aed/wire/states.py` and the table of `aed/wire/messages.py`.

    python tools/draw_states.py            writes both into PROTOCOL.md, between their markers
    python tools/draw_states.py --check    exit 1 if PROTOCOL.md is not what it would write

Must not live here: what a message means (its docstring and PROTOCOL.md's prose).
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from aed.wire.messages import BY_CODE, PER_CHANNEL, Message
from aed.wire.states import CLIENT, CLOSED, HELLO, NODE, TABLE

DOCUMENT = Path(__file__).parents[1] / "PROTOCOL.md"


def diagram() -> str:
    """The transition table as a mermaid state diagram: one arrow for each pair of states, said by whom."""
    arrows: dict[tuple[str, str], dict[str, list[str]]] = {}
    for state, moves in TABLE.items():
        kinds = dict.fromkeys(kind for _, kind in moves)
        for kind in kinds:
            ends = {side: moves[side, kind] for side in (CLIENT, NODE) if (side, kind) in moves}
            if len(set(ends.values())) == 1 and len(ends) == 2:
                arrows.setdefault((state, ends[CLIENT]), {}).setdefault("either", []).append(kind.__name__)
            else:
                for side, end in ends.items():
                    arrows.setdefault((state, end), {}).setdefault(side, []).append(kind.__name__)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {HELLO}"]
    for (state, end), said in arrows.items():
        lines += [f"    {state} --> {end}: {side} {', '.join(names)}" for side, names in said.items()]
    return "\n".join([*lines, f"    {CLOSED} --> [*]", "```"])


def table() -> str:
    """Every message: code, name, who sends it in which states, fields."""
    lines = ["| code | message | from | in states | fields |", "|---|---|---|---|---|"]
    for code, kind in sorted(BY_CODE.items()):
        senders = [side for side in (CLIENT, NODE) if any((side, kind) in moves for moves in TABLE.values())]
        states = ", ".join(state for state, moves in TABLE.items() if any(mover[1] is kind for mover in moves))
        name = f"{kind.__name__}{' ⌁' if code in PER_CHANNEL else ''}"
        lines.append(f"| 0x{code:02x} | {name} | {' or '.join(senders)} | {states} | {fields(kind)} |")
    return "\n".join(lines)


def fields(kind: type[Message]) -> str:
    """The fields in order, with their types as PROTOCOL.md names them."""
    kinds = inspect.get_annotations(kind)
    named = {name: f"list of {form[6:-6]}" if form.startswith("tuple[") else form for name, form in kinds.items()}
    return ", ".join(f"{name}: {form}" for name, form in named.items()) or "none"


def put(text: str, name: str, body: str) -> str:
    """`text` with `body` between the two markers called `name`."""
    pattern = re.compile(rf"(<!-- {name}: drawn by tools/draw_states.py -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    text, count = pattern.subn(lambda found: f"{found[1]}{body}\n{found[2]}", text)
    if count != 1:
        sys.exit(f"{DOCUMENT.name}: {count} places are marked {name!r}; there must be one")
    return text


def drawn(text: str) -> str:
    """`text` of PROTOCOL.md with both parts as the code is now."""
    return put(put(text, "states", diagram()), "messages", table())


def main(arguments: list[str], document: Path = DOCUMENT) -> int:
    text = document.read_text()
    wanted = drawn(text)
    if arguments == ["--check"]:
        if text != wanted:
            print(f"{DOCUMENT.name} is not what the code says: run python tools/draw_states.py", file=sys.stderr)
        return text != wanted
    document.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
