// Package boltqueue is a queue in a bbolt file, for one process on one machine:
// what SQS is in AWS. Any number of queues share one file, with each other and
// with a store.
//
// It keeps the promise of package queuetest, and is exact where SQS is coarse:
// delays and visibilities count to the millisecond and better, and a Receive
// that waits wakes at the very moment there is something for it. It has no
// fairness between groups and forgets nothing after 14 days.
//
// Sends, receives and deletes that are made at once share a commit, and so one
// wait for the disk.
package boltqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"eventhooks/internal/groupcommit"
	"eventhooks/internal/hook"
)

// Options say how a queue behaves. The zero value is a queue without dead
// letters.
type Options struct {
	// DeadLetter is the name of the queue that takes what was received
	// MaxReceives times and is visible again. Both or neither are set.
	DeadLetter  string
	MaxReceives int

	Now func() time.Time // default time.Now

	// Commits are shared with whoever else writes to the same file; nil shares
	// with nobody but the dead-letter queue.
	Commits *groupcommit.Committer

	// Strict makes the queue no kinder than SQS, for tests. Messages come in no
	// order, and sometimes fewer than there are; one in eight comes a second
	// time while it is in flight; of two receives that do not wait, the first
	// finds nothing; Send goes in batches of at most hook.MaxBatch, of which an
	// entry or all of them may fail, though not the same message twice running.
	Strict bool
}

// Limits of Receive and Release, as SQS has them.
const (
	maxVisibility = 12 * time.Hour
	maxWait       = 20 * time.Second
)

// Queue is one queue of a file. It is safe for concurrent use, and has nothing
// to close: it is of no use once its file is closed.
type Queue struct {
	db     *bbolt.DB
	commit *groupcommit.Committer
	name   string
	o      Options
	dead   *Queue // nil: none
	faults *faults

	mu     sync.Mutex
	taking map[uint64]struct{} // messages that a Receive is about to hand out
	bell   chan struct{}       // closed when something changes; nil while nobody waits
}

// Open returns a queue of an open file, made if it is not there, and opens its
// dead-letter queue with it. What a dead process was working on becomes visible
// at once, keeping its count of receives; what never was received keeps its
// delay, and what was released, too.
//
// A queue is opened once for as long as its file is open. Opened twice it loses
// nothing, but what is in flight comes again, and a waiting Receive does not
// learn of what is sent through the other one.
func Open(db *bbolt.DB, name string, o Options) (*Queue, error) {
	switch {
	case name == "":
		return nil, errors.New("open queue: no name")
	case o.MaxReceives < 0 || (o.MaxReceives == 0) != (o.DeadLetter == ""):
		return nil, fmt.Errorf("open queue %s: DeadLetter %q with MaxReceives %d: both or neither", name, o.DeadLetter, o.MaxReceives)
	case o.DeadLetter == name:
		return nil, fmt.Errorf("open queue %s: it cannot be its own dead-letter queue", name)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Commits == nil {
		o.Commits = groupcommit.New(db)
	}
	q := newQueue(db, o.Commits, name, o)
	if o.DeadLetter != "" {
		q.dead = newQueue(db, q.commit, o.DeadLetter, Options{Now: o.Now, Strict: o.Strict})
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		for _, n := range []string{o.DeadLetter, name} {
			if n == "" {
				continue
			}
			b, err := create(tx, n)
			if err != nil {
				return err
			}
			if err := b.freeAll(o.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	return q, nil
}

func newQueue(db *bbolt.DB, c *groupcommit.Committer, name string, o Options) *Queue {
	q := &Queue{db: db, commit: c, name: name, o: o, taking: map[uint64]struct{}{}}
	if o.Strict {
		q.faults = newFaults()
	}
	return q
}

// DeadLetter returns the queue's dead-letter queue, nil if it has none.
func (q *Queue) DeadLetter() *Queue { return q.dead }

// Send puts the messages on the queue, and on the disk, before it returns. See
// queuetest.Queue.
func (q *Queue) Send(ctx context.Context, msgs []hook.Message) (failed []int, err error) {
	var errs []error
	var good []int
	for i, m := range msgs {
		if err := m.Check(); err != nil {
			failed, errs = append(failed, i), append(errs, fmt.Errorf("message %d: %w", i, err))
			continue
		}
		good = append(good, i)
	}
	size := len(good)
	if q.faults != nil {
		size = hook.MaxBatch
	}
	for batch := range slices.Chunk(good, max(1, size)) {
		if q.faults != nil {
			var bad []int
			if batch, bad = q.faults.send(msgs, batch); len(bad) > 0 {
				failed, errs = append(failed, bad...), append(errs, errMadeUp)
			}
		}
		if err := q.sendBatch(ctx, msgs, batch); err != nil {
			failed, errs = append(failed, batch...), append(errs, err)
		}
	}
	if len(failed) == 0 {
		return nil, nil
	}
	slices.Sort(failed)
	return failed, fmt.Errorf("send %d of %d messages to %s: %w", len(failed), len(msgs), q.name, errors.Join(errs...))
}

func (q *Queue) sendBatch(ctx context.Context, msgs []hook.Message, batch []int) error {
	if len(batch) == 0 {
		return nil
	}
	err := q.write(ctx, func(b bucket) error {
		now := q.o.Now()
		for _, i := range batch {
			id, err := newID()
			if err != nil {
				return err
			}
			m := meta{id: id, sent: now, due: now.Add(msgs[i].Delay)}
			if err := b.add(m, msgs[i].Group, msgs[i].Body); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		q.ring()
	}
	return err
}

// Receive returns up to max visible messages, waiting up to wait for the first.
// See queuetest.Queue.
func (q *Queue) Receive(ctx context.Context, max int, visibility, wait time.Duration) ([]hook.Received, error) {
	switch {
	case max < 1 || max > hook.MaxBatch:
		return nil, fmt.Errorf("receive %d messages from %s: 1 to %d are allowed", max, q.name, hook.MaxBatch)
	case visibility < 0 || visibility > maxVisibility:
		return nil, fmt.Errorf("receive from %s: hide for %s: at most %s are allowed", q.name, visibility, maxVisibility)
	case wait < 0 || wait > maxWait:
		return nil, fmt.Errorf("receive from %s: wait for %s: at most %s are allowed", q.name, wait, maxWait)
	}
	if wait == 0 && q.faults != nil && q.faults.blind() {
		return nil, nil
	}
	end := time.Now().Add(wait)
	for {
		// The bell before the look: what comes in between rings it.
		bell := q.listen()
		keys, next, err := q.peek(max)
		if err != nil {
			return nil, fmt.Errorf("receive from %s: %w", q.name, err)
		}
		if len(keys) > 0 {
			rs, err := q.take(ctx, keys, visibility)
			if err != nil {
				return nil, fmt.Errorf("receive from %s: %w", q.name, err)
			}
			if len(rs) > 0 {
				return rs, nil
			}
			continue // they were deleted meanwhile, or are dead letters now
		}
		left := time.Until(end)
		if left <= 0 {
			return nil, nil
		}
		if !next.IsZero() {
			left = min(left, next.Sub(q.o.Now()))
		}
		alarm := time.NewTimer(left)
		select {
		case <-bell:
		case <-alarm.C:
		case <-ctx.Done():
			alarm.Stop()
			return nil, fmt.Errorf("receive from %s: %w", q.name, ctx.Err())
		}
		alarm.Stop()
	}
}

// peek chooses up to max visible messages and keeps other Receives from
// choosing them too. When there are none, it says when the next one becomes
// visible; zero: there is none. It writes nothing, so waiting costs no commit.
func (q *Queue) peek(max int) (keys []dueKey, next time.Time, err error) {
	now := q.o.Now()
	look := max
	if q.faults != nil {
		look = 5 * hook.MaxBatch // some to choose from
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	err = q.read(func(b bucket) error {
		c := b.due.Cursor()
		for k, _ := c.First(); k != nil && len(keys) < look; k, _ = c.Next() {
			key := dueKey(k)
			if _, taken := q.taking[key.seq()]; taken {
				continue
			}
			if at := key.at(); at.After(now) {
				if len(keys) == 0 {
					next = at
				}
				break
			}
			keys = append(keys, slices.Clone(key))
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	if q.faults != nil {
		keys = q.faults.choose(keys, max)
	}
	for _, k := range keys {
		q.taking[k.seq()] = struct{}{}
	}
	return keys, next, nil
}

// take hands out the chosen messages, or makes dead letters of them. Their
// counts are on the disk before it returns, so that a message that kills its
// consumer is counted.
func (q *Queue) take(ctx context.Context, keys []dueKey, visibility time.Duration) ([]hook.Received, error) {
	defer func() {
		q.mu.Lock()
		for _, k := range keys {
			delete(q.taking, k.seq())
		}
		q.mu.Unlock()
		q.ring() // those who wait must learn when these come back
	}()
	var rs []hook.Received
	moved := false
	err := q.write(ctx, func(b bucket) error {
		rs, moved = rs[:0], false // it may run twice
		now := q.o.Now()
		for _, k := range keys {
			if b.due.Get(k) == nil {
				continue // deleted, or released to another time
			}
			m, err := b.meta(k.seq())
			if err != nil {
				return err
			}
			if q.dead != nil && int(m.receives) >= q.o.MaxReceives {
				moved = true
				if err := b.bury(k.seq(), m, q.dead.name); err != nil {
					return err
				}
				continue
			}
			m.receives++
			again := q.faults != nil && m.receives == 1 && (q.dead == nil || q.o.MaxReceives > 2) && q.faults.again()
			was := m.due
			if m.due, m.inFlight = now.Add(visibility), true; again {
				m.due = now
			}
			if err := b.move(k.seq(), was, m); err != nil {
				return err
			}
			group, body, err := b.body(k.seq())
			if err != nil {
				return err
			}
			rs = append(rs, hook.Received{
				ID: m.id.String(), Receipt: receipt(k.seq(), m), Body: body, Group: group,
				Receives: int(m.receives), SentAt: m.sent.UTC(),
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if moved {
		q.dead.ring()
	}
	return rs, nil
}

// Delete removes a received message; one that was received anew since stays.
// See queuetest.Queue.
func (q *Queue) Delete(ctx context.Context, receipt string) error {
	_, err := q.DeleteBatch(ctx, []string{receipt})
	return err
}

// DeleteBatch removes many received messages in one commit. See
// queuetest.BatchDeleter.
func (q *Queue) DeleteBatch(ctx context.Context, receipts []string) (failed []int, err error) {
	var errs []error
	type held struct {
		seq      uint64
		receives uint32
	}
	var all []held
	var good []int
	for i, r := range receipts {
		seq, receives, err := parseReceipt(r)
		if err != nil {
			failed, errs = append(failed, i), append(errs, err)
			continue
		}
		all, good = append(all, held{seq, receives}), append(good, i)
	}
	if len(all) > 0 {
		err := q.write(ctx, func(b bucket) error {
			for _, h := range all {
				m, err := b.meta(h.seq)
				if errors.Is(err, hook.ErrNotFound) || err == nil && m.receives != h.receives {
					continue
				}
				if err == nil {
					err = b.remove(h.seq, m)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			failed, errs = append(failed, good...), append(errs, err)
		}
	}
	if len(failed) == 0 {
		return nil, nil
	}
	slices.Sort(failed)
	return failed, fmt.Errorf("delete %d of %d messages from %s: %w", len(failed), len(receipts), q.name, errors.Join(errs...))
}

// Release makes a message in flight visible again after delay; with an old
// receipt, or of a message that is not in flight, it changes nothing. See
// queuetest.Queue.
func (q *Queue) Release(ctx context.Context, receipt string, delay time.Duration) error {
	if delay < 0 || delay > maxVisibility {
		return fmt.Errorf("release to %s: hide for %s: at most %s are allowed", q.name, delay, maxVisibility)
	}
	seq, receives, err := parseReceipt(receipt)
	if err != nil {
		return fmt.Errorf("release to %s: %w", q.name, err)
	}
	err = q.write(ctx, func(b bucket) error {
		m, err := b.meta(seq)
		now := q.o.Now()
		if errors.Is(err, hook.ErrNotFound) || err == nil && (m.receives != receives || !m.inFlight || !m.due.After(now)) {
			return nil
		}
		if err != nil {
			return err
		}
		was := m.due
		m.due, m.inFlight = now.Add(delay), false
		return b.move(seq, was, m)
	})
	if err != nil {
		return fmt.Errorf("release to %s: %w", q.name, err)
	}
	q.ring()
	return nil
}

// Len returns how many messages are visible, how many are in flight, and how
// many wait for their delay (of sending or of a release) to pass. It reads one
// small entry per message.
func (q *Queue) Len(ctx context.Context) (visible, inFlight, delayed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, 0, fmt.Errorf("count %s: %w", q.name, err)
	}
	now := q.o.Now()
	err = q.read(func(b bucket) error {
		c := b.due.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			switch {
			case !dueKey(k).at().After(now):
				visible++
			case isInFlight(v):
				inFlight++
			default:
				delayed++
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, 0, fmt.Errorf("count %s: %w", q.name, err)
	}
	return visible, inFlight, delayed, nil
}

// listen returns a channel that is closed at the next ring.
func (q *Queue) listen() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bell == nil {
		q.bell = make(chan struct{})
	}
	return q.bell
}

// ring wakes every waiting Receive: something changed that it may want to know.
func (q *Queue) ring() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bell != nil {
		close(q.bell)
		q.bell = nil
	}
}

// write calls fn in a transaction that is on the disk when it returns. fn may be
// called twice.
func (q *Queue) write(ctx context.Context, fn func(bucket) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return q.commit.Commit(func(tx *bbolt.Tx) error { return fn(open(tx, q.name)) })
}

func (q *Queue) read(fn func(bucket) error) error {
	return q.db.View(func(tx *bbolt.Tx) error { return fn(open(tx, q.name)) })
}

// receipt names one receive of a message: a later one has another count.
func receipt(seq uint64, m meta) string {
	return strconv.FormatUint(seq, 16) + "." + strconv.FormatUint(uint64(m.receives), 16)
}

func parseReceipt(s string) (seq uint64, receives uint32, err error) {
	a, b, ok := strings.Cut(s, ".")
	seq, errA := strconv.ParseUint(a, 16, 64)
	n, errB := strconv.ParseUint(b, 16, 32)
	if !ok || errA != nil || errB != nil {
		return 0, 0, errors.New("not a receipt of this queue")
	}
	return seq, uint32(n), nil
}
