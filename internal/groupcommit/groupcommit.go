// Package groupcommit lets the writers of one bbolt file share transactions, and
// with them the waits for the disk. The embedded store and queues use it, and
// share one when they share a file.
package groupcommit

import (
	"errors"
	"sync"

	"go.etcd.io/bbolt"
)

// Committer joins the writes of concurrent callers into one transaction: while
// one is on its way to the disk the next gathers. A lone writer waits for
// nobody, and the slower the disk, the more of them share. (bbolt's own Batch
// shares too, but makes a lone caller wait for company first.) It is safe for
// concurrent use.
type Committer struct {
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

// New returns a committer for the file.
func New(db *bbolt.DB) *Committer {
	return &Committer{db: db, lead: make(chan struct{}, 1)}
}

// Commit runs fn in a transaction and returns when it is on the disk; an error
// of fn undoes what it did, and nothing else. fn may run more than once, and
// beside the fn of other callers; what a run before the last one did is undone.
// A panic of fn is its caller's.
func (c *Committer) Commit(fn func(*bbolt.Tx) error) error {
	mine := &pendingWrite{fn: fn, done: make(chan error, 1)}
	c.mu.Lock()
	c.waiting = append(c.waiting, mine)
	c.mu.Unlock()

	err := c.inGroup(mine)
	if errors.Is(err, errAlone) {
		err = c.db.Update(fn)
	}
	return err
}

// inGroup waits until somebody has committed mine, or does so for all that
// wait when it is this caller's turn.
func (c *Committer) inGroup(mine *pendingWrite) error {
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

	err := c.run(group)
	if err != nil && len(group) > 1 {
		err = errAlone // one of them failed and undid all
	}
	for _, w := range group {
		w.done <- err
	}
	return <-mine.done
}

// errAlone tells a caller to run its write in a transaction of its own.
var errAlone = errors.New("its group failed")

// run commits a group. A panic, of a write or of bbolt over a broken page, is
// left to happen again to him who caused it.
func (c *Committer) run(group []*pendingWrite) (err error) {
	defer func() {
		if recover() != nil {
			err = errAlone
		}
	}()
	return c.db.Update(func(tx *bbolt.Tx) error {
		for _, w := range group {
			if err := w.fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
}
