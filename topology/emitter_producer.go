package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"tollstream/codecs"
	"tollstream/toll"
)

const (
	// maxBatchBytes bounds the records of one request, uncompressed. It lies well below the 1 MiB that brokers take by
	// default.
	maxBatchBytes = 512 << 10
	// maxBufferedBytes bounds what is on its way. Beyond it emitting waits.
	maxBufferedBytes = 8 << 20
	// batchLinger is how long a record waits for company.
	batchLinger = 10 * time.Millisecond
	// recordOverhead is the most that a record's lengths, timestamp and offset take.
	recordOverhead = 24
	// awayAfter is how long sending must fail before it is worth a word: a change of leaders passes unmentioned.
	awayAfter = time.Second
	// slowAfter is how long a broker may think before it is worth a word.
	slowAfter = 3 * time.Second
	// unknownTopicPatience is how long a topic may be unknown, as while its creation spreads, before it counts as gone.
	unknownTopicPatience = 15 * time.Second
	// abortGrace is how long giving up may take.
	abortGrace = time.Second
	// produceTimeout is how long the broker may wait for its replicas.
	produceTimeout = 10 * time.Second
)

// errGivenUp is what batches end with that were not acknowledged in time. They may or may not be in the topic.
var errGivenUp = errors.New("not acknowledged in time")

// errSlow is what OnAway hears of a broker that takes connections and doesn't answer.
var errSlow = errors.New("no answer")

// batchProducer is the goka.Producer under the emitter: idempotent, in order per partition, by whole batches.
//
// sarama's AsyncProducer passes every record through five channels, which is most of what sending one costs, and fails
// records when brokers are away for some seconds. So we group the records ourselves and send each batch with sarama's
// client, numbered for the broker's duplicate check: a partition has one batch on its way, which is sent again, the
// same bytes with the same number, until the broker answers. Payloads are copied, so callers may use theirs again.
//
// All records of a batch share one promise, since they meet the same fate.
type batchProducer struct {
	cfg       EmitterConfig
	client    sarama.Client
	id        int64 // producer id and epoch, for the broker's duplicate check
	epoch     int16
	headers   []*sarama.RecordHeader
	queues    []*partitionQueue
	ctx       context.Context // ends when what is left is given up
	cancel    context.CancelFunc
	senders   sync.WaitGroup
	closeOnce sync.Once
	closeErr  error

	buffered     atomic.Int64 // bytes
	emitted      atomic.Int64
	acknowledged atomic.Int64
	failed       atomic.Int64
	isBroken     atomic.Bool // broken is set

	mu       sync.Mutex
	places   map[string]place
	keyless  int // round robin of records without a key
	free     []*emitBatch
	draining int   // flushes that wait
	closed   bool  // senders end when they have nothing left
	broken   error // nothing can be sent any more
	firstErr error
	freed    chan struct{} // closed and made anew whenever a batch is settled
	troubled int           // partitions whose batch fails at the moment
	told     bool          // OnAway was called
}

// place is where records of a key go.
type place struct {
	queue *partitionQueue
	key   []byte
}

// partitionQueue holds the batches of a partition. All but sequence is guarded by the producer's mutex.
type partitionQueue struct {
	partition int32
	open      *emitBatch
	full      []*emitBatch
	wake      chan struct{}
	sequence  int32 // of the next record; the sender's alone
}

// emitBatch is records on their way to one partition.
type emitBatch struct {
	records []sarama.Record
	arena   []byte // holds the records' values
	size    int
	first   time.Time
	promise *goka.Promise
	finish  goka.PromiseFinisher
}

func newBatchProducer(client sarama.Client, cfg EmitterConfig) (*batchProducer, error) {
	if err := client.RefreshMetadata(cfg.Topic); err != nil {
		switch {
		case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
			return nil, missingTopic(cfg.Topic)
		case errors.Is(err, sarama.ErrTopicAuthorizationFailed):
			return nil, explainKafka(fmt.Errorf("describe topic %s: %w", cfg.Topic, sarama.ErrTopicAuthorizationFailed))
		}
		return nil, cfg.Cluster.explainConnect(err)
	}
	partitions, err := client.Partitions(cfg.Topic)
	if err != nil {
		return nil, fmt.Errorf("read the partitions of topic %s: %w", cfg.Topic, err)
	}
	id, err := client.InitProducerID()
	if err == nil && id.Err != sarama.ErrNoError {
		err = id.Err
	}
	if err != nil {
		return nil, explainKafka(fmt.Errorf("get a producer id, to write topic %s: %w", cfg.Topic, err))
	}
	p := &batchProducer{
		cfg:     cfg,
		client:  client,
		id:      id.ProducerID,
		epoch:   id.ProducerEpoch,
		headers: contentType(cfg.Format),
		places:  map[string]place{},
		freed:   make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for _, partition := range partitions {
		q := &partitionQueue{partition: partition, wake: make(chan struct{}, 1)}
		p.queues = append(p.queues, q)
		p.senders.Go(func() { p.sendAll(q) })
	}
	return p, nil
}

func contentType(f codecs.Format) []*sarama.RecordHeader {
	if f != codecs.JSON && f != codecs.Protobuf {
		return nil
	}
	return []*sarama.RecordHeader{{Key: []byte(codecs.ContentTypeHeader), Value: []byte(f.ContentType())}}
}

func missingTopic(topic string) error {
	return toll.Permanent("tollstream init", "topic %s does not exist", topic)
}

// Emit implements goka.Producer.
func (p *batchProducer) Emit(_ string, key string, value []byte) *goka.Promise {
	return p.add(key, value, p.headers)
}

// EmitWithHeaders implements goka.Producer.
func (p *batchProducer) EmitWithHeaders(_ string, key string, value []byte, headers goka.Headers) *goka.Promise {
	return p.add(key, value, headers.ToSaramaPtr())
}

func (p *batchProducer) add(key string, value []byte, headers []*sarama.RecordHeader) *goka.Promise {
	size := recordOverhead + len(key) + len(value)
	for _, h := range headers {
		size += len(h.Key) + len(h.Value) + recordOverhead
	}
	now := time.Now()
	p.emitted.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil || p.closed {
		p.failed.Add(1)
		_, finish := goka.NewPromiseWithFinisher()
		return finish(nil, cmp.Or(p.broken, goka.ErrEmitterAlreadyClosed))
	}
	at := p.placeLocked(key)
	q := at.queue
	if q.open != nil && q.open.size+size > maxBatchBytes {
		q.full = append(q.full, q.open)
		q.open = nil
		notify(q.wake)
	}
	if q.open == nil {
		q.open = p.newBatchLocked(now)
		notify(q.wake)
	}
	q.open.add(at.key, value, headers, now, size)
	p.buffered.Add(int64(size))
	return q.open.promise
}

// placeLocked returns where a key goes: the partition that goka's and sarama's hash partitioners choose. Keys are few,
// so their hashes are kept.
func (p *batchProducer) placeLocked(key string) place {
	if key == "" {
		p.keyless++
		return place{queue: p.queues[p.keyless%len(p.queues)]}
	}
	if at, ok := p.places[key]; ok {
		return at
	}
	const usual = 1 << 16 // all plazas
	if len(p.places) >= usual {
		clear(p.places)
	}
	h := Hasher()
	_, _ = h.Write([]byte(key)) // a hash never fails
	i := int32(h.Sum32()) % int32(len(p.queues))
	if i < 0 {
		i = -i
	}
	at := place{queue: p.queues[i], key: []byte(key)}
	p.places[key] = at
	return at
}

func (p *batchProducer) newBatchLocked(now time.Time) *emitBatch {
	var b *emitBatch
	if n := len(p.free); n > 0 {
		b, p.free = p.free[n-1], p.free[:n-1]
	} else {
		b = new(emitBatch)
	}
	b.first = now
	b.promise, b.finish = goka.NewPromiseWithFinisher()
	return b
}

func (b *emitBatch) add(key, value []byte, headers []*sarama.RecordHeader, now time.Time, size int) {
	if value != nil {
		// Growing moves the arena; values before stay where they were.
		start := len(b.arena)
		b.arena = append(b.arena, value...)
		value = b.arena[start:len(b.arena):len(b.arena)]
	}
	b.records = append(b.records, sarama.Record{
		Key: key, Value: value, Headers: headers,
		TimestampDelta: now.Sub(b.first),
	})
	b.size += size
}

// reset empties the batch for its next use. What an unusual batch made it grow to is given back.
func (b *emitBatch) reset() {
	arena, records := b.arena[:0], b.records[:0]
	if cap(arena) > 2*maxBatchBytes {
		arena = nil
	}
	*b = emitBatch{arena: arena, records: records}
}

func (p *batchProducer) stats() EmitterStats {
	// Emitted last, so that it is never less than the others.
	s := EmitterStats{Acknowledged: p.acknowledged.Load(), Failed: p.failed.Load()}
	s.Emitted = p.emitted.Load()
	return s
}

// waitForRoom waits while too much is on its way. It fails once nothing can be sent any more.
func (p *batchProducer) waitForRoom(ctx context.Context) error {
	for p.isBroken.Load() || p.buffered.Load() >= maxBufferedBytes {
		p.mu.Lock()
		freed, broken := p.freed, p.broken
		p.mu.Unlock()
		switch {
		case broken != nil:
			return broken
		case p.buffered.Load() < maxBufferedBytes:
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// flush waits until nothing is on its way, and returns the first failure.
func (p *batchProducer) flush(ctx context.Context) error {
	p.mu.Lock()
	p.draining++
	p.wakeAllLocked()
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.draining--
		p.mu.Unlock()
	}()
	for {
		p.mu.Lock()
		freed, err := p.freed, p.firstErr
		p.mu.Unlock()
		if p.buffered.Load() == 0 {
			return err
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", toBeAcknowledged(p.stats()), errGivenUp)
		}
	}
}

func toBeAcknowledged(s EmitterStats) string {
	return fmt.Sprintf("%d of %d events", s.Emitted-s.Acknowledged-s.Failed, s.Emitted)
}

// abort gives up what is left, and reports whether the senders have ended: sarama can't be called back from writing to a
// connection that takes nothing, for Net.WriteTimeout at most.
func (p *batchProducer) abort() bool {
	p.cancel()
	p.mu.Lock()
	p.closed = true
	p.wakeAllLocked()
	p.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		if p.buffered.Load() > 0 {
			p.disconnect() // ends requests that no broker answers
		}
		p.senders.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(abortGrace):
		return false
	}
}

// Close implements goka.Producer.
func (p *batchProducer) Close() error {
	if !p.abort() {
		return errGivenUp
	}
	p.disconnect()
	return p.closeErr
}

func (p *batchProducer) disconnect() {
	p.closeOnce.Do(func() { p.closeErr = p.client.Close() })
}

func (p *batchProducer) wakeAllLocked() {
	for _, q := range p.queues {
		notify(q.wake)
	}
}

// sendAll sends the batches of a partition, one after the other.
func (p *batchProducer) sendAll(q *partitionQueue) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p.mu.Lock()
		b, wait := p.takeLocked(q)
		closed := p.closed
		p.mu.Unlock()
		if b != nil {
			p.settle(b, p.send(q, b.first, b.records))
			continue
		}
		if closed {
			return
		}
		timer.Reset(wait)
		select {
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// takeLocked returns the batch to send now, or how long to wait for one.
func (p *batchProducer) takeLocked(q *partitionQueue) (*emitBatch, time.Duration) {
	if len(q.full) > 0 {
		b := q.full[0]
		q.full = q.full[1:]
		return b, 0
	}
	if q.open == nil {
		return nil, time.Hour
	}
	age := time.Since(q.open.first)
	if age < batchLinger && p.draining == 0 && !p.closed {
		return nil, batchLinger - age
	}
	b := q.open
	q.open = nil
	return b, 0
}

// settle ends a batch.
func (p *batchProducer) settle(b *emitBatch, err error) {
	size := int64(b.size)
	b.finish(nil, err)
	b.reset()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.firstErr == nil {
		p.firstErr = err
	}
	p.free = append(p.free, b)
	p.buffered.Add(-size)
	close(p.freed)
	p.freed = make(chan struct{})
}

// send sends records until the broker has answered, and counts them.
func (p *batchProducer) send(q *partitionQueue, first time.Time, records []sarama.Record) error {
	err := p.sendBatch(q, first, records)
	n := int64(len(records))
	switch {
	case err == nil:
		p.acknowledged.Add(n)
	case errors.Is(err, sarama.ErrMessageSizeTooLarge) && n > 1:
		half := n / 2
		return errors.Join(p.send(q, first, records[:half]), p.send(q, first, records[half:]))
	case !errors.Is(err, errGivenUp):
		p.failed.Add(n)
	}
	return err
}

// sendBatch sends one batch, again and again while that can help. A partition has no other batch on its way, so the
// broker tells a repetition by its sequence number.
func (p *batchProducer) sendBatch(q *partitionQueue, first time.Time, records []sarama.Record) error {
	p.mu.Lock()
	broken := p.broken
	p.mu.Unlock()
	if broken != nil {
		return broken
	}
	request := p.request(q, first, records)
	var since time.Time // of the first failure
	waits := sendBackOff()
	for {
		if p.ctx.Err() != nil {
			return errGivenUp
		}
		err := p.produce(q.partition, request, func() {
			if since.IsZero() {
				since = time.Now()
				p.wentBad()
			}
			p.sayAway(errSlow)
		})
		switch {
		case err == nil || errors.Is(err, sarama.ErrDuplicateSequenceNumber):
			q.sequence = addSequence(q.sequence, len(records))
			p.wentWell(!since.IsZero())
			return nil
		case isAboutRecords(err):
			p.wentWell(!since.IsZero())
			return fmt.Errorf("send to partition %d of topic %s: %w", q.partition, p.cfg.Topic, err)
		case isFinal(err):
			return p.breakDown(explainKafka(fmt.Errorf("send to partition %d of topic %s: %w", q.partition, p.cfg.Topic, err)))
		}
		if since.IsZero() {
			since = time.Now()
			p.wentBad()
		}
		switch failing := time.Since(since); {
		case failing > unknownTopicPatience && errors.Is(err, sarama.ErrUnknownTopicOrPartition):
			return p.breakDown(missingTopic(p.cfg.Topic))
		case failing > awayAfter:
			p.sayAway(err)
		}
		select {
		case <-time.After(waits.NextBackOff()):
		case <-p.ctx.Done():
			return errGivenUp
		}
		_ = p.client.RefreshMetadata(p.cfg.Topic) // if it fails, so will the next attempt
	}
}

func (p *batchProducer) request(q *partitionQueue, first time.Time, records []sarama.Record) *sarama.ProduceRequest {
	first = first.Truncate(time.Millisecond)
	batch := &sarama.RecordBatch{
		Version:         2,
		Codec:           p.cfg.Compression,
		FirstTimestamp:  first,
		MaxTimestamp:    first.Add(records[len(records)-1].TimestampDelta),
		LastOffsetDelta: int32(len(records) - 1),
		ProducerID:      p.id,
		ProducerEpoch:   p.epoch,
		FirstSequence:   q.sequence,
		Records:         make([]*sarama.Record, len(records)),
	}
	for i := range records {
		records[i].OffsetDelta = int64(i)
		batch.Records[i] = &records[i]
	}
	request := &sarama.ProduceRequest{
		RequiredAcks: sarama.WaitForAll,
		Timeout:      int32(produceTimeout / time.Millisecond),
		Version:      8, // Kafka 2.4
	}
	request.AddBatch(p.cfg.Topic, q.partition, batch)
	return request
}

// produce makes one attempt. It calls slow when the answer takes long.
func (p *batchProducer) produce(partition int32, request *sarama.ProduceRequest, slow func()) error {
	leader, err := p.client.Leader(p.cfg.Topic, partition)
	if err != nil {
		return err
	}
	type answer struct {
		response *sarama.ProduceResponse
		err      error
	}
	answers := make(chan answer, 1) // the callback must not block
	err = leader.AsyncProduce(request, func(r *sarama.ProduceResponse, err error) { answers <- answer{r, err} })
	var a answer
	if err == nil {
		select {
		case a = <-answers:
		case <-time.After(slowAfter):
			slow()
			a = <-answers // comes at the latest with Net.ReadTimeout
		}
		err = a.err
	}
	if err != nil {
		if !isAboutRecords(err) {
			_ = leader.Close() // the next attempt opens it again; that it is closed already is fine
		}
		return err
	}
	block := a.response.GetBlock(p.cfg.Topic, partition)
	if block == nil {
		return sarama.ErrIncompleteResponse
	}
	if block.Err != sarama.ErrNoError {
		return block.Err
	}
	return nil
}

// isAboutRecords reports whether a broker refused just these records.
func isAboutRecords(err error) bool {
	var encoding sarama.PacketEncodingError
	return errors.As(err, &encoding) || errors.Is(err, sarama.ErrMessageSizeTooLarge) ||
		errors.Is(err, sarama.ErrInvalidRecord) || errors.Is(err, sarama.ErrInvalidTimestamp)
}

// isFinal reports whether a broker will refuse everything that follows.
func isFinal(err error) bool {
	for _, final := range []error{
		sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrSASLAuthenticationFailed,
		sarama.ErrOutOfOrderSequenceNumber, sarama.ErrUnknownProducerID, sarama.ErrInvalidProducerEpoch, sarama.ErrProducerFenced,
		sarama.ErrPolicyViolation, sarama.ErrInvalidTopic, sarama.ErrUnsupportedVersion, sarama.ErrUnsupportedForMessageFormat,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// addSequence counts sequence numbers on, which begin again at 0 after the largest.
func addSequence(sequence int32, n int) int32 {
	return int32((int64(sequence) + int64(n)) % (math.MaxInt32 + 1))
}

// breakDown ends the producer: nothing more can be sent.
func (p *batchProducer) breakDown(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = err
		p.isBroken.Store(true)
	}
	return err
}

// wentBad and wentWell count the partitions whose batch fails at the moment.
func (p *batchProducer) wentBad() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubled++
}

func (p *batchProducer) wentWell(wasBad bool) {
	if !wasBad {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubled--
	if p.troubled == 0 && p.told {
		p.told = false
		if p.cfg.OnBack != nil {
			p.cfg.OnBack()
		}
	}
}

func (p *batchProducer) sayAway(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.told {
		p.told = true
		if p.cfg.OnAway != nil {
			p.cfg.OnAway(err)
		}
	}
}
