// The page of all plazas: the network in figures, the roads, the table.

import { base, el, icon, text, attr, page } from './dom.js'
import * as f from './format.js'
import { live } from './live.js'
import { Table, columns, order } from './table.js'
import { Roads } from './roads.js'
import { travel } from './journeys.js'

export class Overview {
  constructor(main) {
    const { root, parts } = page('overview-page')
    this.parts = parts
    this.fromAddress()
    this.tiles = new Map(f.states.map(state => {
      const count = el('b')
      const share = el('span', { class: 'share' }, el('i'))
      const tile = el('button', { type: 'button', class: 'tile ' + state, 'aria-pressed': 'false', click: () => this.pick(state) },
        icon(state), el('span', { class: 'word' }, f.word(state)), count, share)
      root.querySelector('.tiles').append(tile)
      return [state, { tile, count, bar: share.firstChild }]
    }))
    this.roads = new Roads(root.querySelector('.roads'), parts)
    this.gone = new AbortController()
    this.travel = travel(parts, this.gone.signal)
    this.table = new Table(root.querySelector('.list table'), key => this.sort(key))
    for (const c of columns) {
      if (c.by) for (const down of [c.down, !c.down]) parts.sort.append(el('option', { value: key(c.key, down) }, `${c.title}, ${down ? 'descending' : 'ascending'}`))
    }
    parts.sort.addEventListener('change', () => { [this.key, this.down] = unkey(parts.sort.value); this.again() })
    parts.q.addEventListener('input', () => { this.q = parts.q.value; this.again() })
    parts.clear.addEventListener('click', () => { this.q = parts.q.value = ''; this.states.clear(); this.again(); parts.q.focus() })
    parts.q.value = this.q

    // Rows that jump from under the pointer can't be read, nor pressed: the order waits while someone is in the table.
    const list = root.querySelector('.list table')
    this.holds = new Set()
    const hold = (reason, on) => { this.holds[on ? 'add' : 'delete'](reason); if (!this.holds.size) this.update() }
    list.tBodies[0].addEventListener('pointerenter', event => event.pointerType === 'mouse' && hold('pointer', true))
    list.tBodies[0].addEventListener('pointerleave', () => hold('pointer', false))
    list.tBodies[0].addEventListener('focusin', () => hold('focus', true))
    list.tBodies[0].addEventListener('focusout', () => setTimeout(() => hold('focus', list.tBodies[0].contains(document.activeElement))))

    main.replaceChildren(root)
    this.again()
  }

  close() {
    this.closed = true
    this.gone.abort()
    this.table.close()
    this.roads.close()
  }

  title() {
    const n = state => live.board?.summary?.states?.[state] ?? 0
    return n('saturated') ? `${f.num(n('saturated'))} saturated` : 'All plazas'
  }

  // fromAddress reads sort and filter from the page's address, toAddress writes them there and into the link to the CSV.
  fromAddress() {
    const query = new URLSearchParams(location.search)
    this.q = query.get('q') ?? ''
    this.states = new Set((query.get('state') ?? '').split(',').filter(s => f.states.includes(s)))
    const column = columns.find(c => c.by && c.key === query.get('sort')) ?? columns[0]
    this.key = column.key
    this.down = query.has('order') ? query.get('order') === 'desc' : !!column.down
  }

  toAddress() {
    const query = new URLSearchParams()
    if (this.q.trim()) query.set('q', this.q.trim())
    if (this.states.size) query.set('state', [...this.states].join(','))
    const filter = query.toString()
    query.set('sort', this.key)
    query.set('order', this.down ? 'desc' : 'asc')
    attr(this.parts.csv, 'href', base + 'api/v1/plazas.csv?' + query)
    const plain = this.key === columns[0].key && this.down
    history.replaceState(history.state, '', base + (plain ? filter && '?' + filter : '?' + query))
  }

  sort(key) {
    const column = columns.find(c => c.key === key)
    this.down = this.key === key ? !this.down : !!column.down
    this.key = key
    this.again()
  }

  pick(state) {
    if (!this.states.delete(state)) this.states.add(state)
    this.again()
  }

  // again shows everything after another order or filter was asked for, which never waits.
  again() {
    this.toAddress()
    this.table.sorted(this.key, this.down)
    this.parts.sort.value = key(this.key, this.down)
    for (const [state, { tile }] of this.tiles) attr(tile, 'aria-pressed', this.states.has(state))
    this.update(true)
  }

  update(asked) {
    const { board, plazas } = live
    if (!board || this.closed) return
    const { parts } = this
    const { summary = {}, verification: v } = board
    for (const [state, { tile, count, bar }] of this.tiles) {
      const n = summary.states?.[state] ?? 0
      text(count, f.num(n))
      tile.hidden = !n && state.endsWith('_up') && !this.states.has(state) // rare ones
      bar.style.width = (summary.plazas ? n / summary.plazas * 100 : 0) + '%'
    }
    text(parts.flow, f.num(summary.flow_per_hour))
    text(parts.plazas, f.num(summary.plazas))
    text(parts.events, f.num(v?.events))
    text(parts.rows, f.num(v?.rows))
    const open = board.open_transactions ?? []
    text(parts.waiting, [
      board.waiting > 0 && 'lag ' + f.num(board.waiting),
      open.length > 0 && f.num(open.length) + (open.length > 1 ? ' open transactions' : ' open transaction'),
      board.recent_rejects?.high && f.num(board.recent_rejects.rejected) + ' of the last ' + f.num(board.recent_rejects.records) + ' rejected',
    ].filter(Boolean).join(', '))
    attr(parts.waiting, 'title', ['lag: records of the topic that are not stored yet', ...open.map(t =>
      `partition ${t.partition} is blocked at offset ${f.num(t.offset)} by a producer’s open transaction since ${f.clock(t.since)}`)].join('; '))
    text(parts.warnings, board.warnings?.length ? 'Warning: ' + board.warnings.join('; ') + '.' : '')
    parts.warnings.hidden = !board.warnings?.length
    text(parts.watermark, f.moment(board.watermark, f.date(board.stream_time), f.clock))
    this.roads.update(plazas)
    this.travel()

    const wanted = this.q.toLowerCase().split(/\s+/).filter(Boolean)
    const matches = p => (!this.states.size || this.states.has(p.state)) &&
      (!wanted.length || (t => wanted.every(w => t.includes(w)))(`${p.id} ${p.name ?? ''} ${p.road ?? ''}`.toLowerCase()))
    const shown = [...plazas.values()].filter(matches)
    const held = !asked && this.holds.size > 0
    if (held) { // as they were, those that are new at the end
      const at = new Map(this.table.plazas.map((p, i) => [p.id, i]))
      shown.sort((p, q) => (at.get(p.id) ?? Infinity) - (at.get(q.id) ?? Infinity) || 0)
    } else shown.sort(order(this.key, this.down))
    this.table.update(shown, f.date(board.stream_time))
    parts.held.hidden = !held
    parts.empty.hidden = shown.length > 0 || !plazas.size
    text(parts.shown, shown.length === plazas.size ? f.many(plazas.size, 'plaza') : `${f.num(shown.length)} of ${f.many(plazas.size, 'plaza')}`)
  }
}

const key = (name, down) => name + (down ? '-' : '+')
const unkey = value => [value.slice(0, -1), value.endsWith('-')]
