package boltstore

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"sync"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// staleness makes reads that only suggest miss the very latest write of a
// delivery row, once, as an index that lags behind its table does.
// breakerStaleness does so for breakers.
type staleness struct {
	mu   sync.Mutex
	last *rowWrite // nil when a read has missed it already
}

// rowWrite is a write of a row: what was there before.
type rowWrite struct {
	key hook.DeliveryKey
	old hook.Delivery
	was bool // old was there
}

// follow notes the write of a row that is about to be made, once it is made.
func (s *staleness) follow(tx *bbolt.Tx, key []byte) {
	w := &rowWrite{}
	w.key.HookID, w.key.EventID = splitKey(key)
	if i, ok, err := rows.stored(tx, key); err == nil && ok {
		w.old, err = toRow(key, i)
		w.was = err == nil
	}
	tx.OnCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last = w
	})
}

// miss returns the write that this read is to miss, nil for none.
func (s *staleness) miss() *rowWrite {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.last
	s.last = nil
	return w
}

// overdue is what OverdueDeliveries would have read before the latest write.
func (s *staleness) overdue(read []hook.Overdue, shard int, now int64, limit int) []hook.Overdue {
	w := s.miss()
	if w == nil {
		return read
	}
	read = slices.DeleteFunc(read, func(o hook.Overdue) bool { return o.DeliveryKey == w.key })
	if d := w.old; w.was && d.Status == hook.Pending && d.WakeMS <= now && w.key.WakeShard() == shard {
		o := toOverdue(d)
		at, _ := slices.BinarySearchFunc(read, o, func(a, b hook.Overdue) int { return cmp.Compare(a.WakeMS, b.WakeMS) })
		read = slices.Insert(read, at, o)
	}
	return read[:min(len(read), limit)]
}

// listQuery is what a list of rows was asked for.
type listQuery struct {
	hookID string
	status hook.Status // "": any
	beyond string      // the id that those of the list come behind, in its order; "" is no bound
	limit  int
	now    int64
	order  func(a, b hook.Delivery) int
}

func oldestFirst(a, b hook.Delivery) int { return cmp.Compare(a.Event.ID, b.Event.ID) }
func newestFirst(a, b hook.Delivery) int { return oldestFirst(b, a) }

// list is what a list of rows would have been before the latest write.
func (s *staleness) list(page []hook.Delivery, more bool, q listQuery) ([]hook.Delivery, bool) {
	w := s.miss()
	if w == nil || w.key.HookID != q.hookID || more && len(page) < 2 {
		return page, more // of a page that is all but empty nothing may go
	}
	page = slices.DeleteFunc(page, func(d hook.Delivery) bool { return d.Key() == w.key })
	d, bound := w.old, hook.Delivery{Event: hook.Event{ID: q.beyond}}
	if !w.was || q.status != "" && d.Status != q.status || (item{expiresAt: d.ExpiresAt}).gone(q.now) ||
		q.beyond != "" && q.order(d, bound) <= 0 || more && q.order(d, page[len(page)-1]) > 0 {
		return page, more
	}
	at, _ := slices.BinarySearchFunc(page, d, q.order)
	page = slices.Insert(page, at, d)
	if len(page) > q.limit {
		page, more = page[:q.limit], true
	}
	return page, more
}

// breakerStaleness is staleness of breakers.
type breakerStaleness struct {
	mu   sync.Mutex
	last *breakerWrite // nil when a read has missed it already
}

// breakerWrite is a write of a breaker: what was there before.
type breakerWrite struct {
	key []byte
	old hook.Breaker
	was bool // old was there
}

// follow notes the write of a breaker that is about to be made, once it is made.
func (s *breakerStaleness) follow(tx *bbolt.Tx, key []byte, old hook.Breaker, was bool) {
	w := &breakerWrite{bytes.Clone(key), old, was}
	tx.OnCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last = w
	})
}

// miss returns the write that this read is to miss, nil for none.
func (s *breakerStaleness) miss() *breakerWrite {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.last
	s.last = nil
	return w
}

// read is what Breaker would have read before the latest write.
func (s *breakerStaleness) read(b hook.Breaker, there bool, key []byte, now int64) (hook.Breaker, bool) {
	w := s.miss()
	if w == nil || !bytes.Equal(w.key, key) {
		return b, there
	}
	return w.old, w.was && !(item{expiresAt: breakerExpiry(w.old)}).gone(now)
}

// overdue is what OverdueBreakers would have read before the latest write.
func (s *breakerStaleness) overdue(read []hook.Breaker, now int64, limit int) []hook.Breaker {
	w := s.miss()
	if w == nil {
		return read
	}
	hookID, gen := splitKey(w.key)
	read = slices.DeleteFunc(read, func(b hook.Breaker) bool { return b.HookID == hookID && strconv.FormatInt(b.Gen, 10) == gen })
	if b := w.old; w.was && b.WakeMS != 0 && b.WakeMS <= now {
		at, _ := slices.BinarySearchFunc(read, b, func(a, b hook.Breaker) int { return cmp.Compare(a.WakeMS, b.WakeMS) })
		read = slices.Insert(read, at, b)
	}
	return read[:min(len(read), limit)]
}
