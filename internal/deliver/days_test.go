package deliver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/retry"
)

// newClock is the time at which a world begins.
var newClock = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)

// packed is the body of a fresh message.
func packed(events ...hook.Event) string { return message.Pack(events)[0].Body }

// days is a trial without accidents, whose clock jumps from one thing to do to
// the next: days of retries at the times at which they would be.
func days(t *testing.T, jitter float64, edit func(*hook.Hook), answers []hook.Outcome) *trial {
	x := newTrial(t, nil)
	x.o.Schedule, x.o.Jitter, x.o.Action = retry.Default(), func() float64 { return jitter }, x.action
	x.begin()
	x.action.answers = answers
	x.hooks = []hook.Hook{x.hook(edit)}
	x.posted = []hook.Event{x.event(`{}`)}
	x.queues[0].put(packed(x.posted...), 0)
	for range 10_000 {
		if v := x.visible(); len(v) > 0 {
			x.deliver(v)
		} else if !x.tick() {
			return x
		}
	}
	t.Fatal("it does not end")
	return nil
}

// effects counts the effects of a name.
func (w *world) effects(name string) (n int) {
	for _, e := range strings.Fields(w.fault.names()) {
		if e == name {
			n++
		}
	}
	return n
}

// wantGaps wants attempts after exactly these waits, or, where a wait is longer
// than the queue's longest delay, at the first sweep after it.
func (x *trial) wantGaps(waits []time.Duration) {
	x.t.Helper()
	calls := x.action.calls
	if len(calls) != len(waits)+1 {
		x.t.Fatalf("%d attempts; want %d", len(calls), len(waits)+1)
	}
	for i, wait := range waits {
		late := time.Duration(0)
		if wait > hook.MaxDelay {
			late = time.Minute
		}
		if got := calls[i+1].at.Sub(calls[i].at); got < wait || got > wait+late {
			x.t.Errorf("wait %d = %v; want %v, and at most %v more", i+1, got, wait, late)
		}
	}
}

func TestDays(t *testing.T) {
	for _, jitter := range []float64{0, 1} {
		t.Run(fmt.Sprintf("twelve attempts of the default schedule, with jitter %v", jitter), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := days(t, jitter, nil, fails(100))
				x.wantStatus(x.hooks[0], x.posted[0], hook.Failed, hook.ReasonExhausted, 12)
				var waits []time.Duration
				short := 0
				for _, wait := range retry.Default() {
					waits = append(waits, wait+time.Duration(float64(wait)*jitter/5))
					if waits[len(waits)-1] <= hook.MaxDelay {
						short++
					}
				}
				x.wantGaps(waits)
				long := len(waits) - short
				// What docs/delivery-protocol.md says that it costs: a wake-up for
				// each retry, and one more write where the wait is long.
				for name, want := range map[string]int{"W1": 1, "W2": 11, "W3": 11, "W4": 0, "W6": long, "send:retry": short + long} {
					if got := x.effects(name); got != want {
						t.Errorf("%d times %s; want %d", got, name, want)
					}
				}
			})
		})
	}

	hours := func(n float64) time.Duration { return time.Duration(n * float64(time.Hour)) }
	asks := func(after time.Duration) hook.Outcome {
		return hook.Outcome{Verdict: hook.Retryable, Code: 503, Error: "the receiver answered 503", RetryAfter: after}
	}
	first := retry.Default()[0]
	for _, tt := range []struct {
		name   string
		jitter float64
		after  time.Duration
		want   time.Duration
	}{
		{"a Retry-After that is longer than the schedule's wait counts", 0, 90 * time.Second, 90 * time.Second},
		{"one that is shorter does not shorten the wait", 0, 2 * time.Second, first},
		{"jitter lengthens a Retry-After", 1, 100 * time.Second, 120 * time.Second},
		{"one of many hours is waited for", 0, hours(11.5), hours(11.5)},
		{"one of more than twelve hours counts as twelve", 0, hours(13), hours(12)},
		{"one of a year counts as twelve hours", 0, hours(365 * 24), hours(12)},
		{"a date counts as the time until then", 0, retry.After("Sat, 21 Nov 2026 21:00:00 GMT", newClock), hours(3)},
		{"a date in the past counts for nothing", 0, retry.After("Sat, 21 Nov 2026 17:00:00 GMT", newClock), first},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := days(t, tt.jitter, nil, []hook.Outcome{asks(tt.after)})
				x.wantStatus(x.hooks[0], x.posted[0], hook.Delivered, "", 2)
				x.wantGaps([]time.Duration{tt.want})
			})
		})
	}

	t.Run("a receiver that always asks for twelve hours is asked for five days, and never sooner", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := days(t, 0, nil, slices.Repeat([]hook.Outcome{asks(hours(24))}, 100))
			x.wantStatus(x.hooks[0], x.posted[0], hook.Failed, hook.ReasonExpired, 11)
			x.wantGaps(slices.Repeat([]time.Duration{hours(12)}, 10))
		})
	})
	t.Run("max_attempts ends it sooner", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := days(t, 0, func(h *hook.Hook) { h.Retry.MaxAttempts = 3 }, fails(100))
			x.wantStatus(x.hooks[0], x.posted[0], hook.Failed, hook.ReasonExhausted, 3)
			x.wantGaps(retry.Default()[:2])
		})
	})
	t.Run("max_attempts beyond the schedule repeats its last wait, until the deadline of five days", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := days(t, 0, func(h *hook.Hook) { h.Retry.MaxAttempts = 50 }, fails(100))
			waits, total := slices.Clone(retry.Default()), time.Duration(0)
			for _, wait := range waits {
				total += wait
			}
			for ; total+hours(12) <= hook.MaxAge; total += hours(12) {
				waits = append(waits, hours(12))
			}
			x.wantStatus(x.hooks[0], x.posted[0], hook.Failed, hook.ReasonExpired, len(waits)+1)
			x.wantGaps(waits)
		})
	})
	t.Run("max_age ends it before an attempt that would be later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := days(t, 0, func(h *hook.Hook) { h.Retry.MaxAge = 3600 }, fails(100))
			x.wantStatus(x.hooks[0], x.posted[0], hook.Failed, hook.ReasonExpired, 6)
			x.wantGaps(retry.Default()[:5])
			if took := x.clock().Sub(newClock); took > time.Hour {
				t.Errorf("it ended after %v; want within the hour", took)
			}
		})
	})
	t.Run("a wake-up that comes after the deadline makes no attempt", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(1)
		w.post(ev)
		w.settle()
		w.advance(hook.MaxAge + time.Second) // nobody was there for five days
		w.settle()
		w.wantStatus(h, ev, hook.Failed, hook.ReasonExpired, 1)
	})
	t.Run("and one on its last millisecond does", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(1)
		w.post(ev)
		w.settle()
		w.advance(hook.MaxAge)
		w.settle()
		w.wantStatus(h, ev, hook.Delivered, "", 2)
	})
}
