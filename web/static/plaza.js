// The page of one plaza. Its headline is live like the board; its history is asked for again while the plaza changes.

import { base, el, icon, text, attr, show, page, facts, missing } from './dom.js'
import * as f from './format.js'
import { live } from './live.js'
import { Flow, Throughput, Days, Span, typesOf, typeName, of, sum } from './chart.js'
import { Period } from './period.js'
import { through } from './journeys.js'

const FRESH = 5_000 // at most this often is the history asked for, and every six times that at least

export class PlazaPage {
  constructor(main, id) {
    this.main = main
    this.id = id
    const { root, parts } = page('plaza-page')
    this.parts = parts
    this.asked = -Infinity
    this.gone = new AbortController()
    this.through = through(id, parts, this.gone.signal)
    this.past = new Map() // of the API, by address, what hardly changes any more
    this.period = new Period(parts, () => this.moved())
    const zoom = { to: (from, to) => this.zoom(from, to), by: (factor, slot) => this.zoomBy(factor, slot) }
    this.charts = [new Flow(parts.flow, parts.flowtext, 'Flow by vehicle type', zoom), new Throughput(parts.cars, parts.carstext, 'Throughput and capacity', zoom),
      new Days(parts.days, parts.daystext, 'Vehicles since the beginning', zoom)]
    parts.in.addEventListener('click', () => this.zoomBy(.5))
    parts.out.addEventListener('click', () => this.zoomBy(2))
    this.option(new URLSearchParams(location.search).get('kind'))
    parts.kind.addEventListener('change', () => {
      const at = new URL(location.href)
      parts.kind.value ? at.searchParams.set('kind', parts.kind.value) : at.searchParams.delete('kind')
      history.replaceState(history.state, '', at)
      this.windows()
    })
    parts.older.addEventListener('click', () => this.windows(this.next))
    parts.flowtable.parentNode.addEventListener('toggle', () => this.table())
    text(parts.name, 'Plaza ' + id)
    main.replaceChildren(root)
    this.update()
    this.windows()
  }

  close() {
    this.gone.abort()
    for (const chart of this.charts) chart.close()
  }

  back() {
    if (+location.pathname.slice(base.length).split('/')[1] !== this.id) return false
    this.period.fromAddress()
    this.parts.kind.value = new URLSearchParams(location.search).get('kind') ?? ''
    this.moved()
    return true
  }

  moved() {
    this.load()
    this.windows()
  }

  zoom(from, to) {
    const { span, period } = this
    const whole = from <= 0 && to >= span.count
    const at = slot => slot < span.count ? span.time(slot).slice(0, 16) : period.end + 'T00:00'
    period.go({ zoom: whole ? null : [at(Math.max(0, from)), at(to)] })
  }

  // zoomBy shows more or less around a slot: that which is pointed at, else the middle.
  zoomBy(factor, slot) {
    const { span } = this
    if (!span?.count) return
    const length = span.to - span.from, wanted = Math.max(4, Math.min(span.count, Math.round(length * factor)))
    slot ??= this.charts.find(c => c.at !== null)?.at ?? Math.floor((span.from + span.to) / 2)
    const from = Math.max(0, Math.min(span.count - wanted, Math.round(slot - wanted * (slot - span.from) / length)))
    if (wanted !== length) this.zoom(from, from + wanted)
  }

  title() { return f.name(this.plaza ?? { id: this.id }) }

  async get(path) {
    const response = await fetch(`${base}api/v1/plazas/${this.id}${path}`, { signal: this.gone.signal })
    const missing = response.status === 404
    if (!response.ok) throw Object.assign(new Error(missing ? `There is no plaza ${this.id}.` : `The server answers ${response.status}.`), { missing, status: response.status })
    return response.json()
  }

  update() {
    const now = live.plazas.get(this.id)
    const changed = now !== this.seen
    this.seen = now
    this.due ||= changed
    const waited = performance.now() - this.asked
    if (!this.asking && (this.due && waited > FRESH || waited > 6 * FRESH)) this.ask()
    if (now || this.detail) this.head({ ...this.detail, ...now })
    this.through()
  }

  async ask() {
    this.asking = true
    this.due = false
    this.asked = performance.now()
    try {
      this.detail = await this.get('')
    } catch (error) {
      if (error.name === 'AbortError') return
      if (error.missing && !live.plazas.has(this.id)) missing(this.main, error.message)
      else if (!this.detail) text(this.parts.flowtext, 'The history could not be read. ' + error.message)
      return
    } finally { this.asking = false }
    this.head({ ...this.detail, ...live.plazas.get(this.id) })
    const first = !this.period.today // lists of its period were not asked for yet
    this.period.begin(f.date(this.detail.quarters[0]?.start ?? this.detail.last_event))
    // A week costs the database more than a day that came with the detail.
    if (!this.span || this.period.live && (this.period.usual || performance.now() - this.loaded > 6 * FRESH)) this.load()
    if (first || !this.reading && !this.paged) this.windows()
  }

  head(p) {
    const { parts } = this
    const today = f.date(p.last_event)
    this.plaza = p
    text(parts.name, f.name(p))
    text(parts.about, [`plaza ${p.id}`, f.place(p), p.lanes ? f.many(p.lanes, 'lane') : 'lanes not known', 'times in ' + f.zone(p.timezone || live.board?.timezone, p.last_event)].filter(Boolean).join(' · '))
    attr(parts.standing, 'class', 'standing ' + f.symbol(p.state))
    show(parts.standing.firstElementChild, f.symbol(p.state))
    text(parts.state, f.word(p.state))
    const since = p.since && live.board?.stream_time ? Date.parse(live.board.stream_time) - Date.parse(p.since) : null
    text(parts.since, p.since ? `since ${f.moment(p.since, today)}` + (since > 0 ? `, for ${f.span(since / 1000)}` : '') : '')
    text(parts.why, p.why ?? '')
    facts(parts.facts, [
      [p.observed_minutes ? `Flow, first ${p.observed_minutes} min` : 'Flow, last 15 min', f.num(p.flow_per_hour), 'veh/h'],
      [p.observed_minutes ? `Throughput, first ${p.observed_minutes} min` : 'Throughput, last 15 min', f.num(p.demand), 'pc/h'],
      ['Capacity', f.num(p.capacity), 'pc/h' + (p.capacity_wrong ? '; looks wrong' : '')],
      p.capacity_bound && ['Capacity, at least', f.num(p.capacity_bound.passenger_cars_per_hour), `pc/h; passed for an hour on ${f.many(p.capacity_bound.days, 'recent day')}`],
      ['Throughput over capacity', f.full(p.vc)],
      ['Against usual', f.signed(p.z), p.usual ? `z; usual ${f.num(p.usual.median, p.usual.median % 1 ? 1 : 0)} in 15 min` : 'z'],
      ['Heavy vehicles', f.percent(p.heavy_share, 1)],
      ['Peak-hour factor', f.num(p.phf, 2)],
      ['Mean headway', f.num(p.headway_seconds, 1), 's'],
      ['Vehicles in all', f.num(p.total)],
      ['Last event', f.moment(p.last_event, f.date(live.board?.stream_time), f.clock)],
    ].filter(Boolean))
    facts(parts.late, [
      ['Late', f.num(p.late), 'up to 2 h; in every window, revised'],
      ['Late for minute windows', f.num(p.late_quarter), 'up to 2 d; in windows of whole quarter-hours'],
      ['Too late', f.num(p.too_late), 'in no window; stored and counted all the same'],
      ['Ahead of the clock', f.num(p.ahead), p.ahead ? `the last by ${f.span(p.lead_seconds)}` : ''],
    ])
    const v = p.verification ?? {}
    const [name, words] = f.verdict(v)
    attr(parts.verdict, 'class', 'verdict ' + name)
    show(parts.verdict.firstElementChild, name)
    text(parts.verdict.querySelector('strong'), words)
    text(parts.verdict.lastElementChild, v.status === 'exact' ? 'each row stored is counted once' : v.status === 'in_flight' ? 'stored, on their way to being counted' : v.status === 'not_verified' ? 'counting them takes too long; the optional indexes in sql/indexes.sql make it fast' : v.status === 'mismatch' ? 'count and rows disagree' : '')
    facts(parts.proof, [
      ['Counted', f.num(v.table_count)],
      ['Rows stored', f.num(v.stored_rows)],
      ['In flight', f.num(v.in_flight)],
      ['Checksum', v.checksum_ok == null ? 'not computed' : v.checksum_ok ? 'equal' : 'DIFFERS'],
    ])
  }

  async flow(from, to) {
    const path = '/flow?' + new URLSearchParams({ from, to })
    const quarters = this.past.get(path) ?? (await this.get(path)).quarters
    if (this.past.size > 20) this.past.clear()
    if (to <= this.period.today) this.past.set(path, quarters)
    return quarters
  }

  // load shows the charts and changes of the period: what came with the detail, or what it asks for.
  async load() {
    const { period, detail, parts } = this
    if (!detail) return
    this.loaded = performance.now()
    const turn = this.turn = {} // the last one shows what it read
    const { from } = period.range
    try {
      const [quarters, before, changes] = await Promise.all([
        period.usual ? detail.quarters : this.flow(period.start, period.end),
        period.usual ? detail.last_week : period.before ? this.flow(period.before, period.beforeEnd) : [],
        from ? this.get('/transitions?' + new URLSearchParams({ ...period.range, limit: 100 })).then(page => page.transitions) : detail.changes,
      ])
      if (turn !== this.turn) return
      text(parts.viewsaid, '')
      const now = live.board?.stream_time ?? quarters.findLast(q => q.count != null)?.start
      this.span = new Span(quarters, before, period.zoom, Date.parse(now))
      this.history(changes)
    } catch (error) {
      if (error.name !== 'AbortError' && turn === this.turn) text(parts.viewsaid, 'These figures could not be read. ' + error.message)
    }
  }

  history(all) {
    const { parts, detail, period, span } = this
    for (const chart of this.charts) chart.set(span)
    this.legend()
    this.table()
    for (const part of [parts.flowdate, parts.carsdate]) text(part, period.name)
    text(parts.against, period.before ? 'against ' + period.beforeName : '')
    text(parts.nocapacity, detail.capacity == null ? 'The capacity is not known: the plazas file has no lanes.' : '')
    parts.out.disabled = span.from === 0 && span.to === span.count
    parts.in.disabled = span.to - span.from <= 4

    // Of a period that is over, or not today's, the quarters add up; of today the server knows the minutes as well.
    const total = quarters => quarters.reduce((all, q) => q.count == null ? all : (all ?? 0) + q.count, null)
    const some = quarters => quarters.some(q => q.count == null && q.slot < span.over) ? 'at least ' : ''
    const now = period.usual ? detail.day_so_far : total(span.quarters), was = period.usual ? detail.day_so_far_last_week : period.live ? null : total(span.before)
    text(parts.atleast, period.usual ? '' : some(span.quarters))
    text(parts.sofar, f.num(now))
    text(parts.sofarname, period.usual ? 'vehicles today' : period.week ? 'vehicles in this week' + (period.live ? ' so far' : '') : 'vehicles on this day')
    text(parts.lastweek, !period.before || !period.usual && period.live ? '' : was == null ? 'the other is not known'
      : `${period.usual ? '' : some(span.before)}${f.num(was)} ` + (period.usual ? `by this time last ${f.weekday(span.before[0]?.start) || 'week'}` : period.week ? 'in the other' : 'on the other') + (was ? ` (${f.signed((now / was - 1) * 100)} %)` : ''))

    const day = period.usual ? f.date(detail.last_event) : period.start
    const changes = (all ?? []).map(c => el('li', {},
      icon(f.symbol(c.to)), el('span', {}, el('time', { datetime: c.since }, f.moment(c.since, day)), ' ', el('b', {}, f.word(c.to)), ' ', el('small', {}, `after ${f.word(c.from)}, detected at ${f.moment(c.detected, f.date(c.since))}`), el('br'), c.why)))
    parts.changes.replaceChildren(...changes.length ? changes : [el('li', { class: 'hint' }, period.range.from ? 'None in this time.' : 'None yet.')])
  }

  legend() {
    const { quarters, over } = this.span
    const entries = typesOf(quarters).map((type, i) => el('li', {}, el('i', { class: 'k' + i }), `${typeName(type)} `, el('b', {}, f.num(type[1]))))
    if (quarters.some(q => q.usual_high != null)) entries.push(el('li', {}, el('i', { class: 'band' }), 'usual, with its band'))
    if (this.period.before) entries.push(el('li', {}, el('i', { class: 'before' }), this.period.beforeName))
    if (quarters.some(q => q.count == null && q.slot < over)) entries.push(el('li', {}, el('i', { class: 'unknown' }), 'not known'))
    this.parts.legend.replaceChildren(...entries)
  }

  table() {
    const box = this.parts.flowtable, { span } = this
    if (!box.parentNode.open || !span) return
    const quarters = span.shown.filter(sum).reverse(), types = typesOf(span.quarters)
    const n = value => el('td', { class: 'n' }, value)
    const heads = [...types.map(typeName), 'All', 'Usual', 'Band', ...this.period.before ? ['Compared'] : []]
    box.replaceChildren(el('table', {},
      el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'From'), ...heads.map(t => el('th', { scope: 'col', class: 'n' }, t)))),
      el('tbody', {}, ...quarters.map(q => el('tr', {}, el('th', { scope: 'row' }, f.moment(q.start, span.days ? '' : f.date(q.start))), ...types.map(t => n(f.num(of(q, t)))), n(f.num(sum(q))),
        n(f.num(q.usual_median)), n(q.usual_high == null ? f.unknown : `${f.num(q.usual_low)}–${f.num(q.usual_high)}`), this.period.before ? n(f.num(span.beforeBySlot.get(q.slot)?.count)) : null)))))
  }

  // option offers a kind of windows. The first is that of the address, and is chosen.
  option(kind) {
    const { kind: select } = this.parts
    if (!kind || [...select.options].some(o => o.value === kind)) return
    select.append(el('option', { value: kind, selected: select.options.length === 1 && location.search.includes('kind=') }, kind))
  }

  async windows(before) {
    const { parts } = this
    const kind = parts.kind.value
    this.reading = true
    attr(parts.csv, 'href', `${base}api/v1/plazas/${this.id}/windows.csv?` + new URLSearchParams({ ...kind && { kind }, ...this.period.range }))
    try {
      const query = new URLSearchParams({ limit: 20, ...this.period.range })
      const asked = this.period.range.from
      if (kind) query.set('kind', kind)
      if (before) query.set('before', before)
      const result = await this.get('/windows?' + query)
      if (kind !== parts.kind.value || asked !== this.period.range.from) return
      const day = asked ? this.period.start : f.date(this.plaza?.last_event)
      for (const k of new Set([...result.kinds ?? [], ...result.windows.map(w => w.kind)])) this.option(k)
      const rows = result.windows.map(w => {
        const whole = w.completeness ?? 1
        return el('tr', {}, el('td', {}, w.kind),
          el('th', { scope: 'row' }, `${f.moment(w.start, day)} – ${f.moment(w.end, f.date(w.start)).replace(/^\S+ 00:00$/, '24:00')}`),
          el('td', { class: 'n' }, f.num(w.count)), el('td', { class: 'n' }, f.num(w.flow_per_hour)),
          el('td', { class: 'n' }, f.num(w.revision)), el('td', { class: 'n' }, f.num(w.late)),
          el('td', {}, w.too_late ? `${f.num(Math.floor(whole * 1000) / 10, 1)} %, ${f.num(w.too_late)} too late` : '100 %', w.final === false ? ' · so far' : ''))
      })
      if (before) parts.windows.append(...rows)
      else parts.windows.replaceChildren(...rows)
      this.paged = !!before
      this.next = result.next
      parts.older.hidden = !result.next
      text(parts.windowsaid, parts.windows.children.length ? '' : asked ? 'None in this time.' : 'None has closed yet.')
    } catch (error) {
      if (error.status === 400 && kind) { // of an address: none of this kind are counted
        parts.kind.querySelector(':checked').remove()
        parts.kind.dispatchEvent(new Event('change'))
      } else if (error.name !== 'AbortError') text(parts.windowsaid, 'The windows could not be read. ' + error.message)
    } finally { this.reading = false }
  }
}
