"use strict";
// Headers become buttons: ascending, descending, as it was. Cells without a number come last either way.
const number = /^[−+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?/;
function valueOf(cell) {
  if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
  const found = number.exec(cell.textContent.replace("≈", "").trim());
  return found ? Number(found[0].replace("−", "-").replaceAll(",", "")) : NaN;
}
function compare(a, b) {
  const [x, y] = [valueOf(a), valueOf(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  return a.textContent.localeCompare(b.textContent, "en");
}
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const words = index === 0 || head.className !== "";
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] ?? "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const sorted = next === "none" ? rows : [...rows].sort((a, b) => {
        const [x, y] = [a.cells[index], b.cells[index]];
        if (!words && Number.isNaN(valueOf(x)) !== Number.isNaN(valueOf(y))) return Number.isNaN(valueOf(x)) ? 1 : -1;
        return sign * compare(x, y);
      });
      body.append(...sorted);
    });
  });
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
