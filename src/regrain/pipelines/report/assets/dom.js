"use strict";

// Elements and numbers. Text reaches the page through textContent and attributes only, never as markup.

const byId = (id) => document.getElementById(id);

const SVG = byId("frontier-chart").namespaceURI;

/** Set attributes (null ones are left out) and append children; strings become text. */
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const element = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

const shape = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

const NONE = "–";

const whole = (value) => (value === null ? NONE : value.toLocaleString("en-US"));

const fixed = (value, digits) => (value === null ? NONE : value.toFixed(digits));

/** Three significant digits; small numbers as 1.2e-5. */
function significant(value) {
  if (value === null) return NONE;
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size < 1e-4 || size >= 1e6 ? value.toExponential(1).replace(".0e", "e") : String(Number(value.toPrecision(3)));
}

const percent = (fraction) => (fraction === null ? NONE : `${Number((100 * fraction).toPrecision(3))} %`);

function megabytes(bytes) {
  if (bytes === null) return NONE;
  const value = bytes / 1e6;
  if (bytes > 0 && value < 0.0005) return "<0.001";
  return value.toFixed(value >= 10 ? 1 : value >= 0.1 ? 2 : 3);
}

/** A dotted name that may be broken behind its dots, but not before a number. */
function breakable(name) {
  const parts = name.split(/(?<=[._/])(?!\d+\.)/);
  return parts.flatMap((part, index) => (index === 0 ? [part] : [element("wbr"), part]));
}

const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);

/** The box with figures beside what the pointer or the focus is on. */
const tip = {
  target: null,
  show(target, title, lines) {
    tip.target = target;
    byId("tip").replaceChildren(element("b", {}, title), ...lines.map((line) => element("span", {}, line)));
    tip.place();
  },
  place() {
    const box = byId("tip");
    box.hidden = !tip.target?.isConnected;
    if (box.hidden) return;
    const at = tip.target.getBoundingClientRect();
    const left = Math.min(at.left + at.width / 2 + 10, document.documentElement.clientWidth - box.offsetWidth - 12);
    const above = at.top - box.offsetHeight - 10;
    box.style.left = `${Math.max(12, left)}px`;
    box.style.top = `${above > 4 ? above : Math.min(at.bottom + 10, innerHeight - box.offsetHeight - 4)}px`;
  },
  hide() {
    tip.target = null;
    tip.place();
  },
};

/** One tab stop for many nodes: arrow keys move the focus, Home and End go to the ends. */
function rove(container, nodes, enter) {
  nodes.forEach((node, index) => node.setAttribute("tabindex", index === 0 ? "0" : "-1"));
  container.onkeydown = (event) => {
    const at = nodes.indexOf(event.target);
    const last = nodes.length - 1;
    const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last };
    if (at < 0) return;
    if (enter && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      enter(event.target);
    } else if (event.key === "Escape") {
      tip.hide();
    } else if (event.key in steps) {
      event.preventDefault();
      const next = nodes[Math.max(0, Math.min(last, steps[event.key]))];
      nodes[at].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    }
  };
}

/** Call draw with a node's width, now and whenever it changes. */
function drawn(node, draw) {
  let width = node.clientWidth;
  draw(width);
  new ResizeObserver(() => {
    if (node.clientWidth !== width) {
      width = node.clientWidth;
      draw(width);
    }
  }).observe(node);
}
