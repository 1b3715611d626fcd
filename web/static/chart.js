// Charts of a day by quarters of an hour, drawn as SVG in the size that there is. A slider beneath goes through the
// quarters, so that keys, fingers and screen readers get at every figure; a mouse just points.

import { el, svg, text, attr } from './dom.js'
import * as f from './format.js'

const QUARTER = 900_000
const known = ['car', 'truck', 'bus', 'van', 'motorcycle']
const KINDS = 6 // colours that style.css has

// typesOf returns the vehicle types of quarters, [[name, total], …]: those that every plaza has first, so that they have
// the same colour everywhere, then the others by number. What finds no colour is summed up as other.
export function typesOf(quarters) {
  const totals = new Map()
  for (const q of quarters) for (const [type, n] of Object.entries(q.by_type ?? {})) totals.set(type, (totals.get(type) ?? 0) + n)
  const rank = type => (known.indexOf(type) + 1) || Infinity
  const all = [...totals].sort((a, b) => rank(a[0]) - rank(b[0]) || b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
  if (all.length <= KINDS) return all
  const rest = all.slice(KINDS - 1)
  return [...all.slice(0, KINDS - 1), [null, rest.reduce((sum, [, n]) => sum + n, 0), rest.map(([type]) => type)]]
}

const one = (quarter, type) => Object.hasOwn(quarter.by_type ?? {}, type) ? quarter.by_type[type] : 0
export const of = (quarter, [type, , several]) => several ? several.reduce((sum, t) => sum + one(quarter, t), 0) : one(quarter, type)
export const sum = quarter => quarter.count ?? 0
export const typeName = ([type]) => f.plain(type ?? 'other types')

// slots numbers quarters from the midnight of their plaza's clock and returns how many the day has.
function slots(quarters) {
  if (!quarters.length) return 0
  const at = Date.parse(quarters[0].start), [h, m] = f.minute(quarters[0].start).split(':').map(Number)
  const midnight = at - (h * 60 + m) * 60_000
  for (const q of quarters) q.slot = Math.round((Date.parse(q.start) - midnight) / QUARTER)
  return Math.max(96, quarters.at(-1).slot + 1)
}

// ticks returns round values from 0 to above the highest.
function ticks(highest) {
  const rough = Math.max(highest, 4) / 4, ten = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].find(s => s * ten >= rough && (s * ten) % 1 === 0) * ten || Math.ceil(rough)
  return Array.from({ length: Math.ceil(Math.max(highest, 1) / step) + 1 }, (_, i) => i * step)
}

class Chart {
  constructor(box, readout, label) {
    this.box = box
    this.readout = readout
    this.svg = svg('svg', { role: 'img', 'aria-label': label })
    this.range = el('input', { type: 'range', min: 0, max: 95, 'aria-label': label + ', by quarter of an hour', input: () => this.point(+this.range.value) })
    box.append(this.svg, this.range)
    this.at = null // the quarter pointed at, null for the latest
    this.sizes = new ResizeObserver(() => this.draw())
    this.sizes.observe(box)
    this.range.addEventListener('blur', () => this.point(null))
    for (const type of ['pointermove', 'pointerdown']) {
      this.svg.addEventListener(type, event => {
        const x = event.clientX - this.svg.getBoundingClientRect().left - this.left
        if (this.step) this.point(Math.max(0, Math.min(this.count - 1, Math.floor(x / this.step))))
      })
    }
    this.svg.addEventListener('pointerleave', event => event.pointerType === 'mouse' && this.point(null)) // a finger's choice stays
  }

  close() { this.sizes.disconnect() }

  point(slot) {
    this.at = slot
    this.read()
  }

  read() {
    if (!this.step) return
    const slot = this.at ?? this.latest
    this.range.value = slot
    const words = this.words(slot)
    text(this.readout, words)
    attr(this.range, 'aria-valuetext', words)
    attr(this.cursor, 'x', (this.left + slot * this.step).toFixed(1))
  }

  // frame empties the drawing, draws the axes for values up to highest and sets x, y.
  frame(highest, start) {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize)
    const width = this.box.clientWidth, height = Math.round(rem * (width < 30 * rem ? 11 : 15))
    this.left = 3.2 * rem
    const top = 0.8 * rem, bottom = height - 1.5 * rem, right = width - 0.8 * rem
    const marks = ticks(highest)
    this.step = (right - this.left) / this.count
    this.x = slot => +(this.left + slot * this.step).toFixed(1)
    this.y = n => +(bottom - n / marks.at(-1) * (bottom - top)).toFixed(1)
    attr(this.svg, 'viewBox', `0 0 ${width} ${height}`)
    attr(this.svg, 'height', height)
    attr(this.range, 'max', this.count - 1)
    this.cursor = svg('rect', { class: 'cursor', y: top, width: Math.max(2, this.step).toFixed(1), height: bottom - top })
    const size = 0.72 * rem, every = width < 40 * rem ? 24 : 12
    this.svg.replaceChildren(this.cursor,
      ...marks.map(n => svg('line', { class: n ? 'grid' : 'base', x1: this.left, x2: right, y1: this.y(n), y2: this.y(n) })),
      ...marks.map(n => svg('text', { x: this.left - 6, y: this.y(n) + size / 3, 'text-anchor': 'end', 'font-size': size }, f.num(n))))
    for (let slot = 0; slot <= this.count; slot += every) {
      const hour = this.hours?.[slot] ?? String(slot / 4).padStart(2, '0')
      this.svg.append(svg('text', { x: this.x(slot), y: height - 0.3 * rem, 'text-anchor': slot === this.count ? 'end' : slot ? 'middle' : 'start', 'font-size': size }, hour + ':00'))
    }
  }

  // steps returns the path of a line that stays level over each quarter and breaks where value knows nothing.
  steps(quarters, value) {
    let path = '', end = -1
    for (const q of quarters) {
      const v = value(q)
      if (v == null) continue
      path += `${q.slot === end ? 'L' : 'M'}${this.x(q.slot)} ${this.y(v)}H${this.x(q.slot + 1)}`
      end = q.slot + 1
    }
    return path
  }
}

// Flow shows vehicles by type as stacked bars, the usual band behind them and the capacity above.
export class Flow extends Chart {
  set(quarters) {
    this.quarters = quarters
    this.count = slots(quarters)
    this.types = typesOf(quarters)
    this.bySlot = new Map(quarters.map(q => [q.slot, q]))
    this.hours = {}
    for (const q of quarters) if (q.slot % 4 === 0) this.hours[q.slot] = f.minute(q.start).slice(0, 2)
    this.latest = quarters.findLast(q => q.count != null)?.slot ?? 0
    this.draw()
  }

  draw() {
    if (!this.count || !this.box.clientWidth) return
    const { quarters, types } = this
    this.frame(Math.max(...quarters.map(q => Math.max(sum(q), q.usual_high ?? 0, q.capacity ?? 0))))
    let band = ''
    for (const q of quarters) if (q.usual_high != null) band += `M${this.x(q.slot)} ${this.y(q.usual_low)}H${this.x(q.slot + 1)}V${this.y(q.usual_high)}H${this.x(q.slot)}z`
    this.svg.append(svg('path', { class: 'band', d: band }))
    const below = new Map(), gap = this.step > 5 ? 1 : 0
    types.forEach((type, i) => {
      const bars = ['', ''] // the last is of the quarter that is still running
      for (const q of quarters) {
        const n = of(q, type), from = below.get(q.slot) ?? 0
        bars[+(q.slot === this.latest)] += `M${this.x(q.slot)} ${this.y(from)}V${this.y(from + n)}H${(this.x(q.slot + 1) - gap).toFixed(1)}V${this.y(from)}z`
        below.set(q.slot, from + n)
      }
      this.svg.append(svg('path', { class: 'k' + i, d: bars[0] }), svg('path', { class: `k${i} running`, d: bars[1] }))
    })
    this.svg.append(svg('path', { class: 'median', d: this.steps(quarters, q => q.usual_median) }),
      svg('path', { class: 'capacity', d: this.steps(quarters, q => q.capacity) }))
    this.read()
  }

  words(slot) {
    const q = this.bySlot.get(slot)
    if (!q) return 'nothing known of this quarter of an hour'
    const n = sum(q)
    const end = new Date(Date.parse(q.start.slice(0, 19) + 'Z') + QUARTER).toISOString().slice(11, 16)
    return `${f.minute(q.start)} to ${end}${slot === this.latest ? ', so far' : ''}: ${n ? `${f.many(n, 'vehicle')} (${this.types.filter(t => of(q, t)).map(t => `${typeName(t)} ${f.num(of(q, t))}`).join(', ')})` : q.count == null ? (slot > this.latest ? 'still to come' : 'not known') : 'no vehicle'}` +
      (q.usual_median != null ? `; usual ${f.num(q.usual_median)}, ${f.num(q.usual_low)} to ${f.num(q.usual_high)}` : '') +
      (q.capacity ? `; capacity ${f.num(q.capacity)} pc` : '')
  }
}

// Days shows what has passed since midnight, today and a week before.
export class Days extends Chart {
  set(today, before) {
    this.count = Math.max(slots(today), slots(before))
    const add = quarters => {
      let all = 0
      return new Map(quarters.filter(q => q.count != null).map(q => [q.slot, all += sum(q)]))
    }
    this.latest = today.findLast(q => q.count != null)?.slot ?? 0
    this.today = add(today)
    this.before = add(before)
    this.draw()
  }

  draw() {
    if (!this.count || !this.box.clientWidth) return
    this.frame(Math.max(0, ...this.today.values(), ...this.before.values()))
    const line = days => [...days].map(([slot, n], i) => `${i ? 'L' : `M${this.x(slot)} ${this.y(0)}L`}${this.x(slot + 1)} ${this.y(n)}`).join('')
    const path = line(this.today)
    this.svg.append(svg('path', { class: 'area', d: path && `${path}V${this.y(0)}z` }), svg('path', { class: 'before', d: line(this.before) }), svg('path', { class: 'today', d: path }))
    this.read()
  }

  words(slot) {
    const end = `${String(Math.floor((slot + 1) / 4)).padStart(2, '0')}:${String((slot + 1) % 4 * 15).padStart(2, '0')}`
    const now = this.today.get(slot), then = this.before.get(slot)
    return `until ${end}: ${now == null ? 'still to come' : f.num(now) + (slot === this.latest ? ' today so far' : ' today')}; ${f.num(then)} last week` + (now != null && then && slot < this.latest ? ` (${f.signed((now / then - 1) * 100)} %)` : '')
  }
}
