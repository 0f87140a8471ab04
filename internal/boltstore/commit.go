package boltstore

import (
	"errors"
	"sync"

	"go.etcd.io/bbolt"
)

// committer joins the writes of concurrent callers into one transaction, so
// that they share one wait for the disk: while one transaction is being
// committed the next gathers. bbolt's own Batch does so too, but makes a lone
// caller wait for company first.
type committer struct {
	db *bbolt.DB
	// lead holds a value while somebody commits.
	lead chan struct{}
	mu   sync.Mutex
	// waiting is what the next leader will commit.
	waiting []*pendingWrite
}

type pendingWrite struct {
	fn   func(*bbolt.Tx) error
	done chan error // of one
}

func newCommitter(db *bbolt.DB) *committer {
	return &committer{db: db, lead: make(chan struct{}, 1)}
}

// commit runs fn in a transaction and returns when that is committed.
func (c *committer) commit(fn func(*bbolt.Tx) error) error {
	mine := &pendingWrite{fn: fn, done: make(chan error, 1)}
	c.mu.Lock()
	c.waiting = append(c.waiting, mine)
	c.mu.Unlock()

	select {
	case err := <-mine.done:
		return err
	case c.lead <- struct{}{}:
	}
	defer func() { <-c.lead }()
	select {
	case err := <-mine.done: // the leader before had taken it along
		return err
	default:
	}
	c.mu.Lock()
	group := c.waiting // mine among them: who leads answers all that he takes
	c.waiting = nil
	c.mu.Unlock()
	c.run(group)
	return <-mine.done
}

var errAbandoned = errors.New("the write was abandoned")

// run commits a group and answers each of its members.
func (c *committer) run(group []*pendingWrite) {
	// Nobody waits for ever, not even when bbolt panics over a broken file.
	defer func() {
		for _, w := range group {
			select {
			case w.done <- errAbandoned:
			default: // answered
			}
		}
	}()
	err := c.db.Update(func(tx *bbolt.Tx) error {
		for _, w := range group {
			if err := w.fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil || len(group) == 1 {
		for _, w := range group {
			w.done <- err
		}
		return
	}
	// One of them failed and undid all: each for itself, then.
	for _, w := range group {
		w.done <- c.db.Update(w.fn)
	}
}
