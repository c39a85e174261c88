// Who acts here, as others read it beside what was decided.

import { get } from './api.js';
import { prompt } from './dialog.js';

let fallback = '';

export const me = () => localStorage.getItem('me') || fallback;

export async function introduce() {
  const button = document.getElementById('me');
  const { name } = await get('/api/about');
  fallback = name;
  const show = () => { button.textContent = `You: ${me()}`; button.setAttribute('aria-label', `You are ${me()}; change it`); };
  button.onclick = async () => {
    const said = await prompt('Who are you?', me(), 'Others read this beside what you decide.');
    if (said !== null) localStorage.setItem('me', said.trim());
    show();
  };
  show();
}
