// The page of the incidents of all plazas, the newest first. It is asked for again every ten seconds while its first page is shown.

import { base, el, icon, text, page } from './dom.js'
import * as f from './format.js'
import { live } from './live.js'

const FRESH = 10_000
const choices = ['open', 'state', 'plaza', 'road', 'from', 'to'] // what the address may select

// days returns the date so many days after another, as date inputs have it; empty for none.
const days = (date, n) => Date.parse(date) ? new Date(Date.parse(date.slice(0, 10)) + n * 864e5).toISOString().slice(0, 10) : ''

export class Incidents {
  constructor(main) {
    const { root, parts } = page('incidents-page')
    this.parts = parts
    this.gone = new AbortController()
    this.asked = -Infinity
    this.query = new URLSearchParams([...new URLSearchParams(location.search)].filter(([name]) => choices.includes(name)))
    parts.open.checked = this.query.get('open') === 'true'
    parts.state.append(...f.states.filter(s => s !== 'free' && !['no_data', 'catching_up', 'warming_up'].includes(s)).map(s => el('option', { value: s }, f.word(s))))
    parts.state.value = this.query.get('state') ?? ''
    parts.open.addEventListener('change', () => this.choose('open', parts.open.checked ? 'true' : ''))
    for (const name of ['state', 'road', 'plaza', 'from', 'to']) {
      parts[name].addEventListener('change', () => parts[name].validity.valid && this.choose(name, name === 'to' ? days(parts.to.value, 1) : parts[name].value))
    }
    parts.plaza.value = this.query.get('plaza') ?? ''
    parts.from.value = days(this.query.get('from'), 0)
    parts.to.value = days(this.query.get('to'), -1) // the last day that is shown
    parts.older.addEventListener('click', () => this.ask(this.next))
    parts.form.addEventListener('submit', event => {
      event.preventDefault()
      if (event.submitter?.value === 'cancel') parts.dialog.close()
      else this.send()
    })
    main.replaceChildren(root)
    this.links()
    this.roads()
    this.ask()
  }

  close() { this.gone.abort() }
  title() { return 'Incidents' }

  choose(name, value) {
    value ? this.query.set(name, value) : this.query.delete(name)
    history.replaceState(history.state, '', base + 'incidents' + (this.query.size ? '?' + this.query : ''))
    this.links()
    this.ask()
  }

  links() {
    const query = this.query.size ? '?' + this.query : ''
    this.parts.csv.href = base + 'api/v1/incidents.csv' + query
    this.parts.atom.href = base + 'incidents.atom' + query
  }

  roads() {
    const { road } = this.parts
    const names = new Set([this.query.get('road'), ...[...live.plazas.values()].map(p => p.road)].filter(Boolean))
    if (names.size < road.length) return
    road.replaceChildren(road.firstChild, ...[...names].sort().map(name => el('option', { value: name }, f.plain(name))))
    road.value = this.query.get('road') ?? ''
  }

  update() {
    this.roads()
    if (!this.paged && !this.parts.dialog.open && performance.now() - this.asked > FRESH) this.ask()
  }

  async ask(before) {
    this.asked = performance.now()
    const query = new URLSearchParams(this.query)
    if (before) query.set('before', before)
    const asked = String(this.query)
    try {
      const response = await fetch(base + 'api/v1/incidents?' + query, { signal: this.gone.signal })
      const answer = await response.json()
      if (!response.ok) throw new Error(answer.detail ?? `The server answers ${response.status}.`)
      if (asked !== String(this.query)) return
      const shown = JSON.stringify(answer)
      if (!before && shown === this.shown) return
      this.shown = before ? null : shown
      const rows = answer.incidents.map(i => this.row(i, answer.can_acknowledge))
      before ? this.parts.rows.append(...rows) : this.parts.rows.replaceChildren(...rows)
      this.paged = !!before
      this.next = answer.next
      this.parts.older.hidden = !answer.next
      text(this.parts.said, this.parts.rows.children.length ? '' : this.query.size ? 'No incident matches.' : 'No incident yet.')
    } catch (error) {
      if (error.name !== 'AbortError') text(this.parts.said, 'The incidents could not be read. ' + error.message)
    }
  }

  row(i, can) {
    const today = f.date(live.board?.stream_time)
    const took = i.ended ? (Date.parse(i.ended) - Date.parse(i.began)) / 1000 : null
    const path = i.states.length > 1 ? ` (${i.states.map(f.word).join(' → ')})` : ''
    const taken = i.notes.findLast(n => n.acknowledged)
    return el('tr', { class: i.ended ? 'past' : 'open' },
      el('th', { scope: 'row' }, el('time', { datetime: i.began }, f.moment(i.began, today))),
      el('td', {}, icon(f.symbol(i.state)), ' ', el('b', {}, f.word(i.state)), el('small', {}, path)),
      el('td', {}, el('a', { href: base + 'plazas/' + i.plaza }, f.name({ id: i.plaza, name: i.name })), ' ', el('small', {}, [i.name ? i.plaza : '', f.plain(i.road)].filter(Boolean).join(' · '))),
      el('td', { class: 'n' }, took == null ? el('b', {}, 'open') : f.span(took)),
      el('td', { class: 'n', title: `${i.state === 'below_usual' ? 'lowest' : 'highest'} flow of a quarter of an hour, at ${f.minute(i.peak_at)}` }, f.num(i.peak_flow_per_hour)),
      el('td', { class: 'why' }, i.why, ...i.notes.filter(n => n.note).map(n => el('p', { class: 'note' }, `${f.plain(n.author)}: ${f.plain(n.note)}`)), i.notified === 'given_up' ? el('p', { class: 'note' }, 'A notification was given up.') : ''),
      el('td', {}, taken ? f.plain(taken.author) + ' ' : '', can ? el('button', { class: 'plain', type: 'button', 'aria-label': `${taken ? 'Add a note' : 'Acknowledge'}: ${f.name({ id: i.plaza, name: i.name })}`, click: () => this.open(i) }, taken ? 'Add a note' : 'Acknowledge') : taken ? '' : f.unknown))
  }

  open(i) {
    const { parts } = this
    this.incident = i
    text(parts.which, `${f.name({ id: i.plaza, name: i.name })}: ${f.word(i.state)} since ${f.date(i.began)} ${f.minute(i.began)}`)
    text(parts.refused, '')
    parts.note.value = ''
    try { parts.token.value ||= sessionStorage.getItem('ack-token') ?? '' } catch { /* nothing to keep it in */ }
    parts.dialog.showModal()
  }

  // send acknowledges an incident. The token stays in this tab.
  async send() {
    const { parts } = this
    try {
      const response = await fetch(`${base}api/v1/incidents/${this.incident.id}/notes`, {
        method: 'POST', signal: this.gone.signal,
        headers: { 'Authorization': 'Bearer ' + parts.token.value.trim(), 'Content-Type': 'application/json' },
        body: JSON.stringify({ acknowledged: true, note: parts.note.value }),
      })
      if (response.status === 401) throw new Error('This is not a token of somebody who may acknowledge.')
      if (!response.ok) throw new Error((await response.json()).detail)
      try { sessionStorage.setItem('ack-token', parts.token.value.trim()) } catch { /* nothing to keep it in */ }
      parts.dialog.close()
      setTimeout(() => this.ask(), 1100) // the server reuses an answer for a second
    } catch (error) {
      if (error.name !== 'AbortError') text(parts.refused, error.message)
    }
  }
}
