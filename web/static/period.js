// Which stretch of time a plaza's charts show, and what it is compared with: a day or a week of the plaza's clock, and
// a part of it. All of it is in the page's address, so it can be passed on, and the way back leads to what was shown before.

import { attr, text } from './dom.js'
import * as f from './format.js'

const DAY = 86_400_000
const aDate = t => /^\d{4}-\d\d-\d\d$/.test(t ?? '') && Date.parse(t) ? t : ''
const aMinute = t => /^\d{4}-\d\d-\d\dT\d\d:\d\d$/.test(t ?? '') ? t : ''
export const plus = (date, days) => new Date(Date.parse(date) + days * DAY).toISOString().slice(0, 10)
const monday = date => plus(date, -((new Date(date).getUTCDay() + 6) % 7))

export class Period {
  constructor(parts, changed) {
    this.parts = parts
    this.changed = changed
    this.today = '' // by the plaza's clock, as soon as that is known
    const on = (name, event, act) => parts[name].addEventListener(event, act)
    on('earlier', 'click', () => this.move(-1))
    on('later', 'click', () => this.move(1))
    on('today', 'click', () => this.go({ date: '', zoom: null, compare: this.compare === 'none' ? 'none' : '' }))
    on('day', 'click', () => this.go({ week: false, zoom: null }))
    on('week', 'click', () => this.go({ week: true, zoom: null }))
    on('date', 'change', () => aDate(parts.date.value) && this.go({ date: parts.date.value === this.today ? '' : parts.date.value, zoom: null }))
    on('compare', 'change', () => {
      const { value } = parts.compare
      this.go({ compare: value === 'day' ? plus(this.start, -1) : value === 'other' ? this.before : value })
      if (value === 'other') parts.other.focus()
    })
    on('other', 'change', () => aDate(parts.other.value) && this.go({ compare: parts.other.value }))
    on('whole', 'click', () => this.go({ zoom: null }))
    this.fromAddress()
  }

  get start() { const date = this.date || this.today; return date && this.week ? monday(date) : date }
  get end() { return this.start && plus(this.start, this.week ? 7 : 1) }
  get before() { return this.compare === 'none' ? '' : !this.compare ? plus(this.start, -7) : this.week ? monday(this.compare) : this.compare }
  get beforeEnd() { return plus(this.before, this.week ? 7 : 1) }
  // usual is the page as it opens: today so far, compared with a week before.
  get usual() { return !this.week && this.start === this.today && !this.compare }
  get live() { return this.start <= this.today && this.today < this.end }
  // range limits lists, in the words of the API; the page as it opens lists the newest of all.
  get range() {
    const [from, to] = this.zoom ?? (!this.start || this.live && !this.week ? [] : [this.start, this.end])
    return from ? { from, to } : {}
  }

  fromAddress() {
    const query = new URLSearchParams(location.search), compare = query.get('compare')
    const from = aMinute(query.get('from')), to = aMinute(query.get('to'))
    this.date = aDate(query.get('date'))
    this.week = query.get('span') === 'week'
    this.compare = compare === 'none' ? compare : aDate(compare)
    this.zoom = from && to && from < to ? [from, to] : null
    this.show()
  }

  go(change) {
    Object.assign(this, change)
    const at = new URL(location.href)
    for (const [name, value] of [['date', this.date], ['span', this.week && 'week'], ['compare', this.compare], ['from', this.zoom?.[0]], ['to', this.zoom?.[1]]]) {
      value ? at.searchParams.set(name, value) : at.searchParams.delete(name)
    }
    history.replaceState({ scroll: scrollY }, '')
    history.pushState({}, '', at.pathname + at.search.replaceAll('%3A', ':'))
    this.show()
    this.changed()
  }

  move(steps) {
    const days = steps * (this.week ? 7 : 1), date = plus(this.start, days)
    this.go({ date: date === this.today && !this.week ? '' : date, zoom: null, compare: aDate(this.compare) ? plus(this.compare, days) : this.compare })
  }

  begin(today) {
    if (today === this.today) return
    this.today = today
    this.show()
  }

  show() {
    const { parts } = this
    if (!this.today && !this.date) return
    parts.date.value = this.date || this.today
    parts.date.max = parts.other.max = this.today
    parts.later.disabled = this.end > this.today
    parts.today.disabled = this.live && !this.zoom && !this.week
    attr(parts.day, 'aria-pressed', !this.week)
    attr(parts.week, 'aria-pressed', this.week)
    attr(parts.earlier, 'aria-label', this.week ? 'previous week' : 'previous day')
    attr(parts.later, 'aria-label', this.week ? 'next week' : 'next day')
    parts.compare.options[1].hidden = this.week
    parts.compare.value = this.compare === 'none' || !this.compare ? this.compare : this.compare === plus(this.start, -1) && !this.week ? 'day' : 'other'
    parts.other.value = this.before
    parts.other.hidden = !this.before
    parts.whole.hidden = !this.zoom
    text(parts.zoomed, this.zoom ? `${f.moment(this.zoom[0], this.start)} to ${f.moment(this.zoom[1], this.zoom[0].slice(0, 10))}` : '')
  }

  get name() { return this.called(this.start) }
  get beforeName() { return this.called(this.before) }
  called(start) { return this.week ? `week of ${f.day(start)}` : f.day(start) }
}
