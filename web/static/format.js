// Writes numbers and times. An unknown value is a dash.
//
// Times come as RFC 3339 on the clock of their plaza, so the clock is read off the text: no conversion can go wrong.

const formats = [0, 1, 2].map(n => new Intl.NumberFormat('en', { maximumFractionDigits: n, minimumFractionDigits: n }))

export const unknown = '–'
export const num = (x, decimals = 0) => x == null ? unknown : formats[decimals].format(x).replace('-', '−')
export const signed = (x, decimals = 1) => x == null ? unknown : (x > 0 ? '+' : '') + num(x, decimals).replace(/^−(0(\.0*)?)$/, '$1')
export const percent = (share, decimals = 0) => share == null ? unknown : num(share * 100, decimals) + ' %'
// full is a share of capacity, rounded down: 99.8 % is not full.
export const full = vc => vc == null ? unknown : num(Math.floor(vc * 100 + 1e-9)) + ' %'

export const date = t => t ? t.slice(0, 10) : unknown
export const clock = t => t ? t.slice(11, 19) : unknown
export const minute = t => t ? t.slice(11, 16) : unknown
export const zone = (name, t) => name || (t ? t.slice(19).replace(/^\.\d+/, '').replace('Z', 'UTC') : '')
export const moment = (t, day, of = minute) => !t ? unknown : (date(t) === day ? '' : `${+t.slice(8, 10)} ${months[t.slice(5, 7) - 1]}${t.slice(0, 4) === day?.slice(0, 4) ? '' : ' ' + t.slice(0, 4)}, `) + of(t)
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'June', 'July', 'Aug', 'Sept', 'Oct', 'Nov', 'Dec']

export const day = t => t ? `${weekday(t).slice(0, 3)} ${+t.slice(8, 10)} ${months[t.slice(5, 7) - 1]} ${t.slice(0, 4)}` : unknown
// behind writes how far event time, which is a minute, is behind the wall clock.
export const behind = seconds => seconds <= -60 ? `${span(-seconds)} ahead of the clock` : `${seconds < 60 ? '0 min' : span(seconds - seconds % 60)} behind the clock`

const weekdays = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
export const weekday = t => t ? weekdays[new Date(date(t) + 'T00:00Z').getUTCDay()] : ''

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds))
  if (s < 60) return s + ' s'
  const m = Math.floor(s / 60)
  if (m < 60) return m + ' min'
  const h = Math.floor(m / 60)
  if (h < 24) return h + ' h' + (m % 60 ? ` ${m % 60} min` : '')
  return num(Math.floor(h / 24)) + ' d' + (h % 24 ? ` ${h % 24} h` : '')
}

export const many = (n, one, more = one + 's') => `${num(n)} ${n === 1 ? one : more}`

export const states = ['saturated', 'below_usual', 'above_usual', 'busy', 'no_data', 'catching_up', 'warming_up', 'free']
export const stateWords = { saturated: 'saturated', below_usual: 'below usual', above_usual: 'above usual', busy: 'busy', no_data: 'no data', catching_up: 'catching up', warming_up: 'warming up', free: 'free' }
export const word = state => stateWords[state] ?? String(state)
export const symbol = state => state in stateWords ? state : 'no_data'
// plain leaves out what turns the direction of the text around it.
export const plain = s => s.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '')
export const name = p => plain(p.name ?? '') || 'Plaza ' + p.id
export const place = p => [plain(p.road ?? ''), p.position_km == null ? '' : `km ${num(p.position_km, p.position_km % 1 ? 1 : 0)}`].filter(Boolean).join(' ')

export function verdict(v) {
  switch (v?.status) {
    case 'exact': return ['exact', 'exact']
    case 'in_flight': return ['in_flight', num(v.in_flight) + ' in flight']
    case 'not_verified': return ['not_verified', 'not verified: rows not read']
    case 'mismatch': return ['mismatch', 'MISMATCH']
  }
  return ['unknown', 'not checked yet']
}
