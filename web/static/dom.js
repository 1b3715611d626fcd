// Makes and changes elements. Data only ever becomes text or attributes, never markup.

// base is the path that all addresses of the page begin with: / or, behind a proxy, as /toll/.
export const base = new URL('..', import.meta.url).pathname

const SVG = 'http://www.w3.org/2000/svg'

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.addEventListener(name, value)
    else if (value != null && value !== false) node.setAttribute(name, value === true ? '' : value)
  }
  node.append(...children.filter(c => c != null))
  return node
}

// el makes an HTML element. An attribute whose value is a function is a listener; null and false leave it out.
export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children)

export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children)

// shapes of states and verdicts, in a square of 16. style.css fills those of the first line and draws the others as lines.
export const shapes = {
  free: 'M2.8 8a5.2 5.2 0 1 0 10.4 0a5.2 5.2 0 1 0-10.4 0', busy: 'M8 1.6 15 14H1z', saturated: 'M1.8 1.8h12.4v12.4H1.8z', below_usual: 'M8 14.4 1 2h14z',
  above_usual: 'M8 1 14.6 8.2H10.8V15H5.2V8.2H1.4z',
  no_data: 'M3.5 3.5l9 9m0-9l-9 9', catching_up: 'M2.5 3.5 7 8l-4.5 4.5M8.5 3.5 13 8l-4.5 4.5', warming_up: 'M8 8V3.6M8 8l3 2M2.5 8a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0', exact: 'M2.5 8.5l3.6 3.7 7.4-8', in_flight: 'M2 8h11M9 3.6 13.4 8 9 12.4', mismatch: 'M8 1.8 14.8 14H1.2zM8 6v4M8 11.7v.5', not_verified: 'M5.2 5.6a2.9 2.9 0 1 1 4.3 2.6C8.4 8.8 8 9.3 8 10.4M8 13v.4', unknown: 'M3 8h10',
}
export const icon = name => show(svg('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true' }, svg('path')), name)

// text sets a node's text, attr an attribute; both touch the document only where that changes something.
export function text(node, value) {
  value = String(value)
  if (node.shown !== value) node.textContent = node.shown = value
}

export function attr(node, name, value) {
  if (value == null || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name)
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value)
}

// show gives an icon another shape, and the class of its colour.
export function show(node, name) {
  if (node.icon === name) return node
  node.icon = name
  node.setAttribute('class', 'icon ' + name)
  node.firstElementChild.setAttribute('d', shapes[name])
  return node
}

export function page(id) {
  const root = document.getElementById(id).content.cloneNode(true)
  const parts = {}
  for (const node of root.querySelectorAll('[data-f]')) parts[node.dataset.f] = node
  return { root, parts }
}

export function missing(main, words, hint = '') {
  main.replaceChildren(el('div', { class: 'waiting' }, el('h1', {}, words), el('p', {}, hint && hint + ' ', el('a', { href: base }, 'All plazas'))))
}

export function facts(list, rows) {
  rows.forEach(([term, value, unit], i) => {
    let at = list.children[i]
    if (!at) list.append(at = el('div', {}, el('dt'), el('dd', {}, el('b'), ' ', el('span'))))
    text(at.firstChild, term)
    text(at.lastChild.firstChild, value)
    text(at.lastChild.lastChild, unit ?? '')
  })
  while (list.children.length > rows.length) list.lastChild.remove()
}

// stored and store keep a setting of this browser; where storage is switched off they do nothing.
export function stored(name) {
  try { return localStorage.getItem(name) } catch { return null }
}
export function store(name, value) {
  try { value ? localStorage.setItem(name, value) : localStorage.removeItem(name) } catch { /* nothing to keep it in */ }
}
