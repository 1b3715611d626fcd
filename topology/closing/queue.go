package closing

import "github.com/tollstream/tollstream/toll"

// maxStore and maxStoreWeight bound what is stored in one transaction: plazas, and about how
// many windows.
const (
	maxStore       = 200
	maxStoreWeight = 10_000
)

// maxWaitingWeight bounds what waits: about how many windows, of some 250 bytes each.
const maxWaitingWeight = 5 * maxStoreWeight

// submission is a closing with where it came from.
type submission struct {
	session int
	closing toll.Closing
	weight  int // about how many windows it is
}

// queue holds the submissions that are not being stored yet.
type queue struct {
	waiting []submission
	weight  int // of all that wait
}

// full reports whether no more is to be submitted, and roomy whether it is worth a visit to submit
// more.
func (q *queue) full() bool  { return q.weight >= maxWaitingWeight }
func (q *queue) roomy() bool { return q.weight < maxWaitingWeight/2 }

func (q *queue) add(s submission) {
	q.waiting = append(q.waiting, s)
	q.weight += s.weight
}

// take takes what is stored in one transaction.
func (q *queue) take() []submission {
	n, weight := 0, 0
	for n < min(len(q.waiting), maxStore) && (n == 0 || weight < maxStoreWeight) {
		weight += q.waiting[n].weight
		n++
	}
	taken := q.waiting[:n:n]
	q.waiting, q.weight = q.waiting[n:], q.weight-weight
	return taken
}
