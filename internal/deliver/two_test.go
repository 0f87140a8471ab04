package deliver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/boltqueue"
	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// pair is two processes at once on the same tables and queues.
type pair struct {
	*world
	svcs [2]*deliver.Service
	rand *rand.Rand
	evs  []hook.Event

	mu   sync.Mutex
	told map[hook.DeliveryKey][]hook.Outcome
	// ends says how the n-th attempt of an event ends, from 0.
	ends func(ev hook.Event, n int) hook.Outcome
}

func newPair(t *testing.T, seed uint64) *pair {
	p := &pair{world: newWorld(t), rand: rand.New(rand.NewPCG(seed, 1)), told: map[hook.DeliveryKey][]hook.Outcome{}}
	p.ends = func(hook.Event, int) hook.Outcome { return hook.Outcome{Verdict: hook.Success, Code: 200} }
	p.o.Action = p
	for i := range p.svcs {
		svc, err := deliver.New(p.o)
		if err != nil {
			t.Fatal(err)
		}
		p.svcs[i] = svc
	}
	return p
}

func (p *pair) Do(_ context.Context, h hook.Hook, ev hook.Event, _ time.Time) hook.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}
	out := p.ends(ev, len(p.told[key]))
	p.told[key] = append(p.told[key], out)
	return out
}

// storm posts events in no order, packed by chance, each message as often as
// copies says: SQS delivers at least once.
func (p *pair) storm(copies int, data ...string) {
	for _, d := range data {
		p.evs = append(p.evs, p.event(d))
	}
	order := p.rand.Perm(len(p.evs))
	var bodies []string
	for len(order) > 0 {
		n := 1 + p.rand.IntN(min(3, len(order)))
		var evs []hook.Event
		for _, i := range order[:n] {
			evs = append(evs, p.evs[i])
		}
		order = order[n:]
		bodies = append(bodies, slices.Repeat([]string{message.Pack(evs)[0].Body}, copies)...)
	}
	p.rand.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
	p.send(p.events, bodies...)
}

// both lets the two processes empty the queues at once; each has its own half of
// each batch size.
func (p *pair) both() {
	p.t.Helper()
	var wg sync.WaitGroup
	for i, svc := range p.svcs {
		wg.Go(func() {
			for {
				idle := true
				for _, q := range []*boltqueue.Queue{p.events, p.retry} {
					msgs, err := q.Receive(p.ctx, 1+2*i, visibility, 0)
					if err != nil {
						p.t.Error(err)
						return
					}
					if len(msgs) == 0 {
						continue
					}
					idle = false
					failed := svc.Deliver(p.ctx, msgs)
					for _, m := range msgs {
						if slices.Contains(failed, m.ID) {
							continue
						}
						if err := q.Delete(p.ctx, m.Receipt); err != nil {
							p.t.Error(err)
						}
					}
				}
				if idle {
					return
				}
			}
		})
	}
	wg.Wait()
}

// pass lets time pass, in steps of a minute: both processes sweep at once, and
// work.
func (p *pair) pass(minutes int) {
	p.t.Helper()
	for range minutes {
		p.advance(time.Minute)
		var wg sync.WaitGroup
		for _, svc := range p.svcs {
			wg.Go(func() {
				if err := svc.Sweep(p.ctx); err != nil {
					p.t.Error(err)
				}
			})
		}
		wg.Wait()
		p.both()
	}
}

// found returns the rows of a hook, in the order of the events' ids.
func (p *pair) found(h hook.Hook) (rows []hook.Delivery) {
	p.t.Helper()
	var keys []hook.DeliveryKey
	for _, ev := range p.evs {
		keys = append(keys, hook.DeliveryKey{HookID: h.ID, EventID: ev.ID})
	}
	rows, err := p.store.Deliveries(p.t.Context(), keys, p.clock().UnixMilli())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, d := range rows {
		if !d.Terminal() {
			p.t.Errorf("%s is %s", d.Key(), d.Status)
		}
	}
	return rows
}

// rounds repeats a test with many orders of things.
func rounds(t *testing.T, test func(t *testing.T, seed uint64)) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { test(t, seed) })
	}
}

func TestTwo_snooze(t *testing.T) {
	minute := int64(3600)
	t.Run("one event of each window is told, once, and the others are counted", func(t *testing.T) {
		rounds(t, func(t *testing.T, seed uint64) {
			p := newPair(t, seed)
			h := p.hook(func(h *hook.Hook) { h.Snooze = &minute })
			p.storm(1, slices.Repeat([]string{`{"n":1}`, `{"n":2}`, `{"n":3}`}, 6)...)
			p.both()
			by := map[string]int{}
			for _, d := range p.found(h) {
				by[string(d.Event.Data)]++
				if n := len(p.told[d.Key()]); n != 1 {
					t.Errorf("%s was told %d times; want once", d.Key(), n)
				}
				open, err := p.store.Snoozes(t.Context(), h.ID, []string{d.SnoozeKey}, p.clock().UnixMilli())
				if err != nil {
					t.Fatal(err)
				}
				if w := open[d.SnoozeKey]; w.Suppressed != 5 || w.By != d.Event.ID {
					t.Errorf("window of %s = %+v; want one opened by %s and 5 suppressed", d.Event.Data, w, d.Event.ID)
				}
			}
			for _, data := range []string{`{"n":1}`, `{"n":2}`, `{"n":3}`} {
				if by[data] != 1 {
					t.Errorf("%d events %s were admitted; want 1", by[data], data)
				}
			}
		})
	})
	t.Run("when the one that opened a window fails, another is told, and never two", func(t *testing.T) {
		rounds(t, func(t *testing.T, seed uint64) {
			p := newPair(t, seed)
			h := p.hook(func(h *hook.Hook) { h.Snooze = &minute; h.Retry.MaxAttempts = 1 })
			bad := 0 // the first two to be told, whichever they are, fail
			p.ends = func(hook.Event, int) hook.Outcome {
				if bad++; bad <= 2 {
					return fails(1)[0]
				}
				return hook.Outcome{Verdict: hook.Success, Code: 200}
			}
			p.storm(1, slices.Repeat([]string{`{"n":1}`}, 12)...)
			p.both()
			p.storm(1, slices.Repeat([]string{`{"n":1}`}, 3)...) // all that came before may have met a window
			p.both()
			delivered := 0
			for _, d := range p.found(h) {
				if d.Status == hook.Delivered {
					delivered++
				}
			}
			if delivered > 1 || bad >= 3 && delivered != 1 {
				t.Errorf("%d of %d that were told got through; want one", delivered, bad)
			}
		})
	})
	t.Run("copies of messages tell nothing twice", func(t *testing.T) {
		rounds(t, func(t *testing.T, seed uint64) {
			p := newPair(t, seed)
			h := p.hook(func(h *hook.Hook) { h.Snooze = &minute })
			p.storm(3, `{"n":1}`, `{"n":2}`, `{"n":1}`, `{"n":3}`)
			p.both()
			if rows := p.found(h); len(rows) != 3 {
				t.Errorf("%d events were admitted; want 3", len(rows))
			}
			for key, outs := range p.told {
				if len(outs) != 1 {
					t.Errorf("%s was told %d times", key, len(outs))
				}
			}
		})
	})
}

func TestTwo_onChange(t *testing.T) {
	yes, minute := true, int64(3600)
	for name, edit := range map[string]func(*hook.Hook){
		"on_change":            func(h *hook.Hook) { h.OnChange = &yes },
		"on_change and snooze": func(h *hook.Hook) { h.OnChange, h.Snooze = &yes, &minute },
	} {
		t.Run(name+": what is told is what one process would have told of the events that were not too late", func(t *testing.T) {
			rounds(t, func(t *testing.T, seed uint64) {
				p := newPair(t, seed)
				h := p.hook(edit)
				p.storm(2, strings.Fields(`{"n":1} {"n":1} {"n":2} {"n":3} {"n":3} {"n":1} {"n":4} {"n":4} {"n":5} {"n":5}`)...)
				p.both()
				rows := p.found(h)
				last, told := "", 0
				for i, d := range rows {
					// Whichever were judged in time, they were judged in the order of
					// their ids: nothing is told that says what was said before it.
					if string(d.Event.Data) == last {
						t.Errorf("%s says %s, as the one before it did", d.Key(), last)
					}
					last = string(d.Event.Data)
					// Each is told once, but for those of which the other process
					// told something newer first.
					want := 1
					if d.Status == hook.Superseded && i < len(rows)-1 {
						want = 0
					}
					if told += want; len(p.told[d.Key()]) != want {
						t.Errorf("%s, which is %s, was told %d times; want %d", d.Key(), d.Status, len(p.told[d.Key()]), want)
					}
				}
				// And the receiver knows in the end how things are.
				if last != `{"n":5}` {
					t.Errorf("the last that was told says %s; want the newest state", last)
				}
				// Nobody was told of anything beside the log.
				if len(p.told) != told {
					t.Errorf("%d were told and %d are on record as told", len(p.told), told)
				}
			})
		})
	}
	t.Run("failures: each that was admitted ends, and the newest state is told", func(t *testing.T) {
		rounds(t, func(t *testing.T, seed uint64) {
			p := newPair(t, seed)
			h := p.hook(func(h *hook.Hook) { h.OnChange = &yes })
			p.ends = func(ev hook.Event, n int) hook.Outcome {
				if n == 0 && ev.ID[len(ev.ID)-1]%2 == 0 {
					return fails(1)[0]
				}
				return hook.Outcome{Verdict: hook.Success, Code: 200}
			}
			p.storm(2, strings.Fields(`{"n":1} {"n":2} {"n":3} {"n":4} {"n":5} {"n":6}`)...)
			p.both()
			p.pass(4)
			rows := p.found(h)
			for i, d := range rows {
				switch {
				case i == len(rows)-1 && (d.Status != hook.Delivered || d.Event.ID != p.evs[len(p.evs)-1].ID):
					t.Errorf("the newest is %s, %s", d.Event.Data, d.Status)
				case d.Status == hook.Failed:
					t.Errorf("%s failed", d.Key())
				}
			}
		})
	})
}

func TestTwo_plain(t *testing.T) {
	t.Run("copies: each copy tells at most once, one record, one chain of retries", func(t *testing.T) {
		rounds(t, func(t *testing.T, seed uint64) {
			p := newPair(t, seed)
			h := p.hook(nil)
			p.ends = func(_ hook.Event, n int) hook.Outcome {
				if n < 2 { // too few in a row for the breaker
					return fails(1)[0] // also both of two first attempts
				}
				return hook.Outcome{Verdict: hook.Success, Code: 200}
			}
			p.storm(2, `{}`, `{}`, `{}`, `{}`)
			p.both()
			p.pass(10)
			for _, d := range p.found(h) {
				// The copy that lost the race has no record; the chain goes on
				// from the other.
				if n := len(p.told[d.Key()]); d.Status != hook.Delivered || n != 3 || len(d.Attempts) < 2 {
					t.Errorf("%s is %s, told %d times, %d on record; want delivered, 3, and at most one of the two first ones missing", d.Key(), d.Status, n, len(d.Attempts))
				}
			}
		})
	})
	t.Run("a wake-up and its copies, at both at once, make one attempt", func(t *testing.T) {
		rounds(t, func(t *testing.T, seed uint64) {
			p := newPair(t, seed)
			h := p.hook(nil)
			p.ends = func(_ hook.Event, n int) hook.Outcome {
				if n == 0 {
					return fails(1)[0]
				}
				return hook.Outcome{Verdict: hook.Success, Code: 200}
			}
			p.storm(1, slices.Repeat([]string{`{}`}, 8)...)
			p.both()
			var wakes []string
			for _, ev := range p.evs {
				d := p.row(h, ev)
				wakes = append(wakes, slices.Repeat([]string{message.Wake(hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq})}, 4)...)
			}
			p.rand.Shuffle(len(wakes), func(i, j int) { wakes[i], wakes[j] = wakes[j], wakes[i] })
			p.send(p.retry, wakes...)
			p.advance(schedule[0])
			p.both()
			p.pass(3)
			for _, d := range p.found(h) {
				if n := len(p.told[d.Key()]); n != 2 || len(d.Attempts) != 2 {
					t.Errorf("%s was told %d times, %d on record; want 2 and 2", d.Key(), n, len(d.Attempts))
				}
			}
		})
	})
}
