// Package feed keeps a copy of configuration current: whoever plans on hooks
// and sources holds them in memory, and asks the feed before each piece of
// work whether anything changed.
//
// Asking costs one read when nothing did. The feed knows when a record
// changed, never what it means.
package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"eventhooks/internal/hook"
)

// Store is what the feed reads. All reads are consistent.
type Store interface {
	// Epoch returns the feed's epoch, 0 before the first write.
	Epoch(ctx context.Context, feed hook.Feed) (int64, error)
	// List returns up to limit live records of a kind, in the order of their
	// ids and after the id `after`, and whether there may be more.
	List(ctx context.Context, kind, prefix, after string, limit int, now int64) (page []hook.Record, more bool, err error)
	// Changes returns all records of a kind with Changed > since, tombstones
	// included.
	Changes(ctx context.Context, kind string, since int64) ([]hook.Record, error)
}

// Sink is the copy. Reset and Apply are called by one Refresh at a time, and
// never while the feed is reading the store. A sink whose readers run beside a
// Refresh is a sync.Locker as well: it is locked around a Reset with all the
// records that follow, and around the records of one look at the store, so that
// no reader ever sees a part.
type Sink interface {
	// Reset forgets every record; all that there are follow at once.
	Reset()
	// Apply takes over one record; a Deleted one removes, and need not be
	// there. It may be called again with a record it has. An error fails the
	// Refresh, which applies the others all the same and brings the refused one
	// again next time.
	Apply(r hook.Record) error
}

const (
	// settle is how long after an epoch was first seen its records may still
	// be missing from a query: a transaction shows item by item.
	settle = 10 * time.Second
	// maxAge is how long the feed may go without a refresh and still follow
	// changes. Tombstones are kept for a day; the rest is for clocks that
	// differ.
	maxAge = 23 * time.Hour
	// lookBack is how many epochs below the one it saw a first load still
	// looks through: those transactions may have shown their epoch to it and
	// not yet their records. Writers take turns at the epoch, so a hundred of
	// them in one moment are not to be had.
	lookBack = 100
	// pageSize is the number of records asked for at a time; stores bound a
	// page by its bytes anyway.
	pageSize = 1000
)

// Feed follows one sequence of changes. It is safe for concurrent use.
type Feed struct {
	store Store
	feed  hook.Feed
	kinds []string
	sink  Sink
	now   func() time.Time

	begun atomic.Int64  // number of runs that have begun
	turn  chan struct{} // holds a token while a run is on; guards all below

	last    int64 // number of the last run that ended, and how
	lastErr error

	loaded bool
	// cursor is the epoch up to which, and with it, the sink has everything
	// that was ever written. It trails the newest epoch while that settles.
	cursor int64
	seen   []sighting // epochs above cursor, rising
	// applied holds the version of each record above cursor that the sink has:
	// queries bring them again and again until the cursor has passed them.
	applied map[key]int64
	// fresh is when the last good run began. By the wall clock: the other one
	// may stand still while a function's container is frozen.
	fresh time.Time
}

type sighting struct {
	epoch int64
	at    time.Time // when it was first seen
}

type key struct{ kind, id string }

// New returns a feed that has read nothing yet: the first Refresh loads the
// sink. kinds are those that the sink wants, of those written to this feed.
// now nil means time.Now.
func New(store Store, feed hook.Feed, kinds []string, sink Sink, now func() time.Time) *Feed {
	if now == nil {
		now = time.Now
	}
	return &Feed{
		store: store, feed: feed, kinds: kinds, sink: sink, now: now,
		turn: make(chan struct{}, 1),
	}
}

// Refresh brings the sink up to date: after it returned nil, the sink has seen
// every write that ended before the call. It reads the epoch once, and nothing
// else when it is 10 s since the epoch last moved and a Refresh has looked
// since.
//
// Calls that wait for their turn share one run, if it began after they were
// made. After an error the sink is as usable as before: it has what it had, and
// perhaps some of the changes; the next Refresh reads the missing ones.
func (f *Feed) Refresh(ctx context.Context) error {
	before := f.begun.Load() // these began too early to count for this call
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.last > before {
		return f.lastErr
	}
	run := f.begun.Add(1)
	err := f.refresh(ctx)
	if err == nil || ctx.Err() == nil { // the end of one caller's patience is not another's
		f.last, f.lastErr = run, err
	}
	return err
}

func (f *Feed) refresh(ctx context.Context) error {
	began := f.now().Round(0)
	epoch, err := f.store.Epoch(ctx, f.feed)
	if err != nil {
		return fmt.Errorf("read epoch of %s: %w", f.feed, err)
	}
	at := f.now()
	newest := f.newest()
	switch {
	case !f.loaded:
		err = f.load(ctx, epoch, at)
	case epoch < newest: // the table was restored: what we know may never have been
		err = f.load(ctx, epoch, at)
	case epoch == f.cursor:
		// Nothing was written, however long ago we last looked.
	case began.Sub(f.fresh) > maxAge: // a tombstone may have come and gone
		err = f.load(ctx, epoch, at)
	default:
		if epoch > newest {
			f.seen = append(f.seen, sighting{epoch, at})
		}
		err = f.follow(ctx, at)
	}
	if err != nil {
		return err
	}
	f.fresh = began
	return nil
}

// newest returns the greatest epoch seen.
func (f *Feed) newest() int64 {
	if n := len(f.seen); n > 0 {
		return f.seen[n-1].epoch
	}
	return f.cursor
}

// load makes the sink anew from all records that there are. epoch was read
// before them, at the time at: what is written meanwhile is above it, and found
// by the next run.
func (f *Feed) load(ctx context.Context, epoch int64, at time.Time) error {
	var all []hook.Record
	for _, kind := range f.kinds {
		for after, more := "", true; more; {
			page, m, err := f.store.List(ctx, kind, "", after, pageSize, at.UnixMilli())
			if err != nil {
				return fmt.Errorf("list %ss: %w", kind, err)
			}
			if more = m && len(page) > 0; more {
				after = page[len(page)-1].ID
			}
			all = append(all, page...)
		}
	}

	// From here on nothing reads, so that a failing store cannot leave the
	// sink half full. A record that the sink refuses does, but only that one.
	defer f.lockSink()()
	f.loaded = false
	f.sink.Reset()
	f.cursor = max(0, epoch-lookBack)
	f.applied = map[key]int64{}
	f.seen = nil
	if epoch > f.cursor {
		f.seen = []sighting{{epoch, at}}
	}
	if err := f.apply(all); err != nil {
		return err
	}
	f.loaded = true
	return nil
}

// follow applies what changed above the cursor, and moves the cursor over what
// had settled at the time at, before the queries.
func (f *Feed) follow(ctx context.Context, at time.Time) error {
	var changed []hook.Record
	for _, kind := range f.kinds {
		rs, err := f.store.Changes(ctx, kind, f.cursor)
		if err != nil {
			return fmt.Errorf("query changes of %ss: %w", kind, err)
		}
		changed = append(changed, rs...)
	}
	slices.SortStableFunc(changed, func(a, b hook.Record) int { return cmp.Compare(a.Changed, b.Changed) })
	if err := f.applyLocked(changed); err != nil {
		return err
	}

	settled := 0
	for settled < len(f.seen) && at.Sub(f.seen[settled].at) >= settle {
		f.cursor = f.seen[settled].epoch
		settled++
	}
	if settled > 0 {
		f.seen = slices.Delete(f.seen, 0, settled)
		for k, changed := range f.applied {
			if changed <= f.cursor {
				delete(f.applied, k)
			}
		}
	}
	return nil
}

// lockSink locks a sink that wants it, and returns what unlocks it.
func (f *Feed) lockSink() (unlock func()) {
	l, ok := f.sink.(sync.Locker)
	if !ok {
		return func() {}
	}
	l.Lock()
	return l.Unlock
}

func (f *Feed) applyLocked(rs []hook.Record) error {
	defer f.lockSink()()
	return f.apply(rs)
}

// apply hands the sink the records that it does not have.
func (f *Feed) apply(rs []hook.Record) error {
	var errs []error
	for _, r := range rs {
		k := key{r.Kind, r.ID}
		if have, ok := f.applied[k]; ok && have >= r.Changed {
			continue
		}
		if err := f.sink.Apply(r); err != nil {
			errs = append(errs, fmt.Errorf("apply %s %s: %w", r.Kind, r.ID, err))
			continue
		}
		if r.Changed > f.cursor {
			f.applied[k] = r.Changed
		}
	}
	return errors.Join(errs...)
}
