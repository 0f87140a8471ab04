package boltqueue

import (
	"errors"
	"sync"

	"go.etcd.io/bbolt"
)

// committer lets writers share commits: while one transaction is on its way to
// the disk, the next one gathers. A lone writer waits for nobody, and the slower
// the disk, the more of them share. (DB.Batch shares, too, but holds a lone
// writer up for DB.MaxBatchDelay, and gathers for no longer than that.)
type committer struct {
	db   *bbolt.DB
	lead chan struct{} // holds a token while a group is being committed

	mu   sync.Mutex
	next *group // gathers; nil: nobody waits
}

type group struct {
	writes []func(*bbolt.Tx) error
	errs   []error       // one for each of writes, once done
	done   chan struct{} // closed when it is committed, or failed
}

func newCommitter(db *bbolt.DB) *committer {
	return &committer{db: db, lead: make(chan struct{}, 1)}
}

// commit calls fn in a transaction that is on the disk when it returns nil. fn
// may be called twice; nothing is kept of a call that is not the last one.
func (c *committer) commit(fn func(*bbolt.Tx) error) error {
	c.mu.Lock()
	if c.next == nil {
		c.next = &group{done: make(chan struct{})}
	}
	g := c.next
	mine := len(g.writes)
	g.writes = append(g.writes, fn)
	c.mu.Unlock()

	select {
	case <-g.done:
		return g.errs[mine]
	case c.lead <- struct{}{}:
	}
	defer func() { <-c.lead }()
	select {
	case <-g.done: // by the leader before
		return g.errs[mine]
	default:
	}
	// Whoever leads ends the group that it takes before it steps down: this
	// one is not done, so nobody took it, so it is still the next one.
	c.mu.Lock()
	c.next = nil
	c.mu.Unlock()
	g.run(c.db)
	return g.errs[mine]
}

var errAbandoned = errors.New("the write was abandoned")

func (g *group) run(db *bbolt.DB) {
	// Nobody is told that it went well, or waits for ever, when bbolt panics
	// over a broken file.
	g.errs = make([]error, len(g.writes))
	for i := range g.errs {
		g.errs[i] = errAbandoned
	}
	defer close(g.done)

	err := db.Update(func(tx *bbolt.Tx) error {
		for _, fn := range g.writes {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	for i, fn := range g.writes {
		if err != nil && len(g.writes) > 1 {
			// One of them undid all: each for itself, then.
			g.errs[i] = db.Update(fn)
			continue
		}
		g.errs[i] = err
	}
}
