// Axes: from values to pixels, with ticks at round values.

/** Round values from `least` to `most`, about `count` of them. */
function roundTicks(least, most, count) {
  const rough = (most - least || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const ticks = [];
  for (let index = Math.ceil(least / step - 1e-9); index * step <= most + 1e-9 * step; index += 1) {
    ticks.push(Number((index * step).toPrecision(12)));
  }
  return ticks;
}

/** Powers of `base` from `least` to `most`, with multiples between them where there are few; thinned to `room`. */
function logTicks(least, most, base, room) {
  const [first, last] = [least, most].map((value) => Math.floor(Math.log(value) / Math.log(base)));
  const between = base === 2 ? [[1], [1, 1.5]] : [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]];
  for (const factors of between) {
    const ticks = [];
    for (let power = first; power <= last; power += 1) {
      ticks.push(...factors.map((factor) => Number((factor * base ** power).toPrecision(12))));
    }
    const inside = ticks.filter((tick) => tick >= least && tick <= most);
    if (inside.length >= 3) return inside.filter((_, index) => index % Math.ceil(inside.length / room) === 0);
  }
  return roundTicks(least, most, 4);
}

/** A linear axis from `from` to `to` pixels. */
function linearAxis(least, most, from, to, count) {
  const high = most > least ? most : least + (Math.abs(least) || 1);
  const at = (value) => from + ((value - least) / (high - least)) * (to - from);
  return { least, most: high, ticks: roundTicks(least, high, count), at };
}

/** A logarithmic axis from `from` to `to` pixels, for positive values. */
function logAxis(least, most, from, to, base, room) {
  const high = most > least ? most : 2 * least;
  const at = (value) => from + (Math.log(value / least) / Math.log(high / least)) * (to - from);
  return { least, most: high, ticks: logTicks(least, high, base, room), at };
}
