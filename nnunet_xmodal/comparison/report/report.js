
"use strict";
// Sorting, choosing, filtering and paging. Names get into the page through textContent only.
(() => {
  const collator = new Intl.Collator(undefined, { numeric: true });
  const MISSING = "–";

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  const LONG = 24; // characters of a name that may be broken; as in html.py

  // With places where a narrow table may break a long name: after _ and between camelCase words
  function breakable(text) {
    if (text.length <= LONG) return [text];
    const parts = text.replace(/_|[a-z0-9](?=[A-Z][a-z])/g, "$&\u0000").split("\u0000");
    return parts.flatMap((part, i) => (i ? [element("wbr"), part] : [part]));
  }

  const widthOf = (text) => (text.length > 60 ? "long" : text.length > LONG ? "name" : "");

  // ---- sorting: keys are numbers, NaN where a cell is empty; empty ones stay last both ways

  function compareKeys(a, b, sign) {
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return a < b ? -sign : a > b ? sign : 0;
  }

  // Places of texts in alphabetical order, as keys
  function ranksOf(texts) {
    const order = texts.map((_, i) => i).sort((i, j) => collator.compare(texts[i], texts[j]));
    const ranks = new Float64Array(texts.length);
    order.forEach((i, rank) => { ranks[i] = texts[i] === "" ? NaN : rank; });
    return ranks;
  }

  function makeSortable(headers, sort) {
    headers.forEach((header, column) => {
      header.querySelector("button").addEventListener("click", () => {
        const ascending = header.getAttribute("aria-sort") !== "ascending";
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sort(column, ascending ? 1 : -1);
      });
    });
  }

  // ---- tables that are in the page

  function sortableTable(table) {
    const body = table.tBodies[0];
    makeSortable([...table.tHead.rows[0].cells], (column, sign) => {
      const rows = [...body.rows];
      const texts = rows.map((row) => row.cells[column].dataset.key);
      const numeric = rows.some((row) => row.cells[column].classList.contains("number"));
      const keys = numeric
        ? texts.map((text) => (text === "" ? NaN : Number(text.replace("inf", "Infinity"))))
        : ranksOf(texts);
      const order = rows.map((_, i) => i).sort((i, j) => compareKeys(keys[i], keys[j], sign) || i - j);
      body.append(...order.map((i) => rows[i]));
    });
  }

  // ---- tables that are drawn, a page of rows at a time, from data

  function readColumn(data) {
    if (data.kind === "text") {
      const ranks = ranksOf(data.texts);
      return {
        title: data.title,
        numeric: false,
        texts: data.texts,
        codes: data.codes,
        length: data.codes.length,
        key: (row) => ranks[data.codes[row]],
        text: (row) => data.texts[data.codes[row]],
      };
    }
    const keys = Float64Array.from(data.values, (value) => (value === null ? NaN : Number(value)));
    return {
      title: data.title,
      numeric: true,
      length: keys.length,
      key: (row) => keys[row],
      text: (row) => (data.shown ? data.shown[row] : format(keys[row], data.decimals)),
    };
  }

  function format(value, decimals) {
    if (Number.isNaN(value)) return MISSING;
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    const text = decimals === null ? String(Number(value.toPrecision(4))) : value.toFixed(decimals);
    return text.replace(/^-(?=[0.]*$)/, "").replace("-", "−");
  }

  function dataTable(root) {
    const data = JSON.parse(document.getElementById(root.dataset.source).textContent);
    const columns = data.columns.map((column) => ({ fixed: () => false, ...readColumn(column) }));
    const total = columns[0].length;
    const pageSize = Number(root.dataset.page);
    const keep = []; // functions of a row
    let sorting = null;
    let rows = [];
    let page = 0;

    const tools = element("p", { className: "tools" });
    const status = element("span");
    status.setAttribute("role", "status");
    const body = element("tbody");

    function draw() {
      const start = page * pageSize;
      const end = Math.min(start + pageSize, rows.length);
      const shown = columns.filter((column) => !column.fixed());
      body.replaceChildren(...rows.slice(start, end).map((row) => element("tr", {}, ...shown.map((column) => {
        const text = column.text(row);
        if (column.numeric) return element("td", { className: "number", textContent: text });
        return element("td", { className: widthOf(text) }, ...breakable(text));
      }))));
      columns.forEach((column, i) => { headers[i].hidden = column.fixed(); });
      const count = (n) => n.toLocaleString("en");
      status.textContent = rows.length ? `${count(start + 1)}–${count(end)} of ${count(rows.length)}` : "no rows";
      previous.disabled = page === 0;
      next.disabled = end >= rows.length;
      previous.hidden = next.hidden = rows.length <= pageSize;
    }

    function update() {
      rows = [];
      for (let row = 0; row < total; row++) if (keep.every((test) => test(row))) rows.push(row);
      if (sorting) {
        const { key } = columns[sorting.column];
        rows.sort((i, j) => compareKeys(key(i), key(j), sorting.sign) || i - j);
      }
      page = 0;
      draw();
    }

    function turn(pages) {
      page += pages;
      draw();
    }

    for (const choice of data.choices) {
      const { title, texts, codes } = columns[choice.column];
      if (texts.length < 2) continue;
      const select = element("select", {}, element("option", { value: "", textContent: `all ${title}s` }));
      texts.forEach((text, code) => select.append(element("option", { value: String(code), textContent: text })));
      if (texts.includes(choice.selected)) select.value = String(texts.indexOf(choice.selected));
      keep.push((row) => select.value === "" || codes[row] === Number(select.value));
      columns[choice.column].fixed = () => select.value !== ""; // a column of one text says nothing
      select.addEventListener("change", update);
      tools.append(element("label", {}, `${title} `, select));
    }

    if (data.filter) {
      const input = element("input", { type: "search", placeholder: "words of a row" });
      const searched = columns.filter((column) => !column.numeric);
      let found = []; // per word and column, whether each text has it
      input.addEventListener("input", () => {
        const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        found = words.map((word) => searched.map(({ texts }) => texts.map((text) => text.toLowerCase().includes(word))));
        update();
      });
      keep.push((row) => found.every((word) => word.some((hits, column) => hits[searched[column].codes[row]])));
      tools.append(element("label", {}, "filter ", input));
    }

    const previous = element("button", { type: "button", textContent: "← previous" });
    const next = element("button", { type: "button", textContent: "next →" });
    previous.addEventListener("click", () => turn(-1));
    next.addEventListener("click", () => turn(1));
    tools.append(status, previous, next);

    const headers = columns.map((column) => {
      const button = element("button", { type: "button" }, ...breakable(column.title));
      const header = element("th", { className: `${column.numeric ? "number" : ""} ${widthOf(column.title)}` }, button);
      header.setAttribute("scope", "col");
      return header;
    });
    makeSortable(headers, (column, sign) => {
      sorting = { column, sign };
      update();
    });
    const caption = element("caption", { className: "unseen", textContent: root.dataset.caption });
    const table = element("table", {}, caption, element("thead", {}, element("tr", {}, ...headers)), body);
    const scroll = element("div", { className: "scroll", tabIndex: 0 }, table);
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", root.dataset.caption);
    root.append(tools, scroll);
    update();
  }

  // ---- one label of a section

  function chooser(select) {
    const parts = document.querySelectorAll(`#${select.dataset.section} .labelled`);
    const choose = () => parts.forEach((part) => {
      part.hidden = select.value !== "" && part.dataset.label !== select.value;
    });
    select.addEventListener("change", choose);
    choose();
  }

  document.querySelectorAll("table.sortable").forEach(sortableTable);
  document.querySelectorAll(".data-table").forEach(dataTable);
  document.querySelectorAll("select.chooser").forEach(chooser);
})();
