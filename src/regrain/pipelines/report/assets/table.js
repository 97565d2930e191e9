// The table of layers: sorted, searched, opened. It holds few rows at a time, so that thousands of layers stay smooth.

const ROWS = 25;

const NARROW = matchMedia("(max-width: 760px)"); // as in the style sheet: columns marked `wide` are not shown

const COLUMNS = [
  { key: "name", title: "layer" },
  { key: "shapeText", title: "shape", wide: true, by: "weights" },
  { key: "granularity", title: "granularity", wide: true },
  { key: "kept", title: "kept", by: "density" },
  { key: "bits", title: "bits", text: (layer) => fixed(layer.bits, 2) },
  { key: "bytes", title: "MB", text: (layer) => megabytes(layer.bytes), bar: true },
  { key: "damage", title: "damage %", text: (layer) => inPercent(layer.damageShare), bar: true },
];

const inPercent = (share) => (share > 0 && share < 5e-5 ? "<0.01" : share === null ? NONE : (100 * share).toFixed(2));

const STATISTICS = {
  std: "standard deviation",
  absmax: "largest magnitude",
  kurtosis: "kurtosis",
  exponent_entropy: "entropy of exponents, bits",
  int8_entropy: "entropy of int8 indices, bits",
  sparsity: "zeros, fraction",
  input_mean: "mean of inputs",
  input_variance: "variance of inputs",
};

/** Layers as objects, from the columns that the page holds. */
function layersOf(columns) {
  const total = sum(columns.damage);
  const known = Object.keys(STATISTICS).filter((key) => key in columns.statistics);
  const measured = [...new Set([...known, ...Object.keys(columns.statistics)])];
  return columns.name.map((name, index) => {
    const layer = { index, name };
    for (const key of ["shape", "kind", "weights", "granularity", "cell", "scheme", "kept", "density", "step", "bits", "bytes", "damage"]) {
      layer[key] = columns[key][index];
    }
    layer.why = columns.why[index];
    layer.sensitivity = columns.sensitivity[index];
    layer.histogram = columns.histogram?.[index] ?? null;
    layer.statistics = measured
      .map((key) => [STATISTICS[key] ?? key.replaceAll("_", " "), columns.statistics[key][index]])
      .filter(([, value]) => value !== null);
    layer.shapeText = layer.shape.join("×") || "scalar";
    layer.damageShare = total > 0 && layer.damage !== null ? layer.damage / total : null;
    layer.words = [name, layer.kind, layer.granularity, layer.scheme, layer.why].join(" ").toLowerCase();
    return layer;
  });
}

/** Numbers by size, texts by code point, what is missing last in both directions. */
function ordered(layers, key, descending) {
  const sign = descending ? -1 : 1;
  return [...layers].sort((a, b) => {
    const [one, other] = [a[key], b[key]];
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * (one < other ? -1 : one > other ? 1 : 0) || a.index - b.index;
  });
}

function detailsOf(layer) {
  const facts = [
    ["shape", layer.shapeText],
    ["kind", layer.kind],
    ["granularity", layer.granularity],
    ["cell", layer.cell.length > 0 ? layer.cell.join("×") : null],
    ["scheme", layer.scheme],
    ["kept", layer.kept],
    ["step", layer.step === null ? null : significant(layer.step)],
    ["weights", layer.weights === null ? null : whole(layer.weights)],
    ["bytes", layer.bytes === null ? null : whole(layer.bytes)],
    ["predicted damage, D", layer.damage === null ? null : significant(layer.damage)],
    ["sensitivity", layer.sensitivity === null ? null : significant(layer.sensitivity)],
    ...layer.statistics.map(([name, value]) => [name, significant(value)]),
  ].filter(([, value]) => value !== null);
  const list = element("dl", {}, ...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const why = layer.why === null ? null : element("p", { class: "why" }, layer.why);
  const drawing = layer.histogram === null ? null : histogramOf(layer.histogram);
  return element("div", { class: "details-grid" }, element("div", {}, why, list), drawing);
}

function histogramOf({ from, to, heights }) {
  const bars = heights.map((height, index) =>
    shape("rect", {
      x: `${(100 * index) / heights.length}%`,
      width: `${88 / heights.length}%`,
      y: `${99 - height}%`,
      height: `${height}%`,
    }),
  );
  const label = `Histogram of the weights from ${significant(from)} to ${significant(to)}`;
  const ends = element("div", { class: "histogram-ends" }, element("span", {}, significant(from)), element("span", {}, significant(to)));
  return element("div", {}, shape("svg", { class: "histogram", role: "img", "aria-label": label }, ...bars), ends);
}

function rowOf(layer, most, columns, toggle, expanded) {
  const button = element("button", { type: "button", "aria-expanded": String(expanded) }, ...breakable(layer.name));
  button.addEventListener("click", () => toggle(layer.index));
  const cells = columns.slice(1).map((column) => {
    const cell = element("td", { class: column.wide ? "wide" : null }, column.text ? column.text(layer) : layer[column.key] ?? NONE);
    if (column.bar && layer[column.key] > 0) {
      const bar = element("i", { class: "bar" });
      bar.style.width = `${(100 * layer[column.key]) / most[column.key]}%`;
      cell.append(bar);
    }
    return cell;
  });
  return element("tr", { class: "layer", "data-index": layer.index }, element("th", { scope: "row" }, button), ...cells);
}

/** The table; gives back a function that opens the layer of an index and goes there. */
function setUpTable(layers) {
  const [table, search, more] = [byId("layers-table"), byId("layers-search"), byId("layers-more")];
  const columns = COLUMNS.filter((column) => layers.some((layer) => layer[column.key] !== null));
  const most = Object.fromEntries(columns.map(({ key, bar }) => [key, bar ? Math.max(...layers.map((layer) => layer[key] ?? 0)) : 0]));
  const state = { key: "bytes", descending: true, rows: ROWS, open: new Set(), words: [] };
  const body = table.tBodies[0];

  const matching = () => layers.filter((layer) => state.words.every((word) => layer.words.includes(word)));

  function draw() {
    const found = ordered(matching(), state.key, state.descending);
    const shown = found.slice(0, state.rows);
    body.replaceChildren(...shown.flatMap((layer) => rowsOf(layer)));
    const left = found.length - shown.length;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(left, 20 * ROWS)} more`;
    const size = sum(found.map((layer) => layer.bytes));
    byId("layers-status").textContent = `${whole(found.length)} of ${whole(layers.length)} tensors, ${megabytes(size)} MB`;
    for (const head of table.tHead.rows[0].cells) {
      const sorted = head.dataset.by === state.key;
      head.setAttribute("aria-sort", sorted ? (state.descending ? "descending" : "ascending") : "none");
    }
  }

  function rowsOf(layer) {
    const expanded = state.open.has(layer.index);
    const row = rowOf(layer, most, columns, toggle, expanded);
    return expanded ? [row, detailsRow(layer)] : [row];
  }

  const detailsRow = (layer) => {
    const count = columns.filter((column) => !(column.wide && NARROW.matches)).length;
    return element("tr", { class: "details" }, element("td", { colspan: count }, detailsOf(layer)));
  };

  const rowAt = (index) => body.querySelector(`tr[data-index="${index}"]`);

  function toggle(index) {
    const row = rowAt(index);
    const expanded = !state.open.delete(index);
    if (expanded) {
      state.open.add(index);
      row.after(detailsRow(layers[index]));
    } else {
      row.nextElementSibling.remove();
    }
    row.querySelector("button").setAttribute("aria-expanded", String(expanded));
  }

  function reveal(index) {
    if (!matching().includes(layers[index])) {
      search.value = "";
      state.words = [];
    }
    state.rows = Math.max(state.rows, ordered(matching(), state.key, state.descending).indexOf(layers[index]) + 1);
    state.open.add(index);
    draw();
    tip.hide();
    rowAt(index).scrollIntoView({ block: "center" });
    rowAt(index).querySelector("button").focus({ preventScroll: true });
  }

  for (const column of columns) {
    const by = column.by ?? column.key;
    const button = element("button", { type: "button" }, column.title);
    button.addEventListener("click", () => {
      const textual = typeof layers[0][by] === "string";
      [state.descending, state.key] = [by === state.key ? !state.descending : !textual, by];
      state.rows = ROWS;
      draw();
    });
    table.tHead.rows[0].append(element("th", { scope: "col", "data-by": by, class: column.wide ? "wide" : null }, button));
  }
  search.addEventListener("input", () => {
    state.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    state.rows = ROWS;
    draw();
  });
  NARROW.addEventListener("change", draw);
  more.addEventListener("click", () => {
    state.rows += 20 * ROWS;
    draw();
  });
  draw();
  return reveal;
}
