"use strict";
// Sorting and filtering. Everything else of the report works without it, so the controls are made here.
for (const table of document.querySelectorAll("table.tools")) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const headings = Array.from(table.tHead.rows[0].cells);
  const caption = table.caption.textContent;

  const bar = document.createElement("div");
  bar.className = "filter";
  const label = document.createElement("label");
  label.append(`Filter ${caption.toLowerCase()} `);
  const input = document.createElement("input");
  input.type = "search";
  label.append(input);
  const told = document.createElement("span");
  told.className = "small";
  told.setAttribute("role", "status");
  bar.append(label, told);
  if (rows.length <= 8) label.hidden = true;
  table.parentElement.before(bar);

  const tell = (extra = "") => {
    const shown = rows.filter((row) => !row.hidden).length;
    told.textContent = label.hidden ? extra : `${shown} of ${rows.length} rows${extra && ", "}${extra}`;
  };
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    tell();
  });

  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const text = cell.classList.contains("n") ? "" : cell.textContent.trim();
    return text === "" ? null : text;
  };
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);  // the undefined stay at the end
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  };
  headings.forEach((heading, column) => {
    if (heading.dataset.fixed !== undefined) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const keyed = rows.map((row) => [key(row, column), row]);
      keyed.sort((a, b) => compare(a[0], b[0], sign));
      body.append(...keyed.map((pair) => pair[1]));
      tell(`sorted by ${button.textContent}, ${order}`);
    });
  });
  tell();
}
// A link to a row that a filter hides would lead nowhere.
addEventListener("hashchange", () => {
  const row = document.getElementById(location.hash.slice(1));
  if (row instanceof HTMLTableRowElement && row.hidden) {
    const input = row.closest(".scroll").previousElementSibling.querySelector("input");
    input.value = "";
    input.dispatchEvent(new Event("input"));
    row.scrollIntoView();
  }
});
