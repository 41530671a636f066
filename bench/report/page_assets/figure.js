// The figure: printed and measured share of the score against speed; hover, tap or Tab tells, drag, pinch, wheel or keys zoom.
(() => {
  "use strict";
  const { $ } = window.bench;
  const data = JSON.parse($("#data").textContent);
  window.bench.data = data;
  const canvas = $(".canvas");
  if (!canvas || !data.figure) return;
  const points = data.figure.points, tip = $(".tip"), plot = $(".plot");
  const papers = [...new Set(points.map((point) => point.paper))].sort();
  const look = (paper) => papers.indexOf(paper) % 7;
  const pad = { left: 46, right: 14, top: 40, bottom: 42 };

  function node(name, facts = {}, ...inside) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(facts)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  }
  const shapes = [
    (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
    (r) => `M${-r},${-r}H${r}V${r}H${-r}Z`,
    (r) => `M0,${-1.2 * r}L${1.2 * r},${r}H${-1.2 * r}Z`,
    (r) => `M0,${-1.35 * r}L${1.35 * r},0L0,${1.35 * r}L${-1.35 * r},0Z`,
    (r) => `M0,${1.2 * r}L${1.2 * r},${-r}H${-1.2 * r}Z`,
    (r) => `M${-r / 2},${-1.2 * r}h${r}v${0.7 * r}h${0.7 * r}v${r}h${-0.7 * r}v${0.7 * r}h${-r}v${-0.7 * r}h${-0.7 * r}v${-r}h${0.7 * r}Z`,
    (r) => `M0,${-1.3 * r}L${0.4 * r},${-0.4 * r}L${1.3 * r},0L${0.4 * r},${0.4 * r}L0,${1.3 * r}L${-0.4 * r},${0.4 * r}L${-1.3 * r},0L${-0.4 * r},${-0.4 * r}Z`,
  ];

  // It stays while what it holds is drawn anew: fingers on it would lose their place with the element that they touch.
  const svg = node("svg");
  canvas.append(svg);

  // What is seen: logarithms to the base of ten across, percent upwards.
  const heights = points.flatMap((point) => [point.printed, point.measured]).filter((y) => y !== null);
  const span = Math.max(...heights) - Math.min(...heights);
  const whole = {
    x0: Math.log10(0.8), x1: Math.log10(1.5 * Math.max(...points.map((point) => point.x))),
    y0: Math.min(...heights) - 0.1 * span - 1, y1: Math.max(...heights) + 0.1 * span + 1,
  };
  let view = { ...whole }, size = { width: 0, height: 0 }, marks = [], told = null;
  const inner = () => ({ width: size.width - pad.left - pad.right, height: size.height - pad.top - pad.bottom });
  const across = (x) => pad.left + (Math.log10(x) - view.x0) / (view.x1 - view.x0) * inner().width;
  const down = (y) => pad.top + (view.y1 - y) / (view.y1 - view.y0) * inner().height;
  const at = (left, top) => ({
    x: view.x0 + (left - pad.left) / inner().width * (view.x1 - view.x0),
    y: view.y1 - (top - pad.top) / inner().height * (view.y1 - view.y0),
  });

  function even(low, high, most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let tick = Math.ceil(low / step); tick * step <= high; tick++) found.push(Number((tick * step).toPrecision(10)));
    return found;
  }
  function ticks(low, high, most) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const m of [1, 2, 5]) found.push(Number((m * 10 ** power).toPrecision(6)));
    }
    const inside = found.filter((tick) => tick >= low && tick <= high);
    if (inside.length < 3) return even(low, high, most);
    return inside.length > most ? inside.filter((tick) => String(tick).replace(/[.0]/g, "") === "1") : inside;
  }

  const pen = document.createElement("canvas").getContext("2d");
  // A name stands beside its mark, off all other marks and names; off their lines too, where there is such a place.
  function labels(marked, lined) {
    const frame = { left: pad.left, right: size.width - pad.right, top: pad.top, bottom: size.height - pad.bottom };
    pen.font = `500 12.5px ${getComputedStyle(document.body).fontFamily}`;
    const cover = (box, taken) => taken.some((other) => box.left < other.right && box.right > other.left && box.top < other.bottom && box.bottom > other.top);
    const ways = [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [-1, -1], [1, 1], [-1, 1]];
    const fits = (box) => box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom && !cover(box, marked);
    for (const mark of marks) {
      const width = pen.measureText(mark.point.shown).width + 2, height = 15, tried = [];
      for (let far = 9; far <= 45; far += 6) {
        for (const [dx, dy] of ways) {
          for (const spot of mark.spots) {
            const left = spot.left + (dx > 0 ? far : dx < 0 ? -far - width : -width / 2);
            const top = spot.top + (dy > 0 ? far : dy < 0 ? -far - height : -height / 2);
            tried.push({ spot, far, box: { left, right: left + width, top, bottom: top + height } });
          }
        }
      }
      if (!mark.spots.some(({ left, top }) => left >= frame.left && left <= frame.right && top >= frame.top && top <= frame.bottom)) continue;
      const free = tried.filter(({ box }) => fits(box));
      const found = free.find(({ box, far }) => far < 30 && !cover(box, lined)) ?? free[0];
      if (!found) continue;  // hover and zoom tell its name
      marked.push(found.box);
      if (found.far > 15) {
        const x = Math.min(Math.max(found.spot.left, found.box.left), found.box.right);
        const y = Math.min(Math.max(found.spot.top, found.box.top), found.box.bottom);
        mark.node.append(node("line", { class: "lead", x1: x, y1: y, x2: found.spot.left, y2: found.spot.top }));
      }
      mark.node.append(node("text", { class: "label", x: found.box.left + 1, y: found.box.bottom - 3.5 }, mark.point.shown));
    }
  }

  function draw() {
    const { width, height } = size, { left, top } = pad, right = width - pad.right, bottom = height - pad.bottom;
    const focus = canvas.contains(document.activeElement) ? document.activeElement.dataset?.label : null;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    svg.replaceChildren(node("clipPath", { id: "inside" }, node("rect", { x: left, y: top - 6, width: right - left, height: bottom - top + 6 })));
    for (const tick of ticks(10 ** view.x0, 10 ** view.x1, width / 55)) {
      const x = across(tick);
      svg.append(node("line", { class: "grid", x1: x, x2: x, y1: top, y2: bottom }),
        node("text", { x, y: bottom + 17, "text-anchor": "middle" }, tick.toLocaleString("en")));
    }
    for (const tick of even(view.y0, view.y1, height / 60)) {
      const y = down(tick);
      svg.append(node("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }),
        node("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, String(tick)));
    }
    svg.append(node("text", { x: right, y: height - 6, "text-anchor": "end" }, "times as fast as the reference, batch 1 (log)"),
      node("text", { x: left, y: top - 14 }, "% of the reference's score"));
    const layer = node("g", { "clip-path": "url(#inside)" });
    const marked = [], lined = [];
    marks = points.map((point) => mark(point, marked, lined));
    labels(marked, lined);
    layer.append(...marks.map((one) => one.node));
    svg.append(layer);
    if (focus) marks.find((one) => one.point.label === focus)?.node.focus();
  }
  function mark(point, marked, lined) {
    const x = across(point.x), shape = shapes[look(point.paper)](5), spots = [];
    const group = node("g", { class: `system c${look(point.paper)}`, tabindex: 0, role: "img", "data-label": point.label });
    const { printed, measured } = point;
    if (printed !== null && measured !== null) group.append(node("line", { class: "gap", x1: x, x2: x, y1: down(printed), y2: down(measured) }));
    if (point.bar?.length) group.append(node("line", { class: "error", x1: x, x2: x, y1: down(point.bar[0]), y2: down(point.bar[1]) }));
    for (const [y, fill] of [[printed, "hollow"], [measured, "solid"]]) {
      if (y === null) continue;
      group.append(node("path", { class: `mark ${fill}`, d: shape, transform: `translate(${x},${down(y)})` }));
      spots.push({ left: x, top: down(y) });
      marked.push({ left: x - 7, right: x + 7, top: down(y) - 7, bottom: down(y) + 7 });
    }
    const ends = [printed, measured, ...(point.bar ?? [])].filter((y) => y !== null).map(down);
    lined.push({ left: x - 2, right: x + 2, top: Math.min(...ends), bottom: Math.max(...ends) });
    const lines = facts(point);
    group.setAttribute("aria-label", `${point.label}. ${lines.map(([name, text]) => `${name}: ${text}`).join("; ")}`);
    group.addEventListener("focus", () => tell(marks.find((one) => one.point === point)));
    group.addEventListener("blur", () => { if (told?.point === point) tell(null); });
    return { point, node: group, spots, lines };
  }

  // The cells of the table above, so that both say the same.
  const cells = new Map([...$("#systems").tBodies[0].rows].map((row) => [row.dataset.name.replace(/ ‡$/, ""), row]));
  function facts(point) {
    const row = cells.get(point.label);
    if (!row) return [];
    const words = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
    return [["Price", words(row.cells[0].querySelector(".price"))],
      ...[1, 2, 3, 4].map((place) => [row.cells[place].dataset.label, words(row.cells[place])])].filter(([, text]) => text);
  }
  function tell(one) {
    if (one === told) return;
    told = one;
    for (const other of marks) other.node.classList.toggle("dim", one !== null && other !== one);
    tip.hidden = one === null;
    if (one === null) return;
    const title = document.createElement("b"), list = document.createElement("dl");
    title.textContent = one.point.label;
    for (const [name, text] of one.lines) {
      const term = document.createElement("dt"), says = document.createElement("dd");
      [term.textContent, says.textContent] = [name, text];
      list.append(term, says);
    }
    tip.replaceChildren(title, list);
    if (size.width < 600) {  // below the plot, which it would cover
      tip.style.left = "0";
      tip.style.top = `${size.height}px`;
      return;
    }
    const spot = one.spots[one.spots.length - 1], right = spot.left + 16 + tip.offsetWidth > size.width;
    tip.style.left = `${Math.max(0, right ? spot.left - 16 - tip.offsetWidth : spot.left + 16)}px`;
    tip.style.top = `${Math.max(0, Math.min(spot.top - tip.offsetHeight / 2, size.height - tip.offsetHeight))}px`;
  }
  function nearest(left, top, reach) {
    let best = null, least = reach;
    for (const one of marks) {
      for (const spot of one.spots) {
        const far = Math.hypot(spot.left - left, spot.top - top);
        if (far < least) [best, least] = [one, far];
      }
    }
    return best;
  }

  function look_at(next) {
    const clamp = (low, high, a, b) => {
      const width = Math.min(Math.max(b - a, (high - low) / 40), high - low), middle = (a + b) / 2;
      const start = Math.min(Math.max(middle - width / 2, low), high - width);
      return [start, start + width];
    };
    const [x0, x1] = clamp(whole.x0, whole.x1, next.x0, next.x1), [y0, y1] = clamp(whole.y0, whole.y1, next.y0, next.y1);
    view = { x0, x1, y0, y1 };
    tell(null);
    draw();
  }
  function zoom(factor, centre) {
    const { x, y } = centre ?? { x: (view.x0 + view.x1) / 2, y: (view.y0 + view.y1) / 2 };
    look_at({ x0: x - (x - view.x0) * factor, x1: x + (view.x1 - x) * factor, y0: y - (y - view.y0) * factor, y1: y + (view.y1 - y) * factor });
  }
  function move(right, up) {
    const dx = right * (view.x1 - view.x0), dy = up * (view.y1 - view.y0);
    look_at({ x0: view.x0 + dx, x1: view.x1 + dx, y0: view.y0 + dy, y1: view.y1 + dy });
  }
  const steps = { in: () => zoom(0.7), out: () => zoom(1 / 0.7), reset: () => look_at(whole) };
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", steps[button.dataset.zoom]);
  const keys = {
    "+": steps.in, "=": steps.in, "-": steps.out, 0: steps.reset, ArrowLeft: () => move(-0.15, 0), ArrowRight: () => move(0.15, 0),
    ArrowUp: () => move(0, 0.15), ArrowDown: () => move(0, -0.15), Escape: () => tell(null),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  // One pointer hovers, taps or draws a box; two pinch. One finger that moves scrolls the page, as everywhere else.
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { left: event.clientX - box.left, top: event.clientY - box.top };
  };
  const pointers = new Map();
  let start = null, pinch = null;
  const pair = () => {
    const [one, other] = [...pointers.values()];
    return { left: (one.left + other.left) / 2, top: (one.top + other.top) / 2, apart: Math.max(20, Math.hypot(one.left - other.left, one.top - other.top)) };
  };
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, place(event));
    if (event.pointerType === "mouse" && event.button === 0) {
      start = place(event);
      canvas.setPointerCapture(event.pointerId);
    }
    if (pointers.size === 2) {
      const now = pair();
      pinch = { apart: now.apart, view: { ...view }, centre: at(now.left, now.top) };
    }
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, now);
    if (pinch && pointers.size === 2) return pinched();
    if (start && Math.hypot(now.left - start.left, now.top - start.top) > 5) return box(start, now);
    if (event.pointerType === "mouse") tell(nearest(now.left, now.top, 28));
  });
  function pinched() {
    const now = pair(), scale = pinch.apart / now.apart, { view: old, centre } = pinch;
    const dx = (old.x1 - old.x0) * scale, dy = (old.y1 - old.y0) * scale;
    // What was between the fingers stays there.
    const x0 = centre.x - (now.left - pad.left) / inner().width * dx, y1 = centre.y + (now.top - pad.top) / inner().height * dy;
    look_at({ x0, x1: x0 + dx, y0: y1 - dy, y1 });
  }
  function box(one, other) {
    tell(null);
    canvas.querySelector(".box")?.remove();
    const x = Math.min(one.left, other.left), y = Math.min(one.top, other.top);
    svg.append(node("rect", { class: "box", x, y, width: Math.abs(one.left - other.left), height: Math.abs(one.top - other.top) }));
  }
  function end(event) {
    const now = place(event), drawn = canvas.querySelector(".box");
    const tapped = event.type === "pointerup" && event.pointerType !== "mouse" && !pinch && pointers.size === 1;
    pointers.delete(event.pointerId);
    if (drawn) {
      drawn.remove();
      const a = at(start.left, start.top), b = at(now.left, now.top);
      if (Math.abs(now.left - start.left) > 8 && Math.abs(now.top - start.top) > 8) {
        look_at({ x0: Math.min(a.x, b.x), x1: Math.max(a.x, b.x), y0: Math.min(a.y, b.y), y1: Math.max(a.y, b.y) });
      }
    }
    start = null;
    if (tapped) tell(nearest(now.left, now.top, 40));
    if (pointers.size < 2) pinch = null;
  }
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && !start) tell(null); });
  document.addEventListener("pointerdown", (event) => { if (!canvas.contains(event.target)) tell(null); });
  canvas.addEventListener("dblclick", steps.reset);
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;  // a plain wheel scrolls the page; a pinched touchpad comes with ctrl
    event.preventDefault();
    const now = place(event);
    zoom(Math.exp(Math.max(-50, Math.min(50, event.deltaY)) * 0.008), at(now.left, now.top));
  }, { passive: false });
  canvas.addEventListener("touchmove", (event) => { if (event.touches.length > 1) event.preventDefault(); }, { passive: false });

  for (const paper of papers) {
    const row = document.createElement("li");
    row.className = `c${look(paper)}`;
    row.append(node("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, node("path", { class: "mark", d: shapes[look(paper)](5) })),
      data.papers[paper]?.label ?? paper);
    plot.querySelector(".key").append(row);
  }
  new ResizeObserver(() => {
    const width = Math.round(canvas.clientWidth);
    if (!width || width === size.width) return;
    size = { width, height: Math.round(Math.max(330, Math.min(460, width * 0.42))) };
    tell(null);
    draw();
  }).observe(canvas);
})();
