// The page of one plaza. Its headline is live like the board; its history is asked for again while the plaza changes.

import { el, icon, text, attr, show, page, facts, missing } from './dom.js'
import * as f from './format.js'
import { live } from './live.js'
import { Flow, Days, typesOf, typeName, of, sum } from './chart.js'

const FRESH = 5_000 // at most this often is the history asked for, and every six times that at least

export class PlazaPage {
  constructor(main, id) {
    this.main = main
    this.id = id
    const { root, parts } = page('plaza-page')
    this.parts = parts
    this.asked = -Infinity
    this.gone = new AbortController()
    this.flow = new Flow(parts.flow, parts.flowtext, 'Flow by vehicle type today')
    this.days = new Days(parts.days, parts.daystext, 'Vehicles since midnight, today and last week')
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
    this.flow.close()
    this.days.close()
  }

  title() { return f.name(this.plaza ?? { id: this.id }) }

  async get(path) {
    const response = await fetch(`/api/v1/plazas/${this.id}${path}`, { signal: this.gone.signal })
    const missing = response.status === 404
    if (!response.ok) throw Object.assign(new Error(missing ? `There is no plaza ${this.id}.` : `The server answers ${response.status}.`), { missing, status: response.status })
    return response.json()
  }

  // update shows the headline, and asks for the history where that is due.
  update() {
    const now = live.plazas.get(this.id)
    const changed = now !== this.seen
    this.seen = now
    this.due ||= changed
    const waited = performance.now() - this.asked
    if (!this.asking && (this.due && waited > FRESH || waited > 6 * FRESH)) this.ask()
    if (now || this.detail) this.head({ ...this.detail, ...now })
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
    this.history()
    if (!this.reading && !this.paged) this.windows()
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
      ['Flow, last 15 min', f.num(p.flow_per_hour), 'veh/h'],
      ['Demand', f.num(p.demand), 'pc/h'],
      ['Capacity', f.num(p.capacity), 'pc/h'],
      ['Demand over capacity', f.full(p.vc), 'v/c'],
      ['Against usual', f.signed(p.z), p.usual ? `z; usual ${f.num(p.usual.median, p.usual.median % 1 ? 1 : 0)} in 15 min` : 'z'],
      ['Heavy vehicles', f.percent(p.heavy_share, 1)],
      ['Peak-hour factor', f.num(p.phf, 2)],
      ['Mean headway', f.num(p.headway_seconds, 1), 's'],
      ['Vehicles in all', f.num(p.total)],
      ['Last event', f.moment(p.last_event, f.date(live.board?.stream_time), f.clock)],
    ])
    facts(parts.late, [
      ['Late', f.num(p.late), 'up to 2 h; in every window, revised'],
      ['Late for minute windows', f.num(p.late_quarter), 'up to 2 d; in windows of whole quarter-hours'],
      ['Too late', f.num(p.too_late), 'in no window; stored and counted all the same'],
      ['Ahead of the clock', f.num(p.ahead), p.ahead ? `by up to ${f.span(p.lead_seconds)}` : ''],
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

  // history shows what comes with the detail alone.
  history() {
    const { parts, detail } = this
    const today = detail.quarters ?? [], before = detail.last_week ?? []
    text(parts.date, today.length ? `${f.weekday(today[0].start)} ${f.date(today[0].start)}` : '')
    this.flow.set(today)
    this.days.set(today, before)
    this.legend(typesOf(today), today)
    this.table()

    const was = detail.day_so_far_last_week
    text(parts.sofar, f.num(detail.day_so_far))
    text(parts.lastweek, was == null ? 'last week is not known' : `${f.num(was)} by this time last ${f.weekday(before[0]?.start) || 'week'}` + (was ? ` (${f.signed((detail.day_so_far / was - 1) * 100)} %)` : ''))

    const day = f.date(detail.last_event)
    const changes = (detail.changes ?? []).map(c => el('li', {},
      icon(f.symbol(c.to)), el('span', {}, el('time', { datetime: c.since }, f.moment(c.since, day)), ' ', el('b', {}, f.word(c.to)), ' ', el('small', {}, `after ${f.word(c.from)}, detected at ${f.moment(c.detected, f.date(c.since))}`), el('br'), c.why)))
    parts.changes.replaceChildren(...changes.length ? changes : [el('li', { class: 'hint' }, 'None yet.')])
  }

  legend(types, today) {
    const entries = types.map((type, i) => el('li', {}, el('i', { class: 'k' + i }), `${typeName(type)} `, el('b', {}, f.num(type[1]))))
    if (today.some(q => q.usual_high != null)) entries.push(el('li', {}, el('i', { class: 'band' }), 'usual, with its band'))
    if (today.some(q => q.capacity)) entries.push(el('li', {}, el('i', { class: 'capacity' }), 'capacity in passenger cars'))
    this.parts.legend.replaceChildren(...entries)
  }

  // table shows the flow chart's figures as a table, where that is open.
  table() {
    const box = this.parts.flowtable
    if (!box.parentNode.open || !this.detail) return
    const quarters = (this.detail.quarters ?? []).filter(sum).reverse(), types = typesOf(quarters)
    const n = value => el('td', { class: 'n' }, value)
    box.replaceChildren(el('table', {},
      el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'From'), ...[...types.map(typeName), 'All', 'Usual', 'Band', 'Capacity'].map(t => el('th', { scope: 'col', class: 'n' }, t)))),
      el('tbody', {}, ...quarters.map(q => el('tr', {}, el('th', { scope: 'row' }, f.minute(q.start)), ...types.map(t => n(f.num(of(q, t)))), n(f.num(sum(q))),
        n(f.num(q.usual_median)), n(q.usual_high == null ? f.unknown : `${f.num(q.usual_low)}–${f.num(q.usual_high)}`), n(f.num(q.capacity)))))))
  }

  // option offers a kind of windows. The first is that of the address, and is chosen.
  option(kind) {
    const { kind: select } = this.parts
    if (!kind || [...select.options].some(o => o.value === kind)) return
    select.append(el('option', { value: kind, selected: select.options.length === 1 && location.search.includes('kind=') }, kind))
  }

  // windows shows the newest closed windows, or with a cursor adds older ones.
  async windows(before) {
    const { parts } = this
    const kind = parts.kind.value
    this.reading = true
    try {
      const query = new URLSearchParams({ limit: 20 })
      if (kind) query.set('kind', kind)
      if (before) query.set('before', before)
      const result = await this.get('/windows?' + query)
      if (kind !== parts.kind.value) return
      const day = f.date(this.plaza?.last_event)
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
      text(parts.windowsaid, parts.windows.children.length ? '' : 'None has closed yet.')
    } catch (error) {
      if (error.status === 400 && kind) { // of an address: none of this kind are counted
        parts.kind.querySelector(':checked').remove()
        parts.kind.dispatchEvent(new Event('change'))
      } else if (error.name !== 'AbortError') text(parts.windowsaid, 'The windows could not be read. ' + error.message)
    } finally { this.reading = false }
  }
}
