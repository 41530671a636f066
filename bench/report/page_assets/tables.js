// Theme, sorting, what a reader asks of a system, and the filters of the table of every row.
(() => {
  "use strict";
  const $ = (selector, inside = document) => inside.querySelector(selector);
  const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  const theme = $("#theme"), root = document.documentElement;
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => {
    theme.textContent = dark() ? "☀ Light" : "☾ Dark";
    theme.setAttribute("aria-label", `Use the ${dark() ? "light" : "dark"} theme`);
  };
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("bench-theme", root.dataset.theme); } catch { /* some browsers keep nothing for a file */ }
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();

  // A cell as something to sort by: the number that it begins with, or its words; null where it says nothing.
  const number = /^[(≈\s]*(-?[\d,]*\.?\d+)/;
  function key(cell) {
    const text = cell.dataset.key ?? cell.textContent.trim();
    if (text === "" || text === "–") return null;
    const found = number.exec(text);
    return found ? Number(found[1].replaceAll(",", "")) : text.toLowerCase();
  }
  function compare(one, other) {
    if (typeof one === typeof other) return typeof one === "number" ? one - other : one.localeCompare(other);
    return typeof one === "number" ? -1 : 1;
  }

  // ascending, descending, the order that the page came in; empty cells stand last in all of them.
  function next(head) {
    const now = head.getAttribute("aria-sort");
    for (const other of head.parentElement.cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    const then = now === "none" ? "ascending" : now === "ascending" ? "descending" : "none";
    head.setAttribute("aria-sort", then);
    return then;
  }
  function order(rows, keys, way) {
    if (way === "none") return rows;
    const sign = way === "ascending" ? 1 : -1;
    const places = rows.map((_, place) => place);
    places.sort((a, b) => {
      if (keys[a] === null || keys[b] === null) return (keys[a] === null) - (keys[b] === null) || a - b;
      return sign * compare(keys[a], keys[b]) || a - b;
    });
    return places.map((place) => rows[place]);
  }
  for (const table of $$("table[data-sortable]")) {
    const body = table.tBodies[0], rows = [...body.rows];
    for (const button of $$("thead button", table)) {
      const head = button.parentElement;
      button.addEventListener("click", () => {
        const way = next(head);
        body.append(...order(rows, rows.map((row) => key(row.cells[head.cellIndex])), way));
      });
    }
  }
  // A field tells while it is typed into, a list when it is left; what is left later changes nothing.
  function asked(form, then) {
    form.addEventListener("input", (event) => { if (event.target.tagName === "INPUT") then(); });
    form.addEventListener("change", (event) => { if (event.target.tagName === "SELECT") then(); });
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  window.bench = { $, $$, next, order, asked };

  // Numbers stand to the right in the columns that hold them.
  const every = $("#every"), rows = [...every.tBodies[0].rows], names = $$("thead th", every).map((head) => head.dataset.name);
  for (const place of names.keys()) {
    if (!/params|MB|GFLOPs|seeds|teacher \(M\)/.test(names[place])) continue;
    for (const row of [...rows, every.tHead.rows[0]]) row.cells[place].classList.add("num", "number");
  }
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const selects = $$("#row-filters select");
  for (const select of selects) {
    const place = names.indexOf(select.dataset.column);
    const values = [...new Set(rows.map((row) => row.cells[place].textContent.trim()))].sort();
    select.append(...values.map((value) => new Option(value, value)));
  }
  function filter() {
    const sought = $("#row-q").value.toLowerCase().split(/\s+/).filter(Boolean);
    const view = every.dataset.view;
    let shown = 0;
    for (const row of rows) {
      const fits = sought.every((word) => words.get(row).includes(word))
        && selects.every((select) => !select.value || row.cells[names.indexOf(select.dataset.column)].textContent.trim() === select.value);
      row.hidden = !fits;
      shown += fits && !(view === "scored" && (row.classList.contains("unscored") || row.classList.contains("again")));
    }
    $("#rows-found").textContent = `${shown.toLocaleString("en")} row${shown === 1 ? "" : "s"}`;
  }
  for (const button of $$(".views button")) {
    button.addEventListener("click", () => {
      every.dataset.view = button.dataset.view;
      for (const other of $$(".views button")) other.setAttribute("aria-pressed", String(other === button));
      filter();
    });
  }
  asked($("#row-filters"), filter);
  filter();

  // What a system must meet: those that do not are dimmed; the best comes first, as in bench choose.
  const ask = $("#ask"), systems = [...$("#systems").tBodies[0].rows];
  const own = (row, what) => row.dataset[what] === undefined ? null : Number(row.dataset[what]);
  function misses(row, bounds) {
    // Its bytes are of a packed file, its speed of a larger form: no one form of it is known to be both.
    if ("twoForms" in row.dataset && ["megabytes", "speedup"].every((what) => bounds.some((bound) => bound.what === what))) return Infinity;
    return Math.max(1, ...bounds.map(({ what, bound, most }) => {
      const value = own(row, what);
      return value === null ? Infinity : most ? value / bound : bound / value;
    }));
  }
  function answer() {
    const inputs = $$("input", ask);
    const bounds = inputs.map((input) => ({
      what: input.dataset.number, most: "most" in input.dataset, text: input.value.trim(), bound: Number(input.value.replace(",", ".")),
    }));
    inputs.forEach((input, place) => input.setAttribute("aria-invalid", String(bounds[place].text !== "" && !(bounds[place].bound > 0))));
    const given = bounds.filter(({ text, bound }) => text !== "" && bound > 0);
    const far = new Map(systems.map((row) => [row, misses(row, given)]));
    for (const row of systems) row.classList.toggle("out", far.get(row) > 1);
    const fits = systems.filter((row) => far.get(row) <= 1).sort((a, b) => own(a, "rank") - own(b, "rank"));
    const near = systems.filter((row) => Number.isFinite(far.get(row))).sort((a, b) => far.get(a) - far.get(b))[0];
    $("#answer").textContent = !given.length ? ""
      : fits.length ? `${fits.length} of ${systems.length} fit; ${fits[0].dataset.name} comes first: score kept ${fits[0].dataset.share || "unknown"}.`
      : near ? `None fits; ${near.dataset.name} is nearest.` : "None has such numbers.";
  }
  asked(ask, answer);
})();
