// The wall display, /?kiosk: large type, and nothing to press. It turns through the network, the plazas that need attention
// and the incidents that are open; ?kiosk=20 has each for 20 seconds. Banners and the header stay.

import { base, el, icon } from './dom.js'
import * as f from './format.js'
import { live } from './live.js'

const TURN = 12 // seconds of a slide
const ROWS = 5 // of a slide: what fits in large type
const PAGES = 3 // of plazas, and of incidents; what follows is counted
const FRESH = 15_000 // how often the incidents are asked for
const calm = ['no_data', 'catching_up', 'warming_up', 'free']

export const kiosk = new URLSearchParams(location.search).get('kiosk')

export class Kiosk {
  constructor(main) {
    this.main = main
    this.index = 0
    this.incidents = []
    this.gone = new AbortController()
    document.documentElement.classList.add('kiosk')
    document.head.append(el('link', { rel: 'stylesheet', href: base + 'static/kiosk.css' }))
    this.turning = setInterval(() => { this.index++; this.update() }, 1000 * Math.max(1, +kiosk || TURN))
    this.asking = setInterval(() => this.ask(), FRESH)
    const awake = () => document.hidden || navigator.wakeLock?.request('screen').catch(() => {}) // where the browser can't, the display may sleep
    document.addEventListener('visibilitychange', awake, { signal: this.gone.signal })
    awake()
    this.ask()
    this.update()
  }

  close() {
    clearInterval(this.turning)
    clearInterval(this.asking)
    this.gone.abort()
    document.documentElement.classList.remove('kiosk')
  }

  title() { return 'Wall display' }

  async ask() {
    try {
      const response = await fetch(base + 'api/v1/incidents?open=true&limit=50', { signal: AbortSignal.any([this.gone.signal, AbortSignal.timeout(FRESH)]) })
      this.incidents = response.ok ? (await response.json()).incidents : []
    } catch { /* what was read last stays; a banner says that the server is away */ }
  }

  // slides are [title, rows], as the figures are now.
  slides() {
    const plazas = [...live.plazas.values()]
    const order = (p, q) => f.states.indexOf(p.state) - f.states.indexOf(q.state) || (q.vc ?? 0) - (p.vc ?? 0) || q.flow_per_hour - p.flow_per_hour || p.id - q.id
    const attention = plazas.filter(p => !calm.includes(p.state)).sort(order)
    const busiest = () => [['Highest flows', [...plazas].sort((p, q) => (q.vc ?? 0) - (p.vc ?? 0) || q.flow_per_hour - p.flow_per_hour).slice(0, ROWS).map(plaza)]]
    return [['Network', [network()]],
      ...attention.length ? pages('Needs attention', attention, plaza) : busiest(),
      ...pages('Open incidents', this.incidents, incident)]
  }

  update() {
    const slides = this.slides(), at = this.index % slides.length
    const [title, rows] = slides[at]
    this.main.replaceChildren(el('section', { class: 'slide' }, el('h1', {}, title), ...rows),
      el('ol', { class: 'turns', 'aria-hidden': 'true' }, ...slides.map((_, i) => el('li', { class: i === at ? 'now' : '' }))))
  }
}

// pages divides a list into slides of a few rows.
function pages(title, list, row) {
  const all = []
  for (let i = 0; i < list.length && all.length < PAGES; i += ROWS) all.push(list.slice(i, i + ROWS))
  const more = list.length - ROWS * PAGES
  return all.map((part, i) => [title + (all.length > 1 ? ` · ${i + 1} of ${all.length}` : ''), [...part.map(row),
    more > 0 && i === PAGES - 1 ? el('p', { class: 'more' }, `and ${f.num(more)} more`) : null].filter(Boolean)])
}

function network() {
  const { summary = {} } = live.board ?? {}
  const shown = f.states.filter(s => summary.states?.[s])
  return el('div', { class: 'network' },
    el('ul', {}, ...shown.map(s => el('li', { class: f.symbol(s) }, icon(f.symbol(s)), el('b', {}, f.num(summary.states[s])), el('span', {}, f.word(s))))),
    el('p', {}, el('b', {}, f.num(summary.flow_per_hour)), ` vehicles an hour at ${f.many(summary.plazas ?? 0, 'plaza')}`))
}

const since = (t, day) => t ? 'since ' + f.moment(t, day) : ''
const today = () => f.date(live.board?.stream_time)

function plaza(p) {
  return el('div', { class: 'entry ' + f.symbol(p.state) }, icon(f.symbol(p.state)),
    el('div', {}, el('b', {}, f.name(p)), el('small', {}, [p.name ? p.id : '', f.place(p)].filter(Boolean).join(' · '))),
    el('div', { class: 'state' }, el('b', {}, f.word(p.state)), el('small', {}, since(p.since, today()))),
    el('div', { class: 'n' }, el('b', {}, f.num(p.flow_per_hour)), el('small', {}, 'veh/h')),
    el('div', { class: 'n' }, el('b', {}, f.full(p.vc)), el('small', {}, 'of capacity')))
}

function incident(i) {
  const taken = i.notes?.findLast(n => n.acknowledged)
  return el('div', { class: 'entry incident ' + f.symbol(i.state) }, icon(f.symbol(i.state)),
    el('div', {}, el('b', {}, f.name({ id: i.plaza, name: i.name })), el('small', {}, [i.name ? i.plaza : '', f.plain(i.road ?? '')].filter(Boolean).join(' · '))),
    el('div', { class: 'state' }, el('b', {}, f.word(i.state)), el('small', {}, since(i.began, today()))),
    el('div', { class: 'why' }, i.why, taken ? el('small', {}, 'taken by ' + f.plain(taken.author)) : ''))
}
