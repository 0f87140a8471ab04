package healthprobe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"eventhooks/internal/hook"
)

const (
	selfCheckTimeout = 3 * time.Second
	selfCheckKeep    = 5 * time.Second // how long an answer of the self-check counts
)

// belief decides whether failures are the targets' or our own: when in a whole
// run nothing answers, the likeliest thing that broke is the road from here.
type belief struct {
	check func(context.Context) error // nil: believe everything
	now   func() time.Time

	mu       sync.Mutex
	tried    map[string]struct{} // addresses that were dialled in this run
	living   bool                // one of them gave a sign of life
	answered time.Time           // when it last did
	alive    chan struct{}       // closed by the first sign of life
	pending  int                 // upstreams whose first round is not over
	settled  chan struct{}       // closed when there are none

	checking  sync.Mutex // held while the self-check runs; guards what follows
	checked   time.Time
	checkedAs error
}

func newBelief(check func(context.Context) error, now func() time.Time, upstreams int) *belief {
	b := &belief{
		check: check, now: now, pending: upstreams,
		tried: map[string]struct{}{}, alive: make(chan struct{}), settled: make(chan struct{}),
	}
	if upstreams == 0 {
		close(b.settled)
	}
	return b
}

// tells reports whether a probe says anything of its address: that it was made.
func tells(r hook.ProbeResult) bool {
	return r.Fault != hook.FaultBlocked && r.Fault != hook.FaultNoRoute
}

// silent reports whether nothing at all came from the other side.
func silent(r hook.ProbeResult) bool {
	return (r.Fault == hook.FaultTCP || r.Fault == hook.FaultTimeout) && r.CertificateMS == 0
}

// saw takes note of a probe. Whatever came from the other side, be it status
// 503 or no HTTP at all, is a sign of life.
func (b *belief) saw(address string, r hook.ProbeResult) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !tells(r) {
		return
	}
	if !silent(r) {
		if !b.living {
			close(b.alive)
		}
		b.living, b.answered = true, b.now()
	}
	b.tried[address] = struct{}{}
}

// firstRoundOver is called once for each upstream, whether it was probed or
// not.
func (b *belief) firstRoundOver() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending--
	if b.pending == 0 {
		close(b.settled)
	}
}

// doubt returns why the failures of a round, in which everything failed, say
// nothing about the targets; nil when they do. since is when the round began.
// In the first round it waits for the other upstreams, which may know better.
func (b *belief) doubt(ctx context.Context, since time.Time, first bool) error {
	if b.check == nil {
		return nil
	}
	if first {
		select {
		case <-b.alive:
			return nil
		case <-b.settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.mu.Lock()
	living := b.living && !b.answered.Before(since)
	tried := len(b.tried)
	b.mu.Unlock()
	if living || tried < 2 {
		return nil
	}

	b.checking.Lock()
	defer b.checking.Unlock()
	if b.checked.IsZero() || b.now().Sub(b.checked) >= selfCheckKeep {
		ctx, cancel := context.WithTimeout(ctx, selfCheckTimeout)
		defer cancel()
		b.checked, b.checkedAs = b.now(), b.check(ctx)
	}
	if b.checkedAs == nil {
		return nil
	}
	return errOwnNetwork{b.checkedAs}
}

// errOwnNetwork: the self-check failed too.
type errOwnNetwork struct{ err error }

func (e errOwnNetwork) Error() string {
	return fmt.Sprintf("nothing judged: every probe failed, and so did the connectivity check (%v)", e.err)
}

func (e errOwnNetwork) Unwrap() error { return e.err }

func isOwnNetwork(err error) bool {
	_, ok := errors.AsType[errOwnNetwork](err)
	return ok
}
