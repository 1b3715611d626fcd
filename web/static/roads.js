// Draws the plazas along their roads: a strip for each road, kilometres from left to right, a shape for each state.

import { base, el, svg, text, attr, shapes } from './dom.js'
import * as f from './format.js'

const PAD = 14
const FEW = 8 // roads up to which each has room for the names of its plazas

const pen = document.createElement('canvas').getContext('2d') // measures names

// Roads redraws them if plazas or the room have changed; else it updates what differs.
export class Roads {
  constructor(section, parts) {
    this.section = section
    this.parts = parts
    this.strips = section.querySelector('.strips')
    this.marks = new Map() // by plaza id
    this.roads = [] // [[plaza, …], …] along each road
    this.shape = '' // identifies the layout that is drawn
    this.sizes = new ResizeObserver(() => this.lay())
    this.sizes.observe(this.strips)
    section.open = innerWidth >= 700
    this.strips.addEventListener('keydown', event => this.key(event))
    for (const [type, on] of [['pointerover', true], ['focusin', true], ['pointerout', false], ['focusout', false]]) {
      this.strips.addEventListener(type, event => {
        const mark = event.target.closest('a')
        this.over = on && mark ? mark.plaza.id : null
        this.read()
      })
    }
  }

  close() { this.sizes.disconnect() }

  read() {
    const p = this.over != null && this.plazas?.get(this.over)
    text(this.parts.readout, p ? `${f.name(p)} · ${f.place(p)} · ${f.word(p.state)}${p.since ? ' since ' + f.moment(p.since, f.date(p.last_event)) : ''} · ${f.num(p.flow_per_hour)} veh/h · ${f.full(p.vc)} of capacity` : '')
  }

  update(plazas) {
    this.plazas = plazas
    let shape = ''
    for (const p of plazas.values()) if (p.position_km != null && p.road) shape += `${p.id} ${p.road} ${p.position_km} ${p.name}\n`
    const fresh = shape !== this.shape
    if (fresh) {
      this.shape = shape
      this.build()
    }
    let changed = false
    for (const [id, mark] of this.marks) {
      const p = plazas.get(id)
      if (mark.state === p.state) continue
      mark.state = p.state
      changed = true
      attr(mark, 'class', 'mark ' + f.symbol(p.state))
      attr(mark, 'aria-label', `${f.name(p)}, ${f.place(p)}, ${f.word(p.state)}`)
      mark.shape.setAttribute('d', shapes[f.symbol(p.state)])
      if (p.state !== 'free' && mark !== document.activeElement) mark.parentNode.append(mark) // over the free ones
    }
    if (changed && !fresh) this.lay() // what is fresh is laid out once its size is known
    this.read()
  }

  build() {
    const roads = new Map()
    let off = 0
    for (const p of this.plazas.values()) {
      if (p.position_km == null || !p.road) { off++; continue }
      if (!roads.has(p.road)) roads.set(p.road, [])
      roads.get(p.road).push(p)
    }
    this.roads = [...roads.values()].sort((a, b) => a[0].road.localeCompare(b[0].road, 'en', { numeric: true }))
    for (const road of this.roads) road.sort((p, q) => p.position_km - q.position_km || p.id - q.id)
    this.section.hidden = !this.roads.length
    this.section.classList.toggle('many', this.roads.length > FEW)
    text(this.parts.off, off ? `${f.many(off, 'plaza')} without a position ${off === 1 ? 'is' : 'are'} in the table only` : '')

    this.marks.clear()
    this.strips.replaceChildren(...this.roads.map(road => {
      const strip = svg('svg', { class: 'strip', height: this.roads.length > FEW ? 28 : 43 }, svg('line', { class: 'road', x1: 0 }))
      for (const p of road) {
        const mark = svg('a', { href: base + 'plazas/' + p.id, tabindex: -1, class: 'mark' })
        mark.shape = svg('path')
        mark.hit = svg('rect')
        mark.label = svg('text', { 'aria-hidden': 'true' })
        mark.plaza = p
        mark.append(mark.hit, mark.shape, mark.label)
        strip.append(mark)
        this.marks.set(p.id, mark)
      }
      const first = road[0].position_km, last = road.at(-1).position_km
      return el('div', { class: 'way' }, el('div', { class: 'sign' }, el('b', {}, f.plain(road[0].road)), ' ', el('small', {}, first === last ? `km ${f.num(first)}` : `km ${f.num(first)}–${f.num(last)}`)), strip)
    }))
    const first = this.marks.get(this.roads[0]?.[0].id)
    if (first) attr(first, 'tabindex', 0)
  }

  // lay places marks and names. A name is left out where it would run into another; states that matter go first. Where
  // there are many roads only those have names, and larger marks.
  lay() {
    const wide = this.roads.length && this.strips.querySelector('svg').getBoundingClientRect().width
    if (!wide) return
    const many = this.roads.length > FEW
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16
    const size = 11 * rem, y = (many ? 9 : 13) * rem, room = wide - 2 * PAD
    pen.font = `550 ${size}px ${getComputedStyle(document.body).fontFamily}`
    for (const road of this.roads) {
      const first = road[0].position_km, length = road.at(-1).position_km - first
      const side = Math.max(8, Math.min(15, room / road.length * 0.9)) * rem
      const lanes = many ? [[]] : [[], []]
      let height = (many ? 28 : 43) * rem
      const ranked = road.map(p => this.marks.get(p.id)).sort((a, b) => f.states.indexOf(a.state) - f.states.indexOf(b.state))
      for (const mark of ranked) {
        const p = mark.plaza, minor = many && mark.state === 'free'
        const x = PAD + (length && (p.position_km - first) / length * room), shape = minor ? side * 0.65 : side, half = many ? side / 2 : 12
        mark.shape.setAttribute('transform', `translate(${(x - shape / 2).toFixed(1)} ${(y - shape / 2).toFixed(1)}) scale(${(shape / 16).toFixed(3)})`)
        mark.hit.setAttribute('x', (x - half).toFixed(1))
        mark.hit.setAttribute('y', y - half)
        mark.hit.setAttribute('width', 2 * half)
        mark.hit.setAttribute('height', 2 * half)
        let lane = -1
        if (!minor) {
          const words = f.name(p).length > 24 ? f.name(p).slice(0, 23) + '…' : f.name(p)
          const w = pen.measureText(words).width + 8, left = Math.max(0, Math.min(wide - w, x - w / 2))
          lane = lanes.findIndex(taken => taken.every(([from, until]) => left >= until || left + w <= from))
          if (lane >= 0) {
            lanes[lane].push([left, left + w])
            if (lane) height = 57 * rem
            text(mark.label, words)
            attr(mark.label, 'font-size', size)
            attr(mark.label, 'x', (left + 4).toFixed(1))
            attr(mark.label, 'y', (y + (many ? 16 : 20 + lane * 14) * rem).toFixed(1))
          }
        }
        attr(mark.label, 'display', lane < 0 && 'none')
      }
      const strip = ranked[0].parentNode, line = strip.firstChild
      attr(strip, 'height', height)
      attr(line, 'x2', wide)
      attr(line, 'y1', y)
      attr(line, 'y2', y)
    }
  }

  key(event) {
    const mark = event.target.closest?.('a')
    if (!mark || event.ctrlKey || event.metaKey || event.altKey) return
    const r = this.roads.findIndex(road => road.includes(mark.plaza)), road = this.roads[r], i = road.indexOf(mark.plaza)
    const away = p => Math.abs(p.position_km - mark.plaza.position_km)
    const near = road => road?.reduce((best, p) => away(p) < away(best) ? p : best)
    const to = { ArrowLeft: road[i - 1], ArrowRight: road[i + 1], Home: road[0], End: road.at(-1), ArrowUp: near(this.roads[r - 1]), ArrowDown: near(this.roads[r + 1]) }[event.key]
    if (!to) return
    event.preventDefault()
    const next = this.marks.get(to.id)
    attr(mark, 'tabindex', -1)
    attr(next, 'tabindex', 0)
    next.focus()
  }
}
