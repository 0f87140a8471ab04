package healthprobe

import (
	"context"
	"time"

	"eventhooks/internal/hook"
)

const (
	// maxTimeout bounds a probe, whatever its upstream says.
	maxTimeout = 10 * time.Second
	// defaultTimeout is for an upstream that says 0; Kong's default.
	defaultTimeout = time.Second
	// minInterval: a shorter interval is taken as this one.
	minInterval = 100 * time.Millisecond
)

// Types of probes. The JSON names are Kong's.
const (
	typeHTTP  = "http"
	typeHTTPS = "https"
	typeTCP   = "tcp"
	typeGRPC  = "grpc"
	typeGRPCS = "grpcs"
)

// known reports whether probes of a type can be made.
func known(kind string) bool {
	switch kind {
	case typeHTTP, typeHTTPS, typeTCP, typeGRPC, typeGRPCS:
		return true
	}
	return false
}

// probed reports whether any target of an upstream may ever be due.
func probed(c hook.ActiveCheck) bool {
	return known(c.Type) && (c.HealthyInterval > 0 || c.UnhealthyInterval > 0)
}

// interval returns how often a target of that health is probed; 0 for never.
func interval(c hook.ActiveCheck, h hook.Health) time.Duration {
	s := c.UnhealthyInterval
	if up(h) {
		s = c.HealthyInterval
	}
	if !(s > 0) {
		return 0
	}
	return max(minInterval, seconds(s))
}

// timeout returns the time of one probe: never longer than its interval.
func timeout(c hook.ActiveCheck, every time.Duration) time.Duration {
	t := defaultTimeout
	if c.Timeout > 0 {
		t = seconds(c.Timeout)
	}
	return max(min(t, every, maxTimeout), time.Millisecond)
}

// seconds turns a number of Kong's (at most 65535) into a duration.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1<<20) * float64(time.Second))
}

// slack is how much earlier than after d something may happen.
func slack(d time.Duration) time.Duration { return min(maxSlack, d/10) }

// wrong reports whether a moment that was written down, Unix milliseconds, is
// further ahead than a run can be: the clock was wrong, and it holds nothing up.
func wrong(writtenMS, nowMS int64) bool { return writtenMS-nowMS > leaseTime.Milliseconds() }

// due returns when an address is to be probed; false when it is not. early
// allows for a schedule that is not exact.
func (v *visitor) due(w *watched, early bool) (time.Time, bool) {
	every := interval(v.Active, w.state.Health)
	if w.off || w.lost || !w.ip.IsValid() || every == 0 ||
		w.state.Outbox != nil { // what was raised comes before what might be raised
		return time.Time{}, false
	}
	if w.last.LastMS == 0 {
		return time.UnixMilli(0), true
	}
	at := time.UnixMilli(w.last.LastMS).Add(every)
	if early {
		at = at.Add(-slack(every))
	}
	return at, true
}

// dueNow returns the addresses that are to be probed now. The first round of a
// run is early: schedules are not exact.
func (v *visitor) dueNow(first bool) []*watched {
	now := v.o.Now()
	var due []*watched
	for _, w := range v.watched {
		if at, ok := v.due(w, first); ok && !now.Before(at) {
			due = append(due, w)
		}
	}
	return due
}

// next returns when the next round of this run begins; false when the rest is
// the next run's.
func (v *visitor) next() (at time.Time, ok bool) {
	now := v.o.Now()
	for _, w := range v.watched {
		every := interval(v.Active, w.state.Health)
		if every >= v.o.Period {
			continue
		}
		due, isDue := v.due(w, false)
		if !isDue {
			continue
		}
		if due.Before(now) {
			due = now
		}
		if due.Add(timeout(v.Active, every)).After(v.roundsEnd) {
			continue
		}
		if !ok || due.Before(at) {
			at, ok = due, true
		}
	}
	return at, ok
}

// planned returns when an address is next looked at, Unix milliseconds; 0 when
// never.
func (v *visitor) planned(w *watched, nowMS int64) int64 {
	every := interval(v.Active, w.state.Health)
	if every == 0 || w.off || !known(v.Active.Type) {
		return 0
	}
	switch {
	case !w.ip.IsValid() && w.last.NextMS > nowMS:
		return w.last.NextMS // the name was not asked for this time
	case !w.ip.IsValid() || w.last.LastMS == 0:
		return nowMS + every.Milliseconds()
	}
	return w.last.LastMS + every.Milliseconds()
}

// wait blocks for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
