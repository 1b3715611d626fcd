// Keeps the board: the last figures of all plazas. Server-sent events bring all of it once, then the changes.

import { base } from './dom.js'

// now is by two clocks: one stops while the machine sleeps, the other may be set back.
function now(secondsAgo = 0) { return [performance.now() - secondsAgo * 1000, Date.now() - secondsAgo * 1000] }
const since = then => Math.max(...now().map((t, i) => t - then[i])) / 1000

export const live = {
  board: null, // without its plazas
  plazas: new Map(), // by id
  news: now(), // when the board's time last moved; the clocks of server and browser need not agree
  connected: false,
  outage: '', // the server that does not answer the view
  refused: '', // why the server refuses
}

const listeners = new Set()
export function listen(f) {
  listeners.add(f)
  return () => listeners.delete(f)
}

export const age = () => since(live.news)

// A board is read about once a second. Ten seconds without one is an outage, and nothing that a busy database explains.
export const STALE_SECONDS = 10
export const stale = () => live.board !== null && age() >= STALE_SECONDS

// apply merges a board: the whole one, or the plazas that have changed with the members that have.
export function apply({ plazas, ...board }, whole) {
  const before = live.plazas
  if (whole) live.plazas = new Map()
  for (const { sparkline_last: last, ...change } of plazas) {
    const had = before.get(change.id)
    if (last !== undefined && had) change.sparkline = [...had.sparkline.slice(0, -1), last]
    live.plazas.set(change.id, whole ? change : { ...had, ...change })
  }
  if (live.board?.at !== board.at) live.news = now()
  live.board = { ...live.board, ...board }
  notify()
}

// Listeners are called once a frame, or at once while the page is hidden, with whether it is visible.
let frame = 0
function notify() {
  cancelAnimationFrame(frame)
  const call = () => { for (const f of listeners) f(!document.hidden) }
  if (document.hidden) call()
  else frame = requestAnimationFrame(call)
}

let source, timer, hidden, failures = 0, heard = now()

// connect opens the stream. If it breaks, the browser reconnects by itself, and the server resumes after the last event
// received.
export function connect() {
  clearTimeout(timer)
  source?.close()
  heard = now()
  source = new EventSource(base + 'api/v1/events')
  const on = (type, f) => source.addEventListener(type, event => {
    heard = now()
    failures = 0
    live.connected = true
    live.refused = ''
    f(JSON.parse(event.data))
  })
  on('board', board => apply(board, board.full))
  on('status', status => { // the server itself gets nothing newer
    live.outage = status.outage
    if (status.age_seconds != null) live.news = now(status.age_seconds)
    notify()
  })
  source.addEventListener('error', () => {
    live.connected = false
    if (source.readyState === EventSource.CLOSED) again()
    notify()
  })
}

// again requests the board over plain HTTP, which also shows why the stream is refused, and reconnects with backoff and
// jitter: after 1 s, 2 s, at most 10 s. If a proxy holds back the stream, this keeps the page live.
function again() {
  source.close()
  clearTimeout(timer)
  timer = setTimeout(async () => {
    try {
      const response = await fetch(base + 'api/v1/plazas', { signal: AbortSignal.timeout(8000) })
      live.refused = response.ok ? '' : response.status === 401 ? 'this browser has no token, or an old one' : `error ${response.status}`
      if (response.ok) apply(await response.json(), true)
    } catch { /* unavailable, which the page shows already */ }
    connect()
  }, Math.min(10, 2 ** failures++) * (800 + Math.random() * 400))
}

// A connection may be dead without an error.
setInterval(() => { if (since(heard) > 20 && source.readyState !== EventSource.CLOSED) again() }, 1000)
addEventListener('online', connect)

// A browser has six connections to a server without TLS, so hidden tabs close theirs after a while.
document.addEventListener('visibilitychange', () => {
  clearTimeout(hidden)
  if (document.hidden) hidden = setTimeout(() => source.close(), 300_000)
  else if (source.readyState === EventSource.CLOSED) connect()
  notify()
})
