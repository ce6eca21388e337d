"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("curve-data").textContent);
  const domainOf = () => ($("domain") ? $("domain").value : Object.keys(data)[0]);

  // --- tables: every column's name sorts, empty cells last --------------------------------
  const value = (row, column) => {
    const cell = row.cells[column];
    const raw = cell.dataset.v ?? cell.textContent.trim();
    if (raw === "" || raw === "None") return null;
    return raw !== "" && !Number.isNaN(Number(raw)) ? Number(raw) : raw.toLowerCase();
  };
  const sortBy = (table, column) => {
    const head = table.tHead.rows[0].cells[column];
    const numeric = head.classList.contains("n");
    const now = head.getAttribute("aria-sort");
    const down = now ? now === "ascending" : numeric; // figures: the largest first
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row, at) => [value(row, column), at, row]);
    rows.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return a === b ? i - j : a === null ? 1 : -1;
      const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      return (down ? -order : order) || i - j;
    });
    table.tBodies[0].append(...rows.map(([, , row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      if (cell.classList.contains("plain")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = cell.textContent;
      button.addEventListener("click", () => sortBy(table, column));
      cell.replaceChildren(button);
    });
  }

  // --- search ------------------------------------------------------------------------------
  const search = () => {
    const wanted = $("search").value.trim().toLowerCase();
    for (const part of document.querySelectorAll(".domain")) {
      const rows = [...part.querySelectorAll("tbody tr")];
      let shown = 0;
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += row.hidden ? 0 : 1;
      }
      part.hidden = part.dataset.domain !== domainOf();
      if (!part.hidden) $("shown").textContent = `${shown} of ${rows.length} classes`;
    }
  };

  // --- curves of a class ---------------------------------------------------------------------
  const NS = "http://www.w3.org/2000/svg";
  const draw = (parent, name, attributes, text) => {
    const node = document.createElementNS(NS, name);
    for (const [key, item] of Object.entries(attributes)) node.setAttribute(key, item);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const [W, H, L, T, B, R] = [390, 350, 46, 30, 44, 10];
  const px = (x) => (L + ((W - L - R) * x) / 1000).toFixed(1);
  const py = (y) => (H - B - ((H - B - T) * y) / 1000).toFixed(1);
  const path = (flat, step) => {
    let text = "";
    for (let at = 0; at < flat.length; at += 2) {
      const [x, y] = [px(flat[at]), py(flat[at + 1])];
      text += at === 0 ? `M${x} ${y}` : step ? `H${x}V${y}` : `L${x} ${y}`;
    }
    return text;
  };
  const TITLES = { shipped: "shipped", mean_kernel: "mean + kernel" };
  const plot = (target, one, kind, xTitle, yTitle) => {
    const svg = document.createElementNS(NS, "svg");
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    svg.setAttribute("class", "plot");
    svg.setAttribute("role", "img");
    const words = [];
    for (let at = 0; at <= 1000; at += 200) {
      draw(svg, "line", { class: "grid", x1: px(at), x2: px(at), y1: py(0), y2: py(1000) });
      draw(svg, "line", { class: "grid", x1: px(0), x2: px(1000), y1: py(at), y2: py(at) });
      draw(svg, "text", { x: px(at), y: H - B + 17, "text-anchor": "middle" }, (at / 1000).toFixed(1));
      draw(svg, "text", { x: L - 7, y: Number(py(at)) + 4, "text-anchor": "end" }, (at / 1000).toFixed(1));
    }
    draw(svg, "text", { class: "title", x: px(500), y: H - 6, "text-anchor": "middle" }, xTitle);
    draw(svg, "text", { class: "title", x: 0, y: 0, "text-anchor": "middle", transform: `translate(13 ${py(500)}) rotate(-90)` }, yTitle);
    const level = 1000 * one.share;
    draw(svg, "path", { class: "chance", d: kind === "roc" ? path([0, 0, 1000, 1000]) : path([0, level, 1000, level]) });
    let left = L;
    for (const name of ["mean_kernel", "shipped"]) {
      const curve = one.curves[name];
      if (!curve) continue;
      draw(svg, "path", { class: name === "shipped" ? "ours" : "control", d: path(curve[kind], false) });
    }
    for (const name of ["shipped", "mean_kernel"]) {
      const curve = one.curves[name];
      if (!curve) continue;
      const figure = kind === "roc" ? curve.auc : curve.ap;
      const label = `${TITLES[name]} ${figure.toFixed(3)}`;
      draw(svg, "path", { class: name === "shipped" ? "ours" : "control", d: `M${left} 12h26` });
      draw(svg, "text", { x: left + 32, y: 16 }, label);
      left += 44 + label.length * 7;
      words.push(label);
    }
    svg.setAttribute("aria-label", `${kind === "roc" ? "ROC curves, AUC" : "Precision-recall curves, average precision"}: ${words.join(", ")}`);
    $(target).replaceChildren(svg);
  };
  const show = (name) => {
    const list = data[domainOf()] ?? [];
    const at = Math.max(0, list.findIndex((one) => one.name === name));
    const one = list[at];
    if (!one) return;
    $("class").value = one.name;
    $("picked").textContent = `${one.name}: ${one.positives} positive windows, ${(100 * one.share).toFixed(2)} % of those known`;
    plot("roc", one, "roc", "false positive rate", "true positive rate");
    plot("pr", one, "pr", "recall", "precision");
    for (const button of document.querySelectorAll("button.pick")) {
      button.closest("tr").classList.toggle("chosen", button.dataset.class === one.name);
    }
  };
  const fill = () => {
    const kept = $("class").value;
    $("class").replaceChildren(
      ...(data[domainOf()] ?? []).map((one) => {
        const option = document.createElement("option");
        option.value = option.textContent = one.name;
        return option;
      }),
    );
    show(kept);
  };
  const step = (by) => {
    const list = data[domainOf()];
    const at = list.findIndex((one) => one.name === $("class").value);
    show(list[(at + by + list.length) % list.length].name);
  };
  if ($("search")) {
    $("search").addEventListener("input", search);
    $("domain")?.addEventListener("change", () => { search(); fill(); });
    $("class").addEventListener("change", () => show($("class").value));
    $("previous").addEventListener("click", () => step(-1));
    $("next").addEventListener("click", () => step(1));
    for (const button of document.querySelectorAll("button.pick")) {
      button.addEventListener("click", () => {
        show(button.dataset.class);
        $("curves").scrollIntoView();
        $("class").focus({ preventScroll: true });
      });
    }
    search();
    fill();
  }

  // --- sound: one at a time, with a line that runs through its picture -------------------------
  for (const audio of document.querySelectorAll("audio")) {
    const line = audio.closest("article").querySelector(".playhead");
    const move = () => {
      const share = audio.duration ? audio.currentTime / audio.duration : 0;
      const [from, to] = [Number(line.dataset.x0), Number(line.dataset.x1)];
      line.setAttribute("x1", from + share * (to - from));
      line.setAttribute("x2", from + share * (to - from));
      if (!audio.paused) requestAnimationFrame(move);
    };
    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
      if (line) { line.style.visibility = "visible"; move(); }
    });
    audio.addEventListener("seeked", () => line && move());
  }

  // --- print: what is folded comes along -------------------------------------------------------
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();
