// Elements, times and amounts. What others wrote becomes text nodes, never markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || (value === false && !name.startsWith('aria-'))) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'disabled') node[name] = value;
    else node.setAttribute(name, value === true && !name.startsWith('aria-') ? '' : value);
  }
  node.append(...children.flat(3).filter((one) => one !== undefined && one !== null && one !== false));
  return node;
}

export const el = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

export function clear(node, ...children) {
  node.replaceChildren(...children.flat(3).filter(Boolean));
  return node;
}

const CLOCK = new Intl.DateTimeFormat([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
export const clock = (at) => CLOCK.format(at * 1000);
export const day = (at) => new Date(at * 1000).toLocaleString();

export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const money = (usd) => (usd === null || usd === undefined ? '' : `$${usd.toFixed(2)}`);

export function amount(n) {
  if (n < 1000) return `${n}`;
  return n < 1e6 ? `${(n / 1e3).toFixed(n < 1e4 ? 1 : 0)}k` : `${(n / 1e6).toFixed(1)}M`;
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return '';
  const unit = bytes < 1024 ? 0 : bytes < 1 << 20 ? 1 : 2;
  return unit ? `${(bytes / 1024 ** unit).toFixed(1)} ${['', 'KiB', 'MiB'][unit]}` : `${bytes} bytes`;
}

// Do work at the next frame, once, however often it is asked for. A page that is not seen has none.
// Behind it, rest for so many times as long as it took.
export function soon(work, rest = 0) {
  let asked = false;
  let from = 0;
  const run = () => {
    asked = false;
    const begun = performance.now();
    work();
    from = performance.now() + rest * (performance.now() - begun);
  };
  return () => {
    if (asked) return;
    asked = true;
    const pause = Math.max(from - performance.now(), document.visibilityState === 'visible' ? 0 : 200);
    if (pause > 0) setTimeout(run, pause);
    else requestAnimationFrame(run);
  };
}

export function diff(text) {
  const kinds = { '+': 'plus', '-': 'minus', '@': 'at' };
  const lines = text.split('\n').map((one) => {
    const head = /^(diff |index |\+\+\+ |--- )/.test(one) ? 'head' : kinds[one[0]];
    return el('span', { class: head }, one);
  });
  return el('pre', { class: 'diff' }, lines);
}
