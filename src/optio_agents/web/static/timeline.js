// What happened, on one axis of time: how it stood as bars, and what was met as marks.

import { clear, clock, day, el, soon, span, svg } from './dom.js';

const HEIGHT = 92;
const LANES = { state: 8, tools: 40, asked: 56, made: 72 }; // y of each, in pixels
const GUTTER = 46; // pixels, for the names of the lanes
const MARKS = { // lane, and the shape's class
  permission: ['asked', 'question'], question: ['asked', 'question'], decision: ['asked', 'decision'],
  attention: ['asked', 'attention'], sent: ['asked', 'sent'],
  deliverable: ['made', 'deliverable'], answer: ['made', 'answer'], turn: ['made', 'failed'], error: ['made', 'failed'], done: ['made', 'done'],
};
const PHASES = [[/^waits/, 'waits'], [/^idle/, 'idle'], [/^link down/, 'away'], [/^rate limited/, 'limited'], [/^starting/, 'idle']];
const STEPS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 604800];

export class Timeline {
  constructor() {
    this.bars = []; // {at, kind, words}
    this.marks = [];
    this.tools = []; // as the conversation tells them, in its order
    this.turns = []; // when each ended, of the agent that runs
    this.started = 0;
    this.steps = []; // {at, percent}
    this.first = 0;
    this.last = 0;
    this.over = false;
    this.graphic = svg('svg', { role: 'img', height: HEIGHT, class: 'timeline' });
    this.node = el('div', { class: 'time' }, this.graphic);
    this.draw = soon(() => this.render(), 10); // all of it, which takes a while for a long one
    this.size = new ResizeObserver(() => this.draw());
    this.size.observe(this.node);
    this.ticking = setInterval(() => { if (!this.over) this.draw(); }, 5000);
  }

  close() {
    this.size.disconnect();
    clearInterval(this.ticking);
  }

  add(record) {
    const { at, kind, words } = record;
    if (!at) return;
    this.first ||= at;
    this.started ||= at;
    this.last = Math.max(this.last, at);
    if (kind === 'phase') {
      const found = PHASES.find(([pattern]) => pattern.test(words));
      this.bars.push({ at, kind: found ? found[1] : 'works', words });
    } else if (kind === 'link') this.bars.push({ at, kind: /^(new|up|closed)/.test(words) ? 'works' : 'away', words });
    else if (kind === 'finished') { this.bars.push({ at, kind: 'end', words }); this.over = true; }
    else if (kind === 'began') { this.bars.push({ at, kind: 'works', words: 'began' }); this.over = false; }
    else if (kind === 'status' && record.percent !== null) this.steps.push({ at, percent: record.percent });
    else if (MARKS[kind]) this.mark(at, ...MARKS[kind], words);
    if (kind === 'answer' || kind === 'turn') this.turns.push(at);
    if (kind === 'restart') { this.turns = []; this.started = at; } // its output begins anew
    if (kind === 'permission') this.mark(at, 'tools', 'tool', words);
    this.draw();
  }

  mark(at, lane, shape, words) {
    this.marks.push({ at, lane, shape, words });
  }

  tool(number, one) {
    this.tools[number] ??= one; // who has seen it come knows best when
    this.draw();
  }

  // One that was seen to come has its time. An older one lies between what has a number around it:
  // the ends of two turns, or what came before it and when somebody began to look.
  placed() {
    const spans = new Map();
    for (const one of this.tools) {
      if (!one || one.at) continue;
      const to = Math.min(this.turns[one.turn] ?? Infinity, one.until, this.over ? this.last : Infinity);
      const before = Math.min(one.turn, this.turns.length);
      const from = Math.min(to, Math.max(before ? this.turns[before - 1] : this.started, one.since));
      const group = `${from} ${to}`;
      if (!spans.has(group)) spans.set(group, { from, to, tools: [] });
      spans.get(group).tools.push(one);
    }
    const older = [...spans.values()].flatMap(({ from, to, tools }) => tools.map(({ words }, i) => ({
      at: from + ((to - from) * (i + 1)) / (tools.length + 1), when: `between ${clock(from)} and ${clock(to)}`, words,
    })));
    return [...older, ...this.tools.filter((one) => one?.at)].map((one) => ({ lane: 'tools', shape: 'tool', ...one }));
  }

  render() {
    const width = this.node.clientWidth;
    if (!width || !this.first) return;
    const now = this.over ? this.last : Math.max(this.last, Date.now() / 1000);
    const length = Math.max(1, now - this.first);
    const x = (at) => GUTTER + ((at - this.first) / length) * (width - GUTTER - 8);
    const parts = Object.entries(LANES).map(([name, y]) => svg('text', { x: 6, y: y + (name === 'state' ? 10 : 4), class: 'lane' }, name));
    this.bars.forEach((bar, i) => {
      if (bar.kind === 'end') return;
      const until = this.bars[i + 1]?.at ?? now;
      const wide = x(until) - x(bar.at);
      if (wide < 0.4) return;
      parts.push(svg('rect', { x: x(bar.at), y: LANES.state, width: Math.max(1, wide), height: 12, class: `bar ${bar.kind}` }, svg('title', {}, `${clock(bar.at)} ${bar.words}`)));
    });
    if (this.steps.length) {
      const points = this.steps.map(({ at, percent }) => `${x(at).toFixed(1)},${(34 - percent / 8).toFixed(1)}`);
      const thin = points.filter((one, i) => !i || i === points.length - 1 || one.split(',')[0] !== points[i - 1].split(',')[0]);
      parts.push(svg('polyline', { points: thin.join(' '), class: 'percent' }));
    }
    const taken = new Set(); // one mark a pixel is all that one sees
    const marks = [...this.placed(), ...this.marks];
    for (const { at, lane, shape, words, when = clock(at) } of marks) {
      const place = `${lane} ${shape} ${Math.round(x(at))}`;
      if (!taken.has(place)) {
        taken.add(place);
        parts.push(svg('path', { d: shape === 'tool' ? 'M-1,-5h2v10h-2z' : 'M0,-5L5,0L0,5L-5,0z', transform: `translate(${x(at).toFixed(1)},${LANES[lane]})`, class: `mark ${shape}` }, svg('title', {}, `${when} ${words.slice(0, 200)}`)));
      }
    }
    const step = STEPS.find((one) => length / one <= Math.max(2, width / 110)) || STEPS.at(-1);
    for (let at = Math.ceil(this.first / step) * step; at < now; at += step) {
      if (x(at) < width - 60) parts.push(svg('text', { x: x(at), y: HEIGHT - 3 }, step < 60 ? clock(at) : clock(at).slice(0, 5)));
    }
    const counts = Object.entries(marks.reduce((all, { shape }) => ({ ...all, [shape]: (all[shape] || 0) + 1 }), {}));
    this.graphic.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    this.graphic.setAttribute('aria-label', `From ${day(this.first)}, ${span(length)}: ${counts.map(([name, n]) => `${n} ${name}`).join(', ') || 'nothing was asked or made'}`);
    clear(this.graphic, parts);
  }
}
