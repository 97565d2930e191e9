// Size or work against loss: every candidate as a dot, the budget as lines.

const MARGIN = { left: 62, right: 18, top: 22, bottom: 44 };
const LANE = 26; // height of the lane for zero, below a logarithmic axis

/** What can stand on the vertical axis: fidelity, and the drop of each metric. Each gives value, upper bound and format. */
function lossesOf({ frontier: points, limits, loss }) {
  const losses = [];
  if (points.some((point) => point.loss !== null)) {
    losses.push({
      name: loss,
      value: (point) => point.loss,
      upper: (point) => point.upper,
      predicted: (point) => point.predicted,
      isFidelity: true,
      limit: limits.loss,
      format: significant,
    });
  }
  for (const name of [...new Set(points.flatMap((point) => Object.keys(point.metrics)))].sort()) {
    losses.push({
      name: `drop of ${name}`,
      value: (point) => isLossless(point) ? 0 : (point.metrics[name]?.relative ?? null),
      upper: (point) => point.metrics[name]?.upper ?? null,
      predicted: () => null,
      isFidelity: false,
      limit: limits.drops[name] ?? null,
      format: percent,
    });
  }
  return losses;
}

/** What can stand on the horizontal axis. */
const ACROSS = {
  bits: { name: "bits per weight", limit: (limit) => `${fixed(limit, 2)} b/w` },
  work: { name: "multiply-adds, % of the original's", limit: (limit) => `${fixed(limit, 0)} %` },
};

const BREAK = 64; // width of the part behind the broken axis, where lossless is when it is far away

const isLossless = (point) => point.number === null && point.state !== "written";

/** The vertical axis, with some air at both ends. Without positive values there is nothing to take a logarithm of. */
function lossAxis(values, logarithmic, bottom) {
  const positive = values.filter((value) => value > 0);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  if (!logarithmic || positive.length === 0) {
    const air = 0.06 * (most - Math.min(0, least)) || 1e-9;
    return linearAxis(least < 0 ? least - air : 0, most + air, bottom, MARGIN.top, 5);
  }
  const hasLane = positive.length < values.length;
  const floor = hasLane ? bottom - LANE : bottom;
  const lowest = Math.min(...positive);
  const air = Math.max(1.15, (most / lowest) ** 0.08);
  const axis = logAxis(lowest / air, most * air, floor, MARGIN.top, 10, 7);
  return { ...axis, lane: hasLane, at: (value) => (value > 0 ? axis.at(value) : bottom) };
}

/** The horizontal axis. What was measured fills most of it; a lossless point far to the right is behind a break. */
function sizeAxis(points, limit, width) {
  const [from, to] = [MARGIN.left, width - MARGIN.right];
  const near = points.filter((point) => !isLossless(point));
  const sizes = [...(near.length > 0 ? near : points).map((point) => point.x), ...(limit === null ? [] : [limit])];
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  const far = points.find((point) => isLossless(point) && point.x > most + 0.5 * (most - least));
  const end = far === undefined || near.length === 0 ? to : to - BREAK;
  const air = Math.max(0.12 * (most - least), 0.03 * most);
  const all = end === to ? Math.max(...points.map((point) => point.x), most) : most;
  const ratio = all / (least || 1);
  const axis = least > 0 && ratio > 3
    ? logAxis(least / ratio ** 0.06, all * ratio ** 0.06, from, end, 2, 8)
    : linearAxis(Math.max(0, least - air), all + air, from, end, width < 500 ? 4 : 7);
  if (end === to) return { ...axis, broken: null };
  return { ...axis, broken: { at: end, x: far.x }, at: (value) => (value > axis.most ? to - BREAK / 2 : axis.at(value)) };
}

/** The predicted line cut at the ends of the axis. */
function cut(line, { least, most }) {
  const sorted = line.filter(([size, loss]) => size > 0 && loss > 0).sort((a, b) => a[0] - b[0]);
  const between = ([x0, y0], [x1, y1], at) => [at, y0 * (y1 / y0) ** ((at - x0) / (x1 - x0))];
  return sorted.flatMap((point, index) => {
    const next = sorted[index + 1];
    const ends = next ? [least, most].filter((end) => point[0] < end && end < next[0]) : [];
    return [...(point[0] >= least && point[0] <= most ? [point] : []), ...ends.map((end) => between(point, next, end))];
  });
}

function drawFrontier(svg, width, { across, frontier, predicted, limits }, loss, logarithmic) {
  const shown = frontier.filter((point) => loss.value(point) !== null).sort((a, b) => a.x - b.x);
  const bottom = svg.clientHeight - MARGIN.bottom;
  const right = width - MARGIN.right;
  const x = sizeAxis(shown, limits[across], width);
  const line = loss.isFidelity ? cut(predicted, x) : [];
  const heights = shown.flatMap((point) => [loss.value(point), loss.upper(point), line.length > 0 ? null : loss.predicted(point)]);
  const y = lossAxis([...heights, ...line.map(([, value]) => value), loss.limit].filter((value) => value !== null), logarithmic, bottom);
  const place = ([size, value]) => `${x.at(size).toFixed(1)},${y.at(value).toFixed(1)}`;
  const measured = shown.filter((point) => point.number !== null).map((point) => [point.x, loss.value(point)]);
  const curve = loss.isFidelity ? [line.length > 0 ? line : measured] : []; // drops of metrics are too noisy for one
  const dots = shown.map((point) => dotOf(point, x.at(point.x), y.at(loss.value(point)), bottom, loss));
  svg.replaceChildren(
    ...gridOf(x, y, bottom, right, loss, ACROSS[across].name),
    ...curve.map((points) => shape("polyline", { points: points.map(place).join(" "), class: points === line ? "prediction" : "path" })),
    ...budgetOf(x, y, bottom, right, limits[across], loss, ACROSS[across].limit),
    ...shown.flatMap((point) => extrasOf(point, x.at(point.x), y, loss, line.length > 0)),
    ...dots,
  );
  rove(svg, dots);
}

function gridOf(x, y, bottom, right, loss, name) {
  const across = y.ticks.flatMap((tick) => [
    shape("line", { x1: MARGIN.left, x2: right, y1: y.at(tick), y2: y.at(tick), class: "grid" }),
    shape("text", { x: MARGIN.left - 8, y: y.at(tick) + 4, "text-anchor": "end" }, loss.format(tick)),
  ]);
  const lane = y.lane ? [
    shape("line", { x1: MARGIN.left, x2: right, y1: bottom, y2: bottom, class: "grid" }),
    shape("text", { x: MARGIN.left - 8, y: bottom + 4, "text-anchor": "end" }, "≤ 0"),
  ] : [];
  const upright = x.ticks.flatMap((tick) => [
    shape("line", { x1: x.at(tick), x2: x.at(tick), y1: MARGIN.top, y2: bottom, class: "grid" }),
    shape("text", { x: x.at(tick), y: bottom + 18, "text-anchor": "middle" }, String(tick)),
  ]);
  const broken = x.broken === null ? [] : [
    shape("path", { d: `M${x.broken.at} ${MARGIN.top}V${bottom}`, class: "grid" }),
    shape("path", { d: `M${x.broken.at - 5} ${bottom + 6}l6 -12m4 0l-6 12`, class: "break" }),
    shape("text", { x: right - BREAK / 2, y: bottom + 18, "text-anchor": "middle" }, fixed(x.broken.x, 1)),
  ];
  const names = [
    shape("text", { x: right, y: bottom + 36, "text-anchor": "end" }, name),
    shape("text", { x: 2, y: 12 }, loss.name),
  ];
  return [...upright, ...across, ...lane, ...broken, ...names];
}

function budgetOf(x, y, bottom, right, limit, loss, text) {
  const lines = [];
  if (loss.limit !== null) {
    const at = y.at(loss.limit);
    lines.push(
      shape("line", { x1: MARGIN.left, x2: right, y1: at, y2: at, class: "budget" }),
      shape("text", { x: right, y: at - 6, "text-anchor": "end", class: "budget-text" }, `budget ${loss.format(loss.limit)}`),
    );
  }
  if (limit !== null) {
    const at = x.at(limit);
    lines.push(
      shape("line", { x1: at, x2: at, y1: MARGIN.top, y2: bottom, class: "budget" }),
      shape("text", { x: at + 6, y: MARGIN.top + 12, class: "budget-text" }, text(limit)),
    );
  }
  return lines;
}

/** The upper bound as a whisker; and what was predicted of the point, unless a line tells that. */
function extrasOf(point, at, y, loss, hasLine) {
  const [upper, predicted] = [loss.upper(point), hasLine ? null : loss.predicted(point)];
  return [
    upper === null ? null : shape("line", { x1: at, x2: at, y1: y.at(loss.value(point)), y2: y.at(upper), class: "whisker" }),
    predicted === null ? null : shape("circle", { cx: at, cy: y.at(predicted), r: 3.5, class: "predicted" }),
  ].filter((extra) => extra !== null);
}

const titleOf = (point) =>
  point.state === "written" ? "The artifact, on held-out data" : isLossless(point) ? "Lossless" : `Point ${point.number}`;

function dotOf(point, cx, cy, bottom, loss) {
  const label = ["chosen", "written"].includes(point.state) ? point.state : null;
  const lines = linesOf(point, loss);
  const title = `${titleOf(point)}${point.state === "chosen" ? ", chosen" : ""}`;
  const flip = cx < MARGIN.left + 80; // below and left of a falling curve there is room
  const dot = shape(
    "g",
    { class: `dot ${point.state}`, role: "img", "aria-label": [title, ...lines].join(", "), "data-point": point.number },
    label ? shape("circle", { cx, cy, r: 10.5, class: "halo" }) : null,
    shape("circle", { cx, cy, r: label ? 6.5 : 5 }),
    label ? shape("text", { x: flip ? cx + 16 : cx - 16, y: cy + 18 > bottom ? cy - 10 : cy + 18, "text-anchor": flip ? "start" : "end" }, label) : null,
  );
  for (const event of ["pointerenter", "focus"]) dot.addEventListener(event, () => tip.show(dot, title, lines));
  for (const event of ["pointerleave", "blur"]) dot.addEventListener(event, tip.hide);
  return dot;
}

function linesOf(point, loss) {
  const [upper, predicted] = [loss.upper(point), loss.predicted(point)];
  return [
    `${fixed(point.bits, 2)} bits per weight${point.bytes === null ? "" : `, ${megabytes(point.bytes)} MB`}`,
    ...(point.work === null ? [] : [`${fixed(point.work, 1)} % of the multiply-adds`]),
    `${loss.name} ${loss.format(loss.value(point))}`,
    ...(upper === null ? [] : [`at most ${loss.format(upper)}`]),
    ...(predicted === null ? [] : [`predicted ${loss.format(predicted)}`]),
    point.state === "over" ? "over the budget" : "within the budget",
  ];
}

function legendOf(loss, points, predicted) {
  const icon = (...marks) => shape("svg", { "aria-hidden": "true" }, ...marks);
  const dot = (state) => icon(shape("g", { class: `dot ${state}` }, shape("circle", { cx: 11, cy: 8, r: 5 })));
  const has = (state) => points.some((point) => point.state === state && loss.value(point) !== null);
  const hasLine = loss.isFidelity && predicted.length > 0;
  const entries = [
    [has("chosen"), dot("chosen"), "chosen"],
    [has("written"), dot("written"), "written: the artifact, on held-out data"],
    [has("feasible"), dot("feasible"), "within the budget"],
    [has("over"), dot("over"), "over it"],
    [hasLine, icon(shape("line", { x1: 0, x2: 22, y1: 8, y2: 8, class: "prediction" })), "predicted"],
    [!hasLine && points.some((point) => loss.predicted(point) !== null), icon(shape("circle", { cx: 11, cy: 8, r: 3.5, class: "predicted" })), "predicted"],
    [points.some((point) => loss.upper(point) !== null), icon(shape("line", { x1: 11, x2: 11, y1: 1, y2: 15, stroke: "currentColor" })), "up to the upper bound"],
    [loss.limit !== null, icon(shape("line", { x1: 0, x2: 22, y1: 8, y2: 8, class: "budget" })), "budget"],
  ];
  return entries.filter(([there]) => there).map(([, mark, text]) => element("li", {}, mark, text));
}

function setUpFrontier(data) {
  for (const point of data.frontier) point.x = point[data.across];
  const losses = lossesOf(data);
  const [svg, choice, logarithmic] = [byId("frontier-chart"), byId("frontier-loss"), byId("frontier-log")];
  if (losses.length === 0) {
    for (const node of [svg, choice.closest(".controls")]) node.toggleAttribute("hidden", true);
    return;
  }
  choice.append(...losses.map((loss, index) => element("option", { value: index }, loss.name)));
  const limited = losses.findIndex((loss) => loss.limit !== null);
  choice.value = String(Math.max(0, limited));
  const draw = (width) => {
    const loss = losses[Number(choice.value)];
    drawFrontier(svg, width, data, loss, logarithmic.checked);
    byId("frontier-legend").replaceChildren(...legendOf(loss, data.frontier, data.predicted));
  };
  for (const control of [choice, logarithmic]) control.addEventListener("change", () => draw(svg.clientWidth));
  drawn(svg, draw);
}
