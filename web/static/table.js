// The table of plazas. Only visible rows exist, so a thousand plazas cost what forty do.

import { base, el, svg, icon, text, attr, show } from './dom.js'
import * as f from './format.js'

const verdicts = { mismatch: 4, not_verified: 3, in_flight: 2, unknown: 1, exact: 0 }
const urgency = Object.fromEntries(f.states.map((s, i) => [s, f.states.length - i]))

// columns: what a column is called, what it is sorted by, whether the highest goes first, and its cell. A cell has
// make, which returns its content, and set, which shows a plaza in it.
export const columns = [
  { key: 'state', title: 'State', by: p => urgency[p.state] ?? 0, down: true,
    make: c => { c.icon = icon('free'); c.word = el('span'); c.since = el('small'); return [c.icon, c.word, c.since] },
    set: (c, p, today) => { show(c.icon, f.symbol(p.state)); text(c.word, f.word(p.state)); text(c.since, p.since ? 'since ' + f.moment(p.since, today) : '') } },
  { key: 'name', title: 'Plaza', by: p => f.name(p), header: true,
    make: c => { c.link = el('a'); c.place = el('small'); return [c.link, c.place] },
    set: (c, p) => {
      attr(c.link, 'href', base + 'plazas/' + p.id)
      text(c.link, f.name(p))
      text(c.place, [p.name ? p.id : '', f.place(p)].filter(Boolean).join(' · '))
    } },
  { key: 'flow', title: 'Flow', unit: 'veh/h', by: p => p.flow_per_hour, down: true, n: true,
    set: (c, p) => text(c.cell, f.num(p.flow_per_hour)) },
  { key: 'vc', title: 'Of capacity', hint: 'throughput over capacity', by: p => p.vc, down: true, n: true,
    make: c => {
      c.word = el('span')
      c.note = el('small')
      c.bar = svg('rect', { class: 'bar', height: 4 }) // in the colour of the row's state
      return [c.word, c.note, svg('svg', { class: 'vc', viewBox: '0 0 60 4', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
        svg('rect', { class: 'track', width: 60, height: 4 }), c.bar, svg('rect', { class: 'limit', x: 49.5, width: 1, height: 4 }))]
    },
    set: (c, p) => {
      text(c.word, f.full(p.vc))
      text(c.note, p.capacity_wrong ? 'capacity wrong' : '')
      attr(c.cell, 'title', p.capacity_wrong ? 'more than the capacity passes, so it looks wrong: correct the plazas file' : null)
      attr(c.bar, 'width', Math.min(60, (p.vc ?? 0) * 50).toFixed(1)) // the bar ends at 120 %, the mark is at 100 %
    } },
  { key: 'heavy', title: 'Heavy', hint: 'share of heavy vehicles', by: p => p.heavy_share, down: true, n: true,
    set: (c, p) => text(c.cell, f.percent(p.heavy_share)) },
  { key: 'deviation', title: 'Vs usual', unit: 'z', hint: 'deviation from what is usual at this time of the week', by: p => p.z == null ? null : Math.abs(p.z), down: true, n: true,
    set: (c, p) => { text(c.cell, f.signed(p.z)); c.cell.classList.toggle('far', Math.abs(p.z ?? 0) >= 3) } },
  { key: 'trend', title: 'Last 12 h',
    make: c => {
      c.area = svg('path', { class: 'area' })
      c.line = svg('path', { class: 'line' })
      c.chart = svg('svg', { class: 'spark', viewBox: '0 0 47 20', preserveAspectRatio: 'none', role: 'img' }, c.area, c.line)
      return [c.chart]
    },
    set: (c, p) => {
      if (c.drawn === p.sparkline) return
      c.drawn = p.sparkline
      // The last quarter still runs and would look like a collapse; what is not known is a gap.
      const counts = (p.sparkline ?? []).slice(0, -1), known = counts.filter(n => n != null)
      const top = Math.max(1, ...known), step = 47 / Math.max(1, counts.length - 1)
      let line = '', area = '', from = null
      counts.forEach((n, i) => {
        if (n == null) return
        const x = (i * step).toFixed(1), point = `${x} ${(19 - n / top * 18).toFixed(1)}`
        const begins = counts[i - 1] == null, ends = counts[i + 1] == null
        if (begins) from = x
        line += (begins ? 'M' : 'L') + point + (begins && ends ? 'h.5' : '')
        area += (begins ? 'M' : 'L') + point + (ends ? `V20H${from}z` : '')
      })
      attr(c.line, 'd', line)
      attr(c.area, 'd', area)
      attr(c.chart, 'aria-label', known.length ? `from ${f.num(Math.min(...known))} to ${f.num(Math.max(...known))} vehicles each quarter of an hour, last ${f.num(counts.at(-1))}` : 'not known')
    } },
  { key: 'last', title: 'Last event', by: p => p.last_event && Date.parse(p.last_event), down: true, n: true,
    set: (c, p, today) => text(c.cell, f.moment(p.last_event, today, f.clock)) },
  { key: 'verification', title: 'Verified', by: p => verdicts[p.verification?.status] ?? 1, down: true,
    make: c => { c.icon = icon('unknown'); c.word = el('span'); return [c.icon, c.word] },
    set: (c, p) => { const [name, words] = f.verdict(p.verification); show(c.icon, name); text(c.word, words) } },
]

// order returns a comparison. What is not known goes last either way; of equals the fuller plaza first, then by number.
export function order(key, down) {
  const by = (columns.find(c => c.key === key && c.by) ?? columns[0]).by
  const sign = down ? -1 : 1
  const compare = (x, y, sign) => x == null || y == null ? (x == null) - (y == null) : typeof x === 'string' ? sign * x.localeCompare(y, 'en', { numeric: true }) : sign * (x - y)
  return (p, q) => compare(by(p), by(q), sign) || compare(p.vc, q.vc, -1) || compare(p.flow_per_hour, q.flow_per_hour, -1) || p.id - q.id
}

const MORE = 8 // rows beyond the visible ones, above and below

export class Table {
  constructor(table, sort) {
    this.table = table
    this.body = table.tBodies[0]
    this.head = table.tHead.rows[0]
    this.rows = new Map() // by plaza id, of those that exist
    this.plazas = []
    this.today = ''
    this.height = 44 // of a row, as last measured
    this.resized = true
    this.above = el('tr', { class: 'gap', 'aria-hidden': 'true' }, el('td'))
    this.below = this.above.cloneNode(true)
    this.body.append(this.above, this.below)
    for (const c of columns) {
      const label = [c.title, c.unit && el('small', {}, ' ' + c.unit)]
      this.head.append(el('th', { scope: 'col', class: c.key + (c.n ? ' n' : '') },
        c.by ? el('button', { type: 'button', title: c.hint, click: () => sort(c.key) }, ...label, el('span', { class: 'arrow', 'aria-hidden': 'true' })) : el('span', {}, ...label)))
    }
    this.scrolled = () => { this.frame ??= requestAnimationFrame(() => { this.frame = undefined; this.draw() }) }
    addEventListener('scroll', this.scrolled, { passive: true })
    this.sizes = new ResizeObserver(() => { this.resized = true; this.scrolled() }) // also of what is above
    this.sizes.observe(document.body)
    table.addEventListener('keydown', event => this.key(event))
  }

  close() {
    removeEventListener('scroll', this.scrolled)
    this.sizes.disconnect()
    cancelAnimationFrame(this.frame)
  }

  sorted(key, down) {
    columns.forEach((c, i) => attr(this.head.cells[i], 'aria-sort', c.by && (c.key === key ? (down ? 'descending' : 'ascending') : 'none')))
  }

  update(plazas, today) {
    this.plazas = plazas
    this.today = today
    attr(this.table, 'aria-rowcount', plazas.length + 1)
    this.draw()
  }

  draw() {
    const { plazas, body } = this
    const focused = body.contains(document.activeElement) ? document.activeElement : null
    if (this.resized && plazas.length) {
      this.resized = false
      this.height = this.row(plazas[0], 0, this.above).getBoundingClientRect().height || 44
    }
    const height = this.height
    const top = body.getBoundingClientRect().top
    const from = Math.max(0, Math.min(plazas.length, Math.floor(-top / height) - MORE))
    const until = Math.min(plazas.length, Math.ceil((innerHeight - top) / height) + MORE)
    const gap = (row, n) => { row.hidden = !n; row.firstChild.style.height = n * height + 'px' }
    gap(this.above, from)
    gap(this.below, plazas.length - Math.max(from, until))

    const seen = plazas.slice(from, until), ids = new Set(seen.map(p => p.id))
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue
      row.remove()
      this.rows.delete(id)
    }
    let last = this.above
    seen.forEach((p, i) => { last = this.row(p, from + i, last) })
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true })
  }

  row(plaza, index, after) {
    let row = this.rows.get(plaza.id)
    if (!row) {
      row = el('tr', { role: 'row' })
      row.parts = columns.map(c => {
        const part = { cell: el(c.header ? 'th' : 'td', { role: c.header ? 'rowheader' : 'cell', scope: c.header && 'row', class: c.key + (c.n ? ' n' : '') }) }
        part.cell.append(...c.make?.(part) ?? [])
        row.append(part.cell)
        return part
      })
      this.rows.set(plaza.id, row)
    }
    if (after.nextSibling !== row) after.after(row)
    attr(row, 'aria-rowindex', index + 2)
    if (row.plaza !== plaza || row.today !== this.today) {
      row.plaza = plaza
      row.today = this.today
      attr(row, 'class', 'row ' + f.symbol(plaza.state) + (plaza.verification?.status === 'mismatch' ? ' wrong' : ''))
      columns.forEach((c, i) => c.set(row.parts[i], plaza, this.today))
    }
    return row
  }

  key(event) {
    const row = document.activeElement?.closest('tr.row')
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return
    const page = Math.max(1, Math.floor(innerHeight / this.height) - 4)
    const at = this.plazas.findIndex(p => p.id === row.plaza.id)
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.plazas.length - 1 }[event.key]
    if (to === undefined) return
    event.preventDefault()
    this.focus(Math.max(0, Math.min(this.plazas.length - 1, to)))
  }

  focus(index) {
    const top = this.body.getBoundingClientRect().top + index * this.height
    const head = Math.max(document.getElementById('above').offsetHeight, this.head.cells[0].getBoundingClientRect().bottom)
    if (top < head) scrollBy(0, top - head - this.height)
    else if (top + this.height > innerHeight) scrollBy(0, top + 2 * this.height - innerHeight)
    this.draw()
    this.rows.get(this.plazas[index].id)?.querySelector('a').focus({ preventScroll: true })
  }
}
