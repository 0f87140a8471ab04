package boltstore

import (
	"cmp"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// staleness makes reads that only suggest miss the very latest write of a
// delivery row, once, as an index that lags behind its table does.
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
		o := hook.Overdue{Wake: hook.Wake{DeliveryKey: w.key, Seq: d.Seq}, WakeMS: d.WakeMS, Nudges: d.Nudges}
		at, _ := slices.BinarySearchFunc(read, o, func(a, b hook.Overdue) int { return cmp.Compare(a.WakeMS, b.WakeMS) })
		read = slices.Insert(read, at, o)
	}
	return read[:min(len(read), limit)]
}

type listQuery struct {
	hookID string
	status hook.Status
	before string
	limit  int
	now    int64
}

// list is what ListDeliveries would have read before the latest write.
func (s *staleness) list(page []hook.Delivery, more bool, q listQuery) ([]hook.Delivery, bool) {
	w := s.miss()
	if w == nil || w.key.HookID != q.hookID || more && len(page) < 2 {
		return page, more // of a page that is all but empty nothing may go
	}
	page = slices.DeleteFunc(page, func(d hook.Delivery) bool { return d.Key() == w.key })
	d := w.old
	if !w.was || q.status != "" && d.Status != q.status || (item{expiresAt: d.ExpiresAt}).gone(q.now) ||
		q.before != "" && d.Event.ID >= q.before || more && d.Event.ID < page[len(page)-1].Event.ID {
		return page, more
	}
	at, _ := slices.BinarySearchFunc(page, d, func(a, b hook.Delivery) int { return cmp.Compare(b.Event.ID, a.Event.ID) })
	page = slices.Insert(page, at, d)
	if len(page) > q.limit {
		page, more = page[:q.limit], true
	}
	return page, more
}
