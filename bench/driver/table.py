"""Figures: one row each, printed as they come, as one table at the end, and written as JSON."""
import json, os

SIGN = {"at least": "≥", "at most": "≤"}


def show(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:.4f}"


class Goal:
    """What is wanted of the ratio, or of the figure itself."""

    def __init__(self, of, way, limit):
        self.of, self.way, self.limit = of, way, limit

    def __str__(self):
        return f"{SIGN[self.way]} {show(self.limit)}" + (" ×" if self.of == "ratio" else "")

    def met(self, row):
        value = row[self.of]
        return None if value is None else value >= self.limit if self.way == "at least" else value <= self.limit


def ratio_at_least(limit):
    return Goal("ratio", "at least", limit)


def at_least(limit):
    return Goal("figure", "at least", limit)


def at_most(limit):
    return Goal("figure", "at most", limit)


class Table:
    """`part` is the one that runs; its figures carry its name."""

    def __init__(self):
        self.rows, self.part = [], ""

    def row(self, workload, figure, unit, floor=None, goal=None, note="", named=""):
        """A floor is in the same unit, and `named` says what it is of."""
        row = {"part": self.part, "workload": workload, "figure": figure, "unit": unit, "floor": floor, "floor_of": named,
               "ratio": figure / floor if floor else None, "goal": str(goal) if goal else "", "note": note}
        row["met"] = goal.met(row) if goal else None
        self.rows.append(row)
        text = f"  {workload}: {show(figure)} {unit}"
        if floor:
            text += f", floor {show(floor)}" + (f" ({named})" if named else "") + f", ratio {row['ratio']:.2f}"
        print(text + (f", goal {goal} {'met' if row['met'] else 'NOT MET'}" if goal else "") + (f" [{note}]" if note else ""), flush=True)


HEADS = ("workload", "figure", "", "floor", "ratio", "goal", "met")


def cells(row):
    met = {None: "", True: "yes", False: "NO"}[row["met"]]
    return (row["workload"], show(row["figure"]), row["unit"], show(row["floor"]), f"{row['ratio']:.2f}" if row["ratio"] else "", row["goal"], met)


def lines(rows):
    table = [HEADS] + [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEADS))]
    right = (1, 3, 4)
    return [" ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip() for line in table]


def markdown(rows):
    out = ["| " + " | ".join(HEADS + ("floor, note",)) + " |", "|---|--:|---|--:|--:|---|---|---|"]
    part = None
    for row in rows:
        if row["part"] != part:
            part = row["part"]
            out.append(f"| **{part}** | | | | | | | |")
        more = "; ".join(text for text in (row["floor_of"], row["note"]) if text)
        out.append("| " + " | ".join(cells(row) + (more,)) + " |")
    return out


def write(path, results):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".part", "w") as file:
        json.dump(results, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(path + ".part", path)
