// Charts of a day or a week by quarters of an hour, drawn as SVG in the size that there is. A slider beneath goes through the
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

function slots(quarters) {
  const first = quarters.length && Date.parse(quarters[0].start)
  for (const q of quarters) q.slot = Math.round((Date.parse(q.start) - first) / QUARTER)
  return quarters.length && quarters.at(-1).slot + 1
}

// Span is what the charts of a page have in common: quarters of an hour, those that they are compared with, which part of
// them is shown, and up to where the stream has come.
export class Span {
  constructor(quarters, before, zoom, now) {
    this.quarters = quarters
    this.before = before
    this.count = Math.max(slots(quarters), slots(before))
    this.bySlot = new Map(quarters.map(q => [q.slot, q]))
    this.beforeBySlot = new Map(before.map(q => [q.slot, q]))
    const at = t => quarters.find(q => q.start.slice(0, 16) >= t)?.slot ?? this.count
    this.from = zoom ? Math.min(at(zoom[0]), Math.max(0, this.count - 1)) : 0
    this.to = zoom ? Math.max(this.from + 1, at(zoom[1])) : this.count
    const begins = q => Date.parse(q.start)
    this.running = quarters.find(q => begins(q) <= now && now < begins(q) + QUARTER)?.slot ?? -1
    this.over = quarters.find(q => begins(q) > now)?.slot ?? this.count // the first that has not begun
    this.days = this.count > 104
  }

  get shown() { return this.quarters.filter(q => this.in(q)) }
  in(q) { return q.slot >= this.from && q.slot < this.to }
  complete(q) { return q.slot !== this.running && q.slot < this.over && q.count != null }

  time(slot) {
    const q = this.bySlot.get(slot) ?? this.beforeBySlot.get(slot)
    return q?.start ?? (slot ? later(this.time(slot - 1)) : '')
  }

  when(slot) {
    const start = this.time(slot)
    return (this.days ? f.day(start).slice(0, -5) + ', ' : '') + `${f.minute(start)} to ${f.minute(later(start)).replace(/^00:00$/, '24:00')}`
  }
}

const later = t => t && new Date(Date.parse(t.slice(0, 19) + 'Z') + QUARTER).toISOString().slice(0, 19)

function ticks(highest) {
  const rough = Math.max(highest, 4) / 4, ten = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].find(s => s * ten >= rough && (s * ten) % 1 === 0) * ten || Math.ceil(rough)
  return Array.from({ length: Math.ceil(Math.max(highest, 1) / step) + 1 }, (_, i) => i * step)
}

class Chart {
  // zoom has two funcs: to shows some slots, [from, to); by shows more or less of those around one.
  constructor(box, readout, label, zoom) {
    this.box = box
    this.readout = readout
    this.svg = svg('svg', { role: 'img', 'aria-label': label })
    this.range = el('input', { type: 'range', min: 0, max: 95, 'aria-label': label + ', by quarter of an hour', input: () => this.point(+this.range.value) })
    this.tip = el('p', { class: 'tip', 'aria-hidden': 'true', hidden: true })
    box.append(this.svg, this.range, this.tip)
    this.at = null // the quarter pointed at, null for the latest
    this.drag = null // where a drag began
    this.sizes = new ResizeObserver(() => this.draw())
    this.sizes.observe(box)
    this.range.addEventListener('blur', () => this.point(null))
    this.range.addEventListener('keydown', event => {
      const factor = { '+': .5, '=': .5, '-': 2 }[event.key]
      if (!factor || event.ctrlKey || event.metaKey || event.altKey) return
      event.preventDefault()
      zoom.by(factor, +this.range.value)
    })
    const slot = event => this.step && Math.max(this.span.from, Math.min(this.span.to - 1, this.span.from + Math.floor((event.clientX - this.svg.getBoundingClientRect().left - this.left) / this.step)))
    const on = (type, act) => this.svg.addEventListener(type, event => this.step && act(event, slot(event)))
    on('pointermove', (event, at) => this.point(at))
    on('pointerdown', (event, at) => {
      if (event.pointerType === 'mouse' && !event.button) {
        this.drag = at
        this.svg.setPointerCapture(event.pointerId)
      }
      this.point(at)
    })
    on('pointerup', (event, at) => {
      const from = this.drag
      this.drag = null
      if (from !== null && from !== at) zoom.to(Math.min(from, at), Math.max(from, at) + 1)
      else this.read()
    })
    on('pointercancel', () => { this.drag = null; this.point(null) })
    on('dblclick', () => zoom.by(Infinity))
    on('pointerleave', event => event.pointerType === 'mouse' && this.drag === null && this.point(null)) // a finger's choice stays
  }

  get partial() { return 0 } // 1 where it shows the quarter that still runs

  close() { this.sizes.disconnect() }

  set(span) {
    this.span = span
    if (this.at !== null && (this.at < span.from || this.at >= span.to)) this.at = null
    this.draw()
  }

  draw() {
    if (!this.span?.count || !this.box.clientWidth) return
    this.paint(this.span)
    this.read()
  }

  point(slot) {
    this.at = slot
    this.read()
  }

  read() {
    if (!this.step) return
    const { from, to, running, over } = this.span
    const slot = this.at ?? Math.max(from, Math.min(to, running >= 0 ? running + this.partial : over) - 1)
    this.range.value = slot
    const words = this.words(slot)
    text(this.readout, words)
    attr(this.range, 'aria-valuetext', words)
    const first = Math.min(this.drag ?? slot, slot), last = Math.max(this.drag ?? slot, slot)
    attr(this.cursor, 'x', this.x(first))
    attr(this.cursor, 'width', Math.max(2, (last - first + 1) * this.step).toFixed(1))
    this.tip.hidden = this.at === null
    if (this.tip.hidden) return
    this.tip.replaceChildren(...words.split('; ').map(line => el('span', {}, line)))
    const room = this.box.clientWidth - this.tip.offsetWidth
    this.tip.style.left = Math.max(0, Math.min(room, this.x(last + 1) > room - 8 ? this.x(first) - this.tip.offsetWidth - 8 : this.x(last + 1) + 8)) + 'px'
  }

  // frame empties the drawing, draws the axes for values up to highest and sets x, y.
  frame(highest, unit) {
    const { span } = this
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize), size = 0.72 * rem
    const width = this.box.clientWidth, height = Math.round(rem * (width < 30 * rem ? 12 : 16))
    const marks = ticks(highest)
    this.left = Math.max(3, f.num(marks.at(-1)).length * 0.45 + 0.6) * rem
    const top = 1.7 * rem, bottom = height - 1.5 * rem, right = width - 1.2 * rem
    this.range.style.left = this.left + 'px'
    this.range.style.width = right - this.left + 'px'
    this.step = (right - this.left) / (span.to - span.from)
    this.x = slot => +(this.left + (slot - span.from) * this.step).toFixed(1)
    this.y = n => +(bottom - n / marks.at(-1) * (bottom - top)).toFixed(1)
    attr(this.svg, 'viewBox', `0 0 ${width} ${height}`)
    attr(this.svg, 'height', height)
    attr(this.range, 'min', span.from)
    attr(this.range, 'max', span.to - 1)
    this.cursor = svg('rect', { class: 'cursor', y: top, height: bottom - top })
    const unknown = span.shown.filter(q => q.count == null && q.slot < span.over).map(q => `M${this.x(q.slot)} ${top}H${this.x(q.slot + 1)}V${bottom}H${this.x(q.slot)}z`).join('')
    this.svg.replaceChildren(svg('path', { class: 'unknown', d: unknown }), this.cursor,
      ...marks.map(n => svg('line', { class: n ? 'grid' : 'base', x1: this.left, x2: right, y1: this.y(n), y2: this.y(n) })),
      ...marks.map(n => svg('text', { x: this.left - 6, y: this.y(n) + size / 3, 'text-anchor': 'end', 'font-size': size }, f.num(n))),
      svg('text', { class: 'unit', x: 0, y: size, 'font-size': size }, unit))
    const every = [1, 2, 4, 8, 12, 24, 48, 96].find(n => n * this.step > (span.days && n >= 96 ? 4.4 : 2.8) * rem) ?? 96
    for (let slot = span.from; slot <= span.to; slot++) {
      const t = span.time(slot), [h, m] = f.minute(t).split(':').map(Number)
      if ((h * 4 + m / 15) % every) continue
      const midnight = !h && !m, words = midnight && span.days ? f.day(t).slice(0, -9) : midnight && slot === span.to && slot ? '24:00' : f.minute(t)
      if (slot === span.to && span.days) break
      this.svg.append(svg('text', { x: this.x(slot), y: height - 0.3 * rem, 'text-anchor': 'middle', 'font-size': size }, words))
    }
  }

  // steps returns the path of a line that stays level over each quarter and breaks where value knows nothing.
  steps(quarters, value) {
    let path = '', end = -1
    for (const q of quarters) {
      const v = this.span.in(q) ? value(q) : null
      if (v == null) continue
      path += `${q.slot === end ? 'L' : 'M'}${this.x(q.slot)} ${this.y(v)}H${this.x(q.slot + 1)}`
      end = q.slot + 1
    }
    return path
  }

  missing(slot) { return slot >= this.span.over ? 'still to come' : slot === this.span.running ? 'not yet known' : 'not known' }
  so(slot) { return slot === this.span.running ? ', so far' : '' }
}

// Flow shows vehicles by type as stacked bars, the usual band behind them, and a line for what it is compared with.
export class Flow extends Chart {
  get partial() { return 1 }

  set(span) {
    this.types = typesOf(span.quarters)
    super.set(span)
  }

  paint(span) {
    const { types } = this, shown = span.shown
    this.frame(Math.max(...shown.map(q => Math.max(sum(q), q.usual_high ?? 0)), ...span.before.filter(q => span.in(q)).map(sum)), 'vehicles per 15 min')
    let band = ''
    for (const q of shown) if (q.usual_high != null) band += `M${this.x(q.slot)} ${this.y(q.usual_low)}H${this.x(q.slot + 1)}V${this.y(q.usual_high)}H${this.x(q.slot)}z`
    this.svg.append(svg('path', { class: 'band', d: band }))
    const below = new Map(), gap = this.step > 5 ? 1 : 0
    types.forEach((type, i) => {
      const bars = ['', ''] // the last is of the quarter that is still running
      for (const q of shown) {
        const n = of(q, type), from = below.get(q.slot) ?? 0
        if (!n) continue
        bars[+(q.slot === span.running)] += `M${this.x(q.slot)} ${this.y(from)}V${this.y(from + n)}H${(this.x(q.slot + 1) - gap).toFixed(1)}V${this.y(from)}z`
        below.set(q.slot, from + n)
      }
      this.svg.append(svg('path', { class: 'k' + i, d: bars[0] }), svg('path', { class: `k${i} running`, d: bars[1] }))
    })
    this.svg.append(svg('path', { class: 'median', d: this.steps(shown, q => q.usual_median) }), svg('path', { class: 'before', d: this.steps(span.before, q => q.count) }))
  }

  words(slot) {
    const q = this.span.bySlot.get(slot), then = this.span.beforeBySlot.get(slot)
    const n = q && sum(q)
    return `${this.span.when(slot)}${this.so(slot)}: ` +
      (n ? `${f.many(n, 'vehicle')} (${this.types.filter(t => of(q, t)).map(t => `${typeName(t)} ${f.num(of(q, t))}`).join(', ')})` : q?.count == null ? this.missing(slot) : 'no vehicle') +
      (q?.usual_median != null ? `; usual ${f.num(q.usual_median)}, ${f.num(q.usual_low)} to ${f.num(q.usual_high)}` : '') +
      (then ? `; ${then.count == null ? 'not known' : f.num(then.count)} on ${f.day(then.start)}` : '')
  }
}

export class Throughput extends Chart {
  paint(span) {
    const shown = span.shown
    this.frame(Math.max(...shown.map(q => 4 * Math.max(q.passenger_cars ?? 0, q.capacity ?? 0))), 'passenger cars per hour')
    this.svg.append(svg('path', { class: 'today', d: this.steps(shown, q => span.complete(q) && q.passenger_cars != null ? 4 * q.passenger_cars : null) }),
      svg('path', { class: 'capacity', d: this.steps(shown, q => q.capacity && 4 * q.capacity) }))
  }

  words(slot) {
    const q = this.span.bySlot.get(slot), cars = q && this.span.complete(q) ? q.passenger_cars : null
    return `${this.span.when(slot)}: ` + (cars != null ? `${f.num(4 * cars)} pc/h` : slot === this.span.running ? 'not yet over' : this.missing(slot)) +
      (q?.capacity ? `; capacity ${f.num(4 * q.capacity)} pc/h` + (cars != null ? `, ${f.full(cars / q.capacity)} of it` : '') : '')
  }
}

export class Days extends Chart {
  set(span) {
    // Where a quarter is not known, what follows is at least so much.
    const add = (quarters, complete) => {
      let all = 0
      return new Map(quarters.filter(complete).map(q => [q.slot, all += sum(q)]))
    }
    this.now = add(span.quarters, q => span.complete(q))
    this.then = add(span.before, q => q.count != null)
    const gap = quarters => quarters.find(q => q.count == null && q.slot < span.over)?.slot ?? Infinity
    this.gaps = [gap(span.quarters), gap(span.before)]
    super.set(span)
  }

  paint(span) {
    const inside = sums => [...sums].filter(([slot]) => slot >= span.from && slot < span.to)
    const [now, then] = [inside(this.now), inside(this.then)]
    this.frame(Math.max(0, ...now.map(([, n]) => n), ...then.map(([, n]) => n)), 'vehicles since the beginning')
    const line = (sums, all) => sums.map(([slot, n], i) => `${sums[i - 1]?.[0] === slot - 1 ? 'L' : `M${this.x(slot)} ${this.y(all.get(slot - 1) ?? (i ? sums[i - 1][1] : 0))}L`}${this.x(slot + 1)} ${this.y(n)}`).join('')
    const path = line(now, this.now)
    const whole = now.length && now.every(([slot], i) => slot === now[0][0] + i)
    this.svg.append(svg('path', { class: 'area', d: whole ? `${path}V${this.y(0)}H${this.x(now[0][0])}z` : '' }), svg('path', { class: 'before', d: line(then, this.then) }), svg('path', { class: 'today', d: path }))
  }

  words(slot) {
    const { span } = this, now = this.now.get(slot), then = this.then.get(slot), before = span.beforeBySlot.get(slot)
    return `until ${span.when(slot).replace(/\S+ to /, '')}: ${now == null ? (slot === span.running ? 'not yet over' : this.missing(slot)) : (slot > this.gaps[0] ? 'at least ' : '') + f.many(now, 'vehicle')}` +
      (before ? `; ${then == null ? 'not known' : (slot > this.gaps[1] ? 'at least ' : '') + f.num(then)} on ${f.day(before.start)}` + (now != null && then ? ` (${f.signed((now / then - 1) * 100)} %)` : '') : '')
  }
}
