// Markdown as elements. There is no HTML in it, whatever it says, and a link does nothing by itself.

import { el } from './dom.js';
import { ask } from './dialog.js';

// A link of an agent's: its address is shown, and opened only by somebody who has read it.
function link(words, address, inside) {
  const target = inside && inside(address);
  if (target) return el('a', { href: target }, words);
  if (!/^https?:\/\//i.test(address)) return el('span', {}, words, el('span', { class: 'dim' }, ` (${address})`));
  const open = async () => {
    if (await ask('Open this address?', address, 'Open')) window.open(address, '_blank', 'noopener,noreferrer');
  };
  return el('button', { type: 'button', class: 'link', title: address, onclick: open }, words);
}

const INLINE = /(`+)([\s\S]*?[^`])\1(?!`)|\*\*([^*\n]+)\*\*|__([^_\n]+)__|\*([^*\s][^*\n]*)\*|!?\[([^[\]\n]*)\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)|<(https?:\/\/[^\s<>]+)>/;

function inline(text, inside) {
  const found = [];
  let rest = text;
  for (let at = INLINE.exec(rest); at; at = INLINE.exec(rest)) {
    if (at.index) found.push(rest.slice(0, at.index));
    const [whole, , code, strong, bold, weak, words, address, bare] = at;
    if (code !== undefined) found.push(el('code', {}, code.trim() || code));
    else if (strong || bold) found.push(el('strong', {}, inline(strong || bold, inside)));
    else if (weak) found.push(el('em', {}, weak));
    else if (bare) found.push(link(bare, bare, inside));
    else found.push(link(words || address, address, inside));
    rest = rest.slice(at.index + whole.length);
  }
  if (rest) found.push(rest);
  return found;
}

const ITEM = /^(\s*)([-*+]|\d+[.)])\s+(.*)$/;
const row = (line) => line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, '|'));

function list(lines, at, inside) {
  const [, indent, sign] = ITEM.exec(lines[at]);
  const node = el(/\d/.test(sign) ? 'ol' : 'ul', {});
  let i = at;
  while (i < lines.length) {
    const item = ITEM.exec(lines[i]);
    if (item && item[1].length === indent.length) {
      node.append(el('li', {}, inline(item[3], inside)));
      i += 1;
    } else if (item && item[1].length > indent.length) {
      const [inner, next] = list(lines, i, inside);
      node.lastChild.append(inner);
      i = next;
    } else if (!item && /^\s+\S/.test(lines[i])) {
      node.lastChild.append(' ', ...inline(lines[i].trim(), inside));
      i += 1;
    } else break;
  }
  return [node, i];
}

export function markdown(text, inside) {
  const root = el('div', { class: 'markdown' });
  const lines = text.split('\n');
  let i = 0;
  while (i < lines.length) {
    const line = lines[i];
    const fence = /^\s*(`{3,}|~{3,})(.*)$/.exec(line);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (fence) {
      const body = [];
      for (i += 1; i < lines.length && !lines[i].trim().startsWith(fence[1]); i += 1) body.push(lines[i]);
      i += 1;
      root.append(el('pre', { tabindex: '0' }, el('code', {}, body.join('\n'))));
    } else if (heading) {
      const level = Math.min(6, heading[1].length + 1);
      root.append(el(`h${level}`, {}, inline(heading[2], inside)));
      i += 1;
    } else if (ITEM.test(line)) {
      const [node, next] = list(lines, i, inside);
      root.append(node);
      i = next;
    } else if (line.startsWith('>')) {
      const body = [];
      for (; i < lines.length && lines[i].startsWith('>'); i += 1) body.push(lines[i].replace(/^>\s?/, ''));
      root.append(el('blockquote', {}, inline(body.join('\n'), inside)));
    } else if (/^\s*\|?.*\|/.test(line) && /^[\s|:-]+$/.test(lines[i + 1] || '') && /-/.test(lines[i + 1])) {
      const head = row(line);
      const body = [];
      for (i += 2; i < lines.length && lines[i].includes('|'); i += 1) body.push(row(lines[i]));
      root.append(el('div', { class: 'wide', tabindex: '0', role: 'region', 'aria-label': 'table' }, el('table', {},
        el('thead', {}, el('tr', {}, head.map((cell) => el('th', {}, inline(cell, inside))))),
        el('tbody', {}, body.map((cells) => el('tr', {}, cells.map((cell) => el('td', {}, inline(cell, inside)))))))));
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      root.append(el('hr'));
      i += 1;
    } else if (line.trim()) {
      const body = [];
      for (; i < lines.length && lines[i].trim() && !/^(#{1,6}\s|\s*(```|~~~)|>)/.test(lines[i]) && !(body.length && ITEM.test(lines[i])); i += 1) body.push(lines[i]);
      root.append(el('p', {}, inline(body.join('\n'), inside)));
    } else i += 1;
  }
  return root;
}
