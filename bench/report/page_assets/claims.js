// The claims: search, filters, sorting, and for each the way from its source to the records behind its verdict.
(() => {
  "use strict";
  const { $, $$, next, order, asked, data } = window.bench;
  const { claims, shared, texts, runs, verdicts, groups, papers } = data;
  for (const claim of claims) for (const name of shared) if (name in claim) claim[name] = texts[claim[name]];
  const PAGE = 50;
  const body = $("#claim-table").tBodies[0], more = $("#more"), q = $("#q");
  const selects = ["paper", "kind", "verdict"].map((id) => $(`#${id}`));
  const byId = new Map(claims.map((claim) => [claim.id, claim]));
  const collator = new Intl.Collator("en", { numeric: true });
  let sorted = { by: "verdict", way: "ascending" }, shown = [], room = PAGE;

  // Text is set as text, never as markup.
  function make(name, look = "", ...inside) {
    const made = document.createElement(name);
    if (look) made.className = look;
    made.append(...inside.filter((part) => part !== null && part !== undefined && part !== ""));
    return made;
  }
  function anchor(text, href) {
    const made = make("a", "", text);
    made.href = href;
    return made;
  }
  const paperOf = (claim) => claim.id.slice(0, claim.id.indexOf("."));
  const printed = (claim) => parseFloat(claim.printed.replaceAll(",", ""));
  const words = (claim) => claim.words ??= [claim.id, claim.says, claim.variant, claim.task, claim.metric, claim.printed,
    papers[paperOf(claim)].label, verdicts[claim.verdict][0], claim.source, claim.conditions, claim.why].join(" ").toLowerCase();

  const controls = claims.filter((claim) => claim.known === "ours").length;
  const ours = controls ? ` (${(claims.length - controls).toLocaleString("en")} printed, ${controls} ours)` : "";

  const verdictSelect = selects[2];
  for (const [name, [sign, word]] of Object.entries(groups)) {
    const own = verdicts.filter((one) => one[2] === name);
    const group = document.createElement("optgroup");
    group.label = sign ? `${sign} ${word}` : word;
    group.append(new Option(`all: ${word}`, name), ...own.map(([verdict]) => new Option(verdict, verdict)));
    verdictSelect.append(group);
  }

  function matching() {
    const sought = q.value.toLowerCase().split(/\s+/).filter(Boolean), [paper, kind, verdict] = selects.map((select) => select.value);
    if (byId.has(q.value.trim())) return [byId.get(q.value.trim())];
    return claims.filter((claim) => {
      const [name, , group] = verdicts[claim.verdict];
      return (!paper || paperOf(claim) === paper) && (!kind || claim.kind === kind)
        && (!verdict || verdict === name || verdict === group) && sought.every((word) => words(claim).includes(word));
    });
  }
  const keys = {
    verdict: (claim) => claim.verdict,
    says: (claim) => claim.says,
    printed: (claim) => { const value = printed(claim); return Number.isNaN(value) ? null : value; },
    measured: (claim) => claim.measured === undefined ? null : parseFloat(claim.measured.replace(/^[^\d-]*/, "").replaceAll(",", "")),
    place: (claim) => claim.place?.[0] ?? null,
  };
  function arranged(found) {
    if (sorted.way === "none") return found;
    if (sorted.by !== "says") return order(found, found.map(keys[sorted.by]), sorted.way);
    const sign = sorted.way === "ascending" ? 1 : -1;
    return [...found].sort((one, other) => sign * collator.compare(one.says, other.says));
  }
  function render(keep = false) {
    if (!keep) room = PAGE;
    shown = arranged(matching());
    body.replaceChildren(...shown.slice(0, room).map(row));
    $("#found").textContent = `${shown.length.toLocaleString("en")} of ${claims.length.toLocaleString("en")} claims${ours}`;
    said();
  }
  function said() {
    const left = shown.length - room;
    more.parentElement.hidden = left <= 0;
    more.textContent = `Show ${Math.min(left, 4 * PAGE)} more of ${left.toLocaleString("en")}`;
  }
  more.addEventListener("click", () => {
    const from = room;
    room += 4 * PAGE;
    body.append(...shown.slice(from, room).map(row));
    said();
    body.rows[from]?.querySelector("button")?.focus({ preventScroll: true });
  });

  function verdict(claim) {
    const [name, sign, group] = verdicts[claim.verdict];
    return make("span", `verdict ${group}`, sign ? make("span", "mark", sign) : "", sign ? " " : "", name);
  }
  function row(claim) {
    const ask = make("button", "ask", claim.says);
    ask.type = "button";
    ask.setAttribute("aria-expanded", "false");
    const line = make("tr", "row", make("td", "", verdict(claim)),
      make("td", "", ask, make("span", "sub", [papers[paperOf(claim)].label, claim.source].join(", "))),
      cell("Printed", claim.printed),
      cell("Measured", claim.measured ?? "", claim.interval ? make("span", "interval", " ", claim.interval) : ""),
      beside(claim));
    line.addEventListener("click", (event) => { if (!event.target.closest("a")) toggle(line, claim); });
    line.dataset.id = claim.id;
    return line;
  }
  function beside(claim) {
    const drawn = strip(claim), made = make("td", verdicts[claim.verdict][2], drawn);
    if (drawn) made.dataset.label = "Beside the band";
    return made;
  }
  function cell(label, ...inside) {
    const made = make("td", "number", ...inside);
    made.dataset.label = label;
    return made;
  }
  function toggle(line, claim, open = line.querySelector(".ask").getAttribute("aria-expanded") === "false") {
    line.querySelector(".ask").setAttribute("aria-expanded", String(open));
    if (line.nextElementSibling?.classList.contains("way")) line.nextElementSibling.remove();
    if (!open) return;
    const whole = make("td", "", way(claim));
    whole.colSpan = 5;
    line.after(make("tr", "way", whole));
  }

  // The band of what was printed, and where the measured interval lies; what is farther off than three widths stands at the end.
  function strip(claim) {
    const [middle, low, high] = claim.place ?? [];
    if (middle === undefined || middle === null) return "";
    const x = (value) => 60 + 20 * Math.max(-2.9, Math.min(2.9, value));
    const svg = (name, facts) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(facts)) made.setAttribute(key, value);
      return made;
    };
    const drawn = svg("svg", { class: "strip", viewBox: "0 0 120 16", role: "img",
      "aria-label": `${Math.abs(middle)} widths of the band ${middle < 0 ? "below" : "above"} the printed number` });
    drawn.append(svg("rect", { class: "band", x: 40, y: 2, width: 40, height: 12, rx: 2 }), svg("line", { class: "centre", x1: 60, x2: 60, y1: 2, y2: 14 }));
    if (low !== undefined && high !== undefined) drawn.append(svg("line", { class: "reach", x1: x(low), x2: x(high), y1: 8, y2: 8 }));
    drawn.append(Math.abs(middle) > 2.9
      ? svg("path", { class: "at", d: middle > 0 ? "M113,3L120,8L113,13Z" : "M7,3L0,8L7,13Z" })
      : svg("circle", { class: "at", cx: x(middle), cy: 8, r: 3.5 }));
    return drawn;
  }

  const lines = (...parts) => parts.filter(Boolean).map((part) => make("p", "", ...[part].flat()));
  function step(name, ...parts) {
    const said = lines(...parts);
    return said.length ? make("li", "", make("h4", "", name), make("div", "", ...said)) : "";
  }
  const joined = (...parts) => parts.filter(Boolean).join(", ");
  function way(claim) {
    const paper = papers[paperOf(claim)];
    const known = claim.known ? ` (${claim.known})` : "";
    const arxiv = paper.arxiv ? [" · ", anchor(`arXiv ${paper.arxiv}`, `https://arxiv.org/abs/${paper.arxiv}`)] : [];
    const code = paper.code ? ["Released code: ", anchor(paper.code.replace("https://", ""), paper.code), paper.commit ? ` at ${paper.commit}` : ""] : null;
    const made = claim.of?.flatMap((id, place) => [place ? " over " : "Made of ", byId.has(id) ? anchor(id, `#claim/${id}`) : id]);
    return make("ol", "",
      step("Source", [...(made ?? [make("b", "", claim.source)]), known], [`${paper.title} (${paper.venue})`, ...arxiv], code),
      step("Printed", [make("b", "", claim.printed), ` · ${joined(claim.metric, claim.split, claim.task, claim.aggregation)} · ${claim.variant}`],
        claim.conditions, claim.device && `On ${claim.device}`,
        claim.recomputed && `Recomputed from its own cells: ${claim.recomputed}, which ${claim.fits ? "fits" : "does not fit"}`, claim.fine && `Fine print: ${claim.fine}`),
      step("Band", claim.band, claim.tolerance),
      step("Measured", claim.measured && `${claim.measured} ${claim.interval ?? ""}`,
        joined(claim.tier, claim.scale && `scale ${claim.scale}`, claim.over, claim.p && `p ${claim.p}`)),
      step("Verdict", [verdict(claim)], claim.why),
      step("Records", records(claim), [make("code", "", `bench show ${claim.id}`), " · ", anchor(`page of ${paper.label}`, `${paperOf(claim)}.md`), " · ", anchor("link to this claim", `#claim/${claim.id}`)]));
  }
  function records(claim) {
    if (!claim.runs) return "None yet.";
    const list = claim.runs.map((place) => {
      const [id, scale, paper, variant, task, seed] = runs[place], parts = [scale, paper, variant, task, `${id}.json`];
      const name = data.results === null ? make("code", "", id) : anchor(id, [data.results, ...parts.map(encodeURIComponent)].join("/"));
      return make("span", "", name, ` ${joined(variant, task === scale ? "" : task, scale, task === scale ? "" : `seed ${seed}`)}`);
    });
    return make("span", "files", ...list, claim.more ? make("span", "", `and ${claim.more} more beside them`) : "");
  }

  // #claims?paper=..&verdict=..&q=.. is a search, #claim/ID one claim, opened.
  function named(hash) {
    try { return decodeURIComponent(hash.slice(7)); } catch { return ""; }
  }
  function follow() {
    const hash = location.hash;
    if (hash.startsWith("#claim/") && byId.has(named(hash))) {
      for (const select of selects) select.value = "";
      q.value = named(hash);
      render();
      toggle(body.rows[0], byId.get(q.value), true);
    } else if (hash.startsWith("#claims?")) {
      const query = new URLSearchParams(hash.slice(8));
      for (const select of selects) {
        const value = query.get(select.id) ?? "";
        select.value = [...select.options].some((option) => option.value === value) ? value : "";
      }
      q.value = query.get("q") ?? "";
      render();
    } else return;
    requestAnimationFrame(() => requestAnimationFrame(() => $("#claims").scrollIntoView()));  // when the figure is drawn
  }
  function remember() {
    const query = new URLSearchParams([...selects, q].map((field) => [field.id, field.value]).filter(([, value]) => value));
    try { history.replaceState(null, "", query.size ? `#claims?${query}` : "#claims"); } catch { /* not for every file */ }
  }
  for (const button of $$("#claim-table thead button")) {
    button.addEventListener("click", () => {
      sorted = { by: button.dataset.by, way: next(button.parentElement) };
      render();
    });
  }
  asked($("#filters"), () => { render(); remember(); });
  $("#clear").addEventListener("click", () => {
    for (const field of [...selects, q]) field.value = "";
    render();
    remember();
  });
  window.addEventListener("hashchange", follow);
  render();
  follow();
})();
