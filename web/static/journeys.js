// How long vehicles take from plaza to plaza, and where those of a plaza come from and go to. Asked for again every minute.

import { base, el, text } from './dom.js'
import * as f from './format.js'

const FRESH = 60_000, AGAIN = 5_000 // after a failure
const ROADS = 12, SECTIONS = 6 // at most

// asker returns what is to be called often: it asks for an answer where that is due, and shows it.
function asker(path, gone, show) {
  let due = 0
  return async () => {
    if (performance.now() < due) return
    due = performance.now() + FRESH
    const answer = await fetch(base + 'api/v1/' + path, { signal: gone }).then(r => r.ok && r.json()).catch(() => false)
    answer ? show(answer) : due += AGAIN - FRESH
  }
}

// time writes seconds as 8:10 or 1:02:10.
const time = s => s == null ? f.unknown : new Date(Math.round(s) * 1000).toISOString().slice(11, 19).replace(/^00:0?/, '').replace(/^0(?=\d:\d\d:)/, '')
const span = j => `${f.minute(j.from)} to ${f.minute(j.to)}`
const bar = (share, name = '') => { const i = el('i'); i.style.width = Math.min(100, share * 100) + '%'; return el('span', { class: 'bar ' + name }, i) }
const link = (id, name) => el('a', { href: `${base}plazas/${id}` }, f.name({ id, name }))

// travel shows the sections of each road, the slowest first.
export const travel = (parts, gone) => asker('journeys', gone, j => {
  const roads = [...Map.groupBy(j.sections, s => s.road)], slow = j.sections.filter(s => s.slow).length
  parts.travel.hidden = !roads.length && j.status !== 'not_read'
  text(parts.travelsaid, j.why || `${span(j)}, min:s · ${slow ? f.many(slow, 'slow section') : 'no section is slow'}`)
  parts.ways.replaceChildren(...roads.slice(0, ROADS).map(([road, sections]) => el('table', {},
    el('caption', {}, f.plain(road) || 'From road to road', el('small', {}, sections.length > SECTIONS ? ` ${SECTIONS} of ${f.num(sections.length)} sections` : '')),
    el('thead', { class: 'unseen' }, el('tr', {}, ...['Section', 'Travel time', 'Usual'].map(t => el('th', { scope: 'col' }, t)))),
    el('tbody', {}, ...sections.slice(0, SECTIONS).map(s => el('tr', { class: s.slow ? 'busy' : 'free' },
      el('th', { scope: 'row' }, link(s.from, s.from_name), ' → ', link(s.to, s.to_name), s.usual_seconds ? bar(s.median_seconds / s.usual_seconds / 3, 'usual') : ''),
      el('td', { class: 'n', title: `median of ${f.many(s.vehicles, 'vehicle')}` }, el('b', {}, time(s.median_seconds)), s.slow ? ' slow' : ''),
      el('td', { class: 'n hint' }, s.usual_seconds ? el('span', { title: s.usual_of }, 'usual ' + time(s.usual_seconds)) : '', s.overdue_low ? el('div', { title: 'left longer ago than 1.3 times usual, and not seen here yet' }, f.num(s.overdue_low), ' overdue') : '')))))))
})

// through shows where a plaza's vehicles come from and go to.
export const through = (id, parts, gone) => asker(`plazas/${id}/journeys`, gone, t => {
  parts.through.hidden = t.status !== 'journeys' && t.status !== 'not_read'
  text(parts.throughsaid, t.why || `${f.many(t.vehicles, 'vehicle')}, ${span(t)}`)
  for (const list of ['origins', 'destinations']) {
    parts[list].parentNode.hidden = !t[list].length
    parts[list].replaceChildren(...t[list].map(s => el('li', {}, el('span', {}, s.plaza == null ? 'other plazas' : s.plaza === id ? 'here' : link(s.plaza, s.name)), bar(s.share), el('span', { class: 'n', title: f.many(s.vehicles, 'vehicle') }, f.percent(s.share)))))
  }
})
