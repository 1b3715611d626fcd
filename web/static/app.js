// The frame around the pages: which one is shown, the verdict, how old the figures are, the theme.

import { base, el, text, attr, show, missing, stored, store } from './dom.js'
import * as f from './format.js'
import { live, listen, connect, age, stale } from './live.js'
import { Overview } from './overview.js'
import { PlazaPage } from './plaza.js'
import { Incidents } from './incidents.js'

// The wall display is loaded where it is wanted alone.
const Kiosk = new URLSearchParams(location.search).has('kiosk') ? (await import('./kiosk.js')).Kiosk : null

const at = id => document.getElementById(id)
const main = at('main')
let shown = null // the page

const path = address => address?.startsWith(base) ? address.slice(base.length) : null

function go(scroll) {
  shown?.close()
  shown = null
  const [, id] = /^plazas\/([^/]+)\/?$/.exec(path(location.pathname)) ?? []
  const plaza = /^(0|-?[1-9]\d{0,4})$/.test(id) && id >= -32768 && id <= 32767
  main.className = plaza ? 'one' : 'all'
  if (plaza) shown = new PlazaPage(main, +id)
  else if (id) missing(main, `There is no plaza ${decoded(id)}.`, `A plaza has a number, as in ${base}plazas/4856.`)
  else if (path(location.pathname) === 'incidents') shown = new Incidents(main)
  else if (location.pathname === base) live.board ? shown = new (Kiosk ?? Overview)(main) : main.replaceChildren(el('p', { class: 'waiting' }, 'Waiting for the first figures …'))
  else missing(main, 'There is no such page.')
  head()
  scrollTo(0, scroll ?? 0)
}

const decoded = part => { try { return f.plain(decodeURIComponent(part)) } catch { return part } }

// Links within the page don't load it again. Where one was, and how it was sorted, is there again on the way back.
history.scrollRestoration = 'manual'
let overview = base // the address of the overview as it was left
document.addEventListener('click', event => {
  const link = event.target.closest?.('a')
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return
  const href = link.getAttribute('href')
  if (!/^(plazas\/-?\d+|incidents)?$/.test(path(href))) return
  event.preventDefault()
  history.replaceState({ scroll: scrollY }, '')
  if (location.pathname === base) overview = location.pathname + location.search
  history.pushState({}, '', link.matches('.back') ? overview : href)
  go()
  ;(main.querySelector('h1[tabindex]') ?? main).focus({ preventScroll: true })
})
addEventListener('popstate', event => shown?.back?.() ? head() : go(event.state?.scroll))
addEventListener('pagehide', () => history.replaceState({ scroll: scrollY }, ''))

document.addEventListener('keydown', event => {
  const field = event.target.closest?.('input, select, textarea')
  if (event.key === '/' && !field && main.querySelector('[type=search]')) {
    event.preventDefault()
    main.querySelector('[type=search]').focus()
  } else if (event.key === 'Escape' && field?.type === 'search') {
    field.value = ''
    field.dispatchEvent(new Event('input'))
  }
})

let said = ''
function head() {
  const v = live.board?.verification
  const [name, words] = f.verdict(v)
  const verdict = at('verdict')
  attr(verdict, 'class', 'verdict ' + name)
  show(verdict.firstElementChild, name)
  text(verdict.querySelector('strong'), words)
  const wrong = at('mismatch')
  if (name === 'mismatch') {
    const doubtful = [...live.plazas.values()].filter(p => p.verification?.status === 'mismatch')
    const parts = JSON.stringify([v.problems, v.next, doubtful.map(p => p.id)])
    if (wrong.shownParts !== parts) {
      wrong.shownParts = parts
      wrong.replaceChildren(el('h2', {}, '⚠ Mismatch: figures and stored rows disagree'),
        el('ul', {}, ...v.problems.slice(0, 5).map(problem => el('li', {}, problem)), v.problems.length > 5 ? el('li', {}, `and ${f.num(v.problems.length - 5)} more, which tollstream verify lists`) : ''),
        ...(v.next ?? []).map(step => el('p', {}, 'What to do: ', step)),
        doubtful.length ? el('p', {}, 'Plazas: ', ...doubtful.slice(0, 12).flatMap((p, i) => [i ? ', ' : '', el('a', { href: base + 'plazas/' + p.id }, f.name(p))]), doubtful.length > 12 ? ` and ${f.num(doubtful.length - 12)} more` : '') : '')
    }
  }
  wrong.hidden = name !== 'mismatch'
  notices(live.board?.notices ?? [])
  if (said === 'mismatch' && name !== said) text(at('said'), 'The mismatch is gone: ' + words)
  said = name
  const title = shown?.title() ?? 'tollstream'
  document.title = (name === 'mismatch' ? '⚠ MISMATCH · ' : '') + (stale() ? '(stale) ' : '') + (title === 'tollstream' ? title : title + ' · tollstream')
}

// notices shows what to know before the figures are trusted, those first that say that they are not of now.
function notices(all) {
  const section = at('notices'), sorted = [...all].sort((a, b) => b.severe - a.severe)
  section.hidden = !sorted.length || stale()
  attr(section, 'class', 'alarm ' + (sorted[0]?.severe ? 'severe' : 'mild'))
  while (section.children.length > sorted.length) section.lastChild.remove()
  sorted.forEach((n, i) => text(section.children[i] ?? section.appendChild(el('h2')), n.text[0].toUpperCase() + n.text.slice(1)))
}

function tick() {
  const old = stale(), board = live.board
  const fresh = at('fresh'), notice = at('stale')
  attr(fresh, 'class', 'fresh ' + (old ? 'old' : board && live.connected ? 'on' : 'off'))
  text(fresh.lastElementChild, !board ? (live.refused ? `refused: ${live.refused}` : 'connecting …') : old || !live.connected || board.feed?.age_seconds == null
    ? `${old ? 'STALE: ' : live.connected ? '' : 'reconnecting, '}last update ${f.span(age())} ago` : `newest event ${f.span(board.feed.age_seconds + age())} ago`)
  attr(fresh, 'title', board?.feed?.arrived_at ? `the newest event arrived at ${f.clock(board.feed.arrived_at)} ${f.zone(board.timezone, board.feed.arrived_at)}; last update ${f.span(age())} ago` : null)
  const clock = at('clock'), now = board?.stream_time
  clock.hidden = !now
  text(clock.children[1], now ? f.day(now) + ', ' + f.minute(now) : f.unknown)
  text(clock.lastElementChild, now ? `${f.zone(board.timezone, now)} · ${f.behind((Date.parse(board.at) - Date.parse(now)) / 1000 + age())}` : '')
  const v = board?.verification
  const checked = v?.checked_at ? (Date.parse(board.at) - Date.parse(v.checked_at)) / 1000 + age() : null
  text(at('verdict').lastElementChild, checked == null ? '' : `checked ${f.span(checked)} ago`)
  attr(at('verdict'), 'title', v?.checked_at ? `checked at ${f.clock(v.checked_at)} ${f.zone(board.timezone, v.checked_at)}` : null)
  if (old === notice.hidden) {
    notice.hidden = !old
    document.body.classList.toggle('stale', old)
    head()
    if (!old) text(at('said'), 'Live again')
  }
  if (old) text(notice.firstElementChild ?? notice.appendChild(el('h2')), `Not live: these figures are as of ${f.clock(board.at)} ${f.zone(board.timezone, board.at)}. ` +
    (live.refused ? `The server refuses (${live.refused}).` : live.connected ? (live.outage ? `${live.outage} does not answer the view.` : 'The server has nothing newer.') : 'Trying to reconnect.'))
}
setInterval(tick, 1000)

// What sticks below the header has to know how high it is, with the alarms in it.
new ResizeObserver(() => document.documentElement.style.setProperty('--head', at('above').offsetHeight + 'px')).observe(at('above'))

listen(seen => {
  if (!shown && location.pathname === base) go()
  if (seen) shown?.update()
  head()
  tick()
})

const themes = ['', 'light', 'dark']
function theme(name) {
  if (name) document.documentElement.dataset.theme = name
  else delete document.documentElement.dataset.theme
  text(at('theme'), 'Theme: ' + (name || 'auto'))
}
theme(themes.includes(stored('theme')) ? stored('theme') : '')
at('theme').addEventListener('click', () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? '') + 1) % themes.length]
  store('theme', next)
  theme(next)
})

go(history.state?.scroll)
connect()
