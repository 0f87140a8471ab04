package deliver_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventhooks/internal/boltqueue"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// crowd is a world with hooks of every kind and a packed message of events, of
// which one is redelivered on the way, and successes that the table does not
// take at first, so that their records go through the queue.
type crowd struct {
	*world
	hooks  []hook.Hook
	plain  hook.Hook
	evs    []hook.Event
	broken int // how often W4 still fails
	again  bool
}

func newCrowd(t *testing.T) *crowd {
	c := &crowd{world: newWorld(t), broken: 6}
	short, yes := int64(20), true
	c.o.Store, c.o.Action = &noting{c.o.Store, c.fault}, c
	c.restart()
	c.plain = c.hook(nil)
	c.hooks = []hook.Hook{
		c.plain,
		c.hook(func(h *hook.Hook) { h.Snooze = &short }),
		c.hook(func(h *hook.Hook) { h.OnChange = &yes }),
		c.hook(func(h *hook.Hook) { h.Snooze, h.OnChange = &short, &yes; h.Retry.MaxAttempts = 1 }),
	}
	for _, data := range []string{`{"n":1}`, `{"n":1}`, `{"n":2}`, `{"n":1}`} {
		c.evs = append(c.evs, c.event(data))
	}
	c.action.answers = fails(6)
	c.fault.trouble = c.trouble
	return c
}

// Do makes the first attempt of the hook that has but one fail.
func (c *crowd) Do(ctx context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome {
	out := c.action.Do(ctx, h, ev, at)
	if h.Retry.MaxAttempts == 1 && ev.ID == c.evs[0].ID {
		return fails(1)[0]
	}
	return out
}

// trouble is a table that takes no success at first.
func (c *crowd) trouble(_ int, name string) (done bool, err error) {
	if name == "W4" && c.broken > 0 {
		c.broken--
		return false, errLost
	}
	return false, nil
}

// play lets a quarter of an hour pass, in which someone redelivers; a process
// that dies has a successor.
func (c *crowd) play() {
	if c.clock().Equal(newClock) {
		c.post(c.evs[:3]...)
	}
	for end := c.clock().Add(15 * time.Minute); c.clock().Before(end); {
		c.alive(c.settle)
		if rows := c.rows(); !c.again && c.clock().Sub(newClock) >= 2*time.Minute && len(rows) > 1 {
			c.again = true
			for _, d := range rows[:2] {
				wake := c.world.again(d)
				if d.Event.ID == c.evs[0].ID { // of the other, admin died before it sent
					c.send(c.retry, message.Wake(wake))
				}
			}
			continue
		}
		step := time.Minute
		if c.clock().Sub(newClock) < time.Minute {
			step = 5 * time.Second
		}
		if c.clock().Equal(newClock.Add(10 * time.Second)) {
			c.post(c.evs[3]) // finds windows open that a process knows
		}
		if c.advance(step); c.clock().Truncate(time.Minute).Equal(c.clock()) {
			c.alive(func() { _ = c.svc.Sweep(c.ctx) }) // what it could not do, the next one does
		}
	}
}

// alive does something, and begins a new process if the old one dies of it.
func (c *crowd) alive(do func()) {
	for do(); c.fault.dead(); do() {
		c.fault.revive()
		c.restart()
	}
}

func (w *world) send(q *boltqueue.Queue, bodies ...string) {
	w.t.Helper()
	for _, body := range bodies {
		if failed, err := q.Send(w.t.Context(), []hook.Message{{Body: body}}); err != nil || len(failed) > 0 {
			w.t.Fatal(failed, err)
		}
	}
}

// redrive sends the dead letters anew.
func (w *world) redrive(from, to *boltqueue.Queue) {
	w.t.Helper()
	for {
		msgs, err := from.Receive(w.t.Context(), 10, visibility, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(msgs) == 0 {
			return
		}
		for _, m := range msgs {
			w.send(to, m.Body)
			if err := from.Delete(w.t.Context(), m.Receipt); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// rows returns the rows there are, by hook and event.
func (c *crowd) rows() []hook.Delivery {
	var keys []hook.DeliveryKey
	for _, h := range c.hooks {
		for _, ev := range c.evs {
			keys = append(keys, hook.DeliveryKey{HookID: h.ID, EventID: ev.ID})
		}
	}
	rows, err := c.store.Deliveries(c.t.Context(), keys, c.clock().UnixMilli())
	if err != nil {
		c.t.Fatal(err)
	}
	return rows
}

// check wants that everything ended, that nothing is left, and that each
// attempt is on record but for `unrecorded` of a delivery. With mayCrash some may
// have ended as crashed.
func (c *crowd) check(unrecorded int, mayCrash bool) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	rows := c.rows()
	told, crashed := map[string]int{}, false
	for _, d := range rows {
		if !d.Terminal() {
			complain("%s is %s, due %v", d.Key(), d.Status, time.UnixMilli(d.DueMS).UTC())
		}
		made := 0
		for _, call := range c.action.calls {
			if call.key == d.Key() {
				made++
			}
		}
		if more := made - len(d.Attempts); more > unrecorded {
			complain("%s: %d attempts, %d of them on record", d.Key(), made, len(d.Attempts))
		}
		if d.Status == hook.Delivered {
			told[d.HookID]++
		}
		crashed = crashed || d.Reason == hook.ReasonCrashed
	}
	if crashed && !mayCrash {
		complain("a delivery ended as crashed")
	}
	for _, h := range c.hooks {
		// The receiver of a hook with one attempt may have failed each time.
		if told[h.ID] == 0 && h.Retry.MaxAttempts != 1 && !crashed {
			complain("hook %s was told nothing", h.ID)
		}
	}
	for _, ev := range c.evs {
		if !slices.ContainsFunc(rows, func(d hook.Delivery) bool { return d.Key() == (hook.DeliveryKey{HookID: c.plain.ID, EventID: ev.ID}) }) {
			complain("event %s was lost", ev.ID)
		}
	}
	for name, q := range map[string]*boltqueue.Queue{"events": c.events, "retry": c.retry, "dead letters": c.dead, "dead wake-ups": c.retry.DeadLetter()} {
		if a, b, d, err := q.Len(c.t.Context()); a+b+d > 0 || err != nil {
			complain("%s: %d visible, %d in flight, %d delayed, %v", name, a, b, d, err)
		}
	}
	return wrong
}

// kinds are the effects of a crowd's life.
var kinds = strings.Fields("W1 W2 W3 W4 W6 W7 W9 send:retry count")

// nth calls do once, at the n-th effect of a kind; hit says whether it came to
// that. It is for a fault's trouble, which it hands on to.
func (c *crowd) nth(kind string, n int, do func(at int) (bool, error)) (hit *bool) {
	hit = new(bool)
	c.fault.trouble = func(at int, effect string) (bool, error) {
		if effect == kind {
			if n--; n == 0 {
				*hit = true
				return do(at)
			}
		}
		return c.trouble(at, effect)
	}
	return hit
}

// stride is how far it is from one effect that is tested to the next.
func stride() int {
	if n, err := strconv.Atoi(os.Getenv("EVENTHOOKS_EVERY")); err == nil && n > 0 {
		return n
	}
	return everyNth
}

// everyEffect runs a test for the effects of each kind, from the first on, a
// stride apart, for as long as it says that there was one.
func everyEffect(t *testing.T, test func(t *testing.T, kind string, n int) (hit bool)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n += stride() {
				hit := false
				synctest.Test(t, func(t *testing.T) { hit = test(t, kind, n) })
				if !hit && n == 1 {
					t.Errorf("there was no %s: it is not tested", kind)
				}
				if !hit || t.Failed() {
					return
				}
			}
		})
	}
}

// TestCrash_ofMany makes the process die at each single effect of a crowd's life,
// before and after it took effect: units of several hooks in one packed message,
// redeliveries, nudges of the sweep, records that go through the queue.
func TestCrash_ofMany(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%v", after), func(t *testing.T) {
			everyEffect(t, func(t *testing.T, kind string, n int) bool {
				c := newCrowd(t)
				c.fault.after = after
				hit := c.nth(kind, n, func(at int) (bool, error) { c.fault.at = at; return false, nil })
				c.play()
				c.play()
				// A success whose record waits in the queue is told again when the
				// process dies before it, or the record, is stored.
				if wrong := c.check(1+1, false); len(wrong) > 0 {
					t.Errorf("death at %s %d, of %s:\n%s", kind, n, c.fault.names(), strings.Join(wrong, "\n"))
				}
				return *hit
			})
		})
	}
}

// TestCrash_everySingleFailure makes each effect of a crowd's life fail while the
// process goes on: once, or with all of its kind for ten minutes from then on;
// lost, or done with its answer lost.
func TestCrash_everySingleFailure(t *testing.T) {
	for _, lasting := range []time.Duration{0, 10 * time.Minute} {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("for %v, done %v", lasting, done), func(t *testing.T) {
				everyEffect(t, func(t *testing.T, kind string, n int) bool {
					c := newCrowd(t)
					hit := c.nth(kind, n, func(int) (bool, error) {
						until := c.clock().Add(lasting)
						c.fault.trouble = func(at int, effect string) (bool, error) {
							if effect == kind && c.clock().Before(until) {
								return done, errLost
							}
							return c.trouble(at, effect)
						}
						return done, errLost
					})
					// What cannot be stored is attempted again each time its message
					// comes, and what is claimed and cannot be put down may end as
					// crashed.
					unrecorded := 1
					if c.play(); lasting > 0 {
						unrecorded = 6
						c.play()
					}
					c.play()
					if wrong := c.check(unrecorded, lasting > 0); len(wrong) > 0 {
						t.Errorf("%s %d fails, of %s:\n%s", kind, n, c.fault.names(), strings.Join(wrong, "\n"))
					}
					return *hit
				})
			})
		}
	}
}

// TestCrash_foreverAndARedrive: a table or a queue that takes one kind of write
// no more, until what asked for it is among the dead letters. Once it works
// again and the dead letters are sent anew, everything ends.
func TestCrash_foreverAndARedrive(t *testing.T) {
	for _, name := range append([]string{"send:events"}, kinds...) {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, done %v", name, done), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c := newCrowd(t)
					c.fault.trouble = func(_ int, effect string) (bool, error) {
						if effect == name {
							return done, errLost
						}
						return false, nil
					}
					for range 8 { // two hours: ten receives, six minutes apart
						c.play()
					}
					c.fault.trouble = nil
					c.play()
					for from, to := range map[*boltqueue.Queue]*boltqueue.Queue{c.dead: c.events, c.retry.DeadLetter(): c.retry} {
						c.redrive(from, to)
					}
					for range 20 { // a row that was nudged in vain waits for up to four hours
						c.play()
					}
					if wrong := c.check(20, true); len(wrong) > 0 {
						t.Errorf("%s", strings.Join(wrong, "\n"))
					}
				})
			})
		}
	}
}
