// Where bytes and damage are: a rectangle for each layer, in one for each block of the network. Color is bits per weight.

const HEADER = 17; // height of a block's name
const GAP = 2;

/**
 * Squarified treemap (Bruls, Huizing, van Wijk 2000): lay items of descending `value` into rows along the shorter side,
 * each row as long as that makes its worst aspect ratio better. Calls place(item, x, y, width, height).
 */
function squarify(items, x, y, width, height, place) {
  let rest = items.filter((item) => item.value > 0).sort((a, b) => b.value - a.value);
  let left = sum(rest.map((item) => item.value));
  while (rest.length > 0 && width > 0 && height > 0) {
    const scale = (width * height) / left;
    const side = Math.min(width, height);
    const [count, total] = bestRow(rest, side, scale);
    const thickness = (total * scale) / side;
    let offset = 0;
    for (const item of rest.slice(0, count)) {
      const length = (item.value * scale) / thickness;
      if (width < height) place(item, x + offset, y, length, thickness);
      else place(item, x, y + offset, thickness, length);
      offset += length;
    }
    if (width < height) [y, height] = [y + thickness, height - thickness];
    else [x, width] = [x + thickness, width - thickness];
    rest = rest.slice(count);
    left -= total;
  }
}

/** How many items the next row takes, and the sum of their values. */
function bestRow(items, side, scale) {
  let [total, count, best] = [0, 0, Infinity];
  for (const item of items) {
    const grown = total + item.value;
    const thickness = (grown * scale) / side;
    const ratio = (value) => Math.max((value * scale) / thickness ** 2, thickness ** 2 / (value * scale));
    const worst = Math.max(ratio(items[0].value), ratio(item.value));
    if (worst > best) break;
    [total, count, best] = [grown, count + 1, worst];
  }
  return [count, total];
}

/** encoder.layer.3 of encoder.layer.3.output.dense.weight; embeddings.word of embeddings.word.weight. */
function blockOf(name) {
  const parts = name.split(".");
  const number = parts.findIndex((part) => /^\d+$/.test(part));
  return parts.slice(0, number < 0 ? Math.max(1, parts.length - 1) : number + 1).join(".");
}

/** As much of a text as fits a width in pixels. Letters are about 6.2 pixels wide at this size. */
function fitting(text, width) {
  const room = Math.floor(width / 6.2);
  if (text.length <= room) return text;
  return room < 4 ? "" : `${text.slice(0, room - 1)}…`;
}

const bitsOf = (layer) => layer.bits;

/** From least to most bits among the layers that hold nearly all weights: a few odd ones must not use up the colors. */
function rampOf(layers) {
  const order = layers.filter((layer) => layer.bits !== null && layer.bytes > 0).sort((a, b) => b.bytes - a.bytes);
  const enough = 0.98 * sum(order.map((layer) => layer.bytes));
  let [held, count] = [0, 0];
  while (count < order.length && held < enough) held += order[count++].bytes;
  const span = (some) => ({ least: Math.min(...some.map(bitsOf)), most: Math.max(...some.map(bitsOf)) });
  const ramp = span(order.slice(0, count));
  return ramp.least < ramp.most ? ramp : span(order.concat({ bits: 0 }));
}

function shadeOf(layer, ramp) {
  if (layer.bits === null) return 0;
  return Math.max(0, Math.min(1, (layer.bits - ramp.least) / (ramp.most - ramp.least || 1)));
}

function cellOf(layer, block, ramp, x, y, width, height) {
  const shade = shadeOf(layer, ramp);
  const rect = shape("rect", { x, y, width, height });
  rect.style.fill = `color-mix(in oklab, var(--ramp-high) ${(100 * shade).toFixed(0)}%, var(--ramp-low))`;
  const own = layer.name.startsWith(`${block}.`) ? layer.name.slice(block.length + 1) : layer.name;
  const label = height > 15 ? fitting(own.replace(/\.weight$/, ""), width - 8) : "";
  const cell = shape(
    "g",
    { class: `cell ${shade > 0.56 ? "high" : "low"}`, "data-index": layer.index, role: "button" },
    rect,
    label ? shape("text", { x: x + 5, y: y + 13 }, label) : null,
  );
  cell.setAttribute("aria-label", [layer.name, ...summaryOf(layer)].join(", "));
  return cell;
}

function summaryOf(layer) {
  return [
    ...(layer.bytes === null ? [] : [`${megabytes(layer.bytes)} MB`]),
    ...(layer.bits === null ? [] : [`${fixed(layer.bits, 2)} bits per weight`]),
    ...(layer.damageShare === null ? [] : [`${percent(layer.damageShare)} of the damage`]),
    ...(layer.granularity === null ? [] : [layer.granularity]),
  ];
}

function drawTreemap(svg, width, layers, measure, open) {
  const ramp = rampOf(layers);
  const blocks = Map.groupBy(layers, (layer) => blockOf(layer.name));
  const items = [...blocks].map(([name, inside]) => ({ name, inside, value: sum(inside.map((layer) => layer[measure])) }));
  const [back, cells] = [[], []];
  squarify(items, 0, 0, width, svg.clientHeight, (block, x, y, across, down) => {
    const header = block.inside.length > 1 && down > 2.5 * HEADER && across > 40 ? HEADER : 0;
    if (header > 0) {
      back.push(
        shape("rect", { x, y, width: Math.max(0, across - GAP), height: Math.max(0, down - GAP), class: "group" }),
        shape("text", { x: x + 5, y: y + 13, class: "group-name" }, fitting(block.name, across - 12)),
      );
    }
    const inside = block.inside.map((layer) => ({ layer, value: layer[measure] ?? 0 }));
    squarify(inside, x, y + header, Math.max(0, across - GAP), Math.max(0, down - GAP - header), (item, ...place) => {
      cells.push(cellOf(item.layer, header > 0 ? block.name : "", ramp, ...place));
    });
  });
  svg.replaceChildren(...back, ...cells);
  rove(svg, cells, (cell) => open(Number(cell.dataset.index)));
}

function setUpTreemap(layers, open) {
  const svg = byId("treemap");
  const measures = { bytes: "bytes", damage: "damage", weights: "weights" };
  const usable = Object.keys(measures).filter((measure) => layers.some((layer) => layer[measure] > 0));
  let measure = usable[0];
  if (measure === undefined) {
    for (const node of [svg, svg.previousElementSibling]) node.toggleAttribute("hidden", true);
    return;
  }
  const draw = (width) => drawTreemap(svg, width, layers, measure, open);
  for (const name of usable) {
    const radio = element("input", { type: "radio", name: "measure", value: name });
    radio.checked = name === measure;
    radio.addEventListener("change", () => {
      measure = name;
      draw(svg.clientWidth);
    });
    byId("treemap-measure").append(element("label", {}, radio, measures[name]));
  }
  const ramp = rampOf(layers);
  byId("ramp-low").textContent = fixed(ramp.least, 1);
  byId("ramp-high").textContent = fixed(ramp.most, 1);
  const cellAt = (event) => event.target.closest(".cell");
  const show = (event) => {
    const cell = cellAt(event);
    if (!cell) return tip.hide();
    const layer = layers[Number(cell.dataset.index)];
    return tip.show(cell, layer.name, summaryOf(layer));
  };
  svg.addEventListener("pointerover", show);
  svg.addEventListener("pointerleave", tip.hide);
  // On the section, for Chromium gives an svg element that listens to focus a tab stop of its own.
  svg.parentElement.addEventListener("focusin", show);
  svg.parentElement.addEventListener("focusout", tip.hide);
  svg.addEventListener("click", (event) => {
    const cell = cellAt(event);
    if (cell) open(Number(cell.dataset.index));
  });
  drawn(svg, draw);
}
