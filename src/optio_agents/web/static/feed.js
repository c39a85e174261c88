// A list that grows at its end, however long: what is far away is not in the document, and what
// comes while somebody reads does not move the text.

import { el, soon } from './dom.js';

const STEP = 300; // entries that are added at once
const MOST = 1200; // entries in the document
const NEAR = 48; // pixels from the end that count as being there

export class Feed {
  constructor(render, label) {
    this.render = render;
    this.items = [];
    this.from = 0;
    this.to = 0;
    this.follows = true;
    this.top = 0;
    this.list = el('ol', { class: 'feed', 'aria-label': label });
    this.first = el('button', { type: 'button', onclick: () => this.toBegin() }, 'From the beginning');
    this.before = el('button', { type: 'button', onclick: () => this.earlier() });
    this.above = el('div', { class: 'more', hidden: true }, this.first, this.before);
    this.newer = el('button', { type: 'button', class: 'newer', hidden: true, onclick: () => this.toEnd() });
    this.pane = el('div', { class: 'pane', tabindex: '0', role: 'region', 'aria-label': label, onscroll: () => this.scrolled() }, this.above, this.list, this.newer);
    this.later = soon(() => this.flush());
    new ResizeObserver(() => { if (this.follows) this.pane.scrollTop = this.pane.scrollHeight; this.top = this.pane.scrollTop; }).observe(this.pane);
  }

  push(item) {
    this.items.push(item);
    this.later();
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.pane;
    const end = scrollHeight - scrollTop - clientHeight < NEAR;
    if (end && this.to === this.items.length) this.follows = true;
    else if (scrollTop < this.top - 1) this.follows = false; // by a person; what is added only grows
    this.top = scrollTop;
    if (end && !this.follows && this.to < this.items.length && !this.filling) this.append(Math.min(this.items.length, this.to + STEP));
    this.tell();
  }

  flush() {
    const { length } = this.items;
    if (this.follows) {
      if (length - this.to > STEP) {
        this.list.replaceChildren();
        this.from = length - STEP;
        this.to = this.from;
      }
      this.append(length);
      if (this.to - this.from > MOST) this.drop(this.to - this.from - STEP);
      this.pane.scrollTop = this.pane.scrollHeight;
      this.top = this.pane.scrollTop;
    } else if (this.to - this.from < MOST) {
      this.append(Math.min(length, this.from + MOST));
    }
    this.tell();
  }

  append(until) {
    this.list.append(...this.items.slice(this.to, until).map(this.render));
    this.to = until;
  }

  drop(count) {
    const range = document.createRange();
    range.setStartBefore(this.list.firstChild);
    range.setEndBefore(this.list.children[count]);
    range.deleteContents();
    this.from += count;
  }

  earlier() {
    const from = Math.max(0, this.from - STEP);
    const height = this.pane.scrollHeight;
    this.list.prepend(...this.items.slice(from, this.from).map(this.render));
    this.from = from;
    this.pane.scrollTop += this.pane.scrollHeight - height;
    this.follows = false;
    this.tell();
  }

  toBegin() {
    this.follows = false;
    this.filling = true;
    this.list.replaceChildren();
    this.from = 0;
    this.to = 0;
    this.append(Math.min(STEP, this.items.length));
    this.pane.scrollTop = 0;
    this.filling = false;
    this.tell();
    this.pane.focus();
  }

  toEnd() {
    this.follows = true;
    this.flush();
  }

  tell() {
    this.above.hidden = this.from === 0;
    this.before.textContent = `${this.from} earlier`;
    const waiting = this.items.length - this.to;
    this.newer.hidden = this.follows;
    this.newer.textContent = waiting ? `${waiting} newer ↓` : 'To the end ↓';
  }
}
