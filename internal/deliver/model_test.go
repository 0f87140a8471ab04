package deliver_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/retry"
)

// model says how a run stands whose attempts ended so. It is all there is to
// know of retries.
func model(ends []hook.Outcome, retries int) (status hook.Status, reason string) {
	for i, out := range ends {
		switch {
		case out.Verdict == hook.Success:
			return hook.Delivered, ""
		case out.Verdict == hook.Final:
			return hook.Failed, out.Reason
		case i == retries:
			return hook.Failed, hook.ReasonExhausted
		}
	}
	return hook.Pending, ""
}

// memory is the model of on_change and snooze for one hook: the state of its
// slots and windows.
type memory struct {
	slots   map[string]slot
	windows map[string]window
}

type slot struct{ said, seen, by string }

type window struct {
	until time.Time
	by    string
}

// placeOf is the slot of an event: its target.
func placeOf(ev hook.Event) string {
	place, _, _ := strings.Cut(string(ev.Data), ",")
	return place
}

// tells says whether an event that has no row is told, and remembers it.
func (m memory) tells(h hook.Hook, ev hook.Event, now time.Time) bool {
	place, all := placeOf(ev), string(ev.Data)
	s, w := m.slots[place], m.windows[all]
	if h.ComparesChanges() {
		if ev.ID <= s.seen {
			return false
		}
		if s.said == all {
			s.seen = ev.ID
			m.slots[place] = s
			return false
		}
	}
	if h.Snoozed() > 0 {
		if w.until.After(now) {
			return false
		}
		m.windows[all] = window{now.Add(time.Duration(h.Snoozed()) * time.Second), ev.ID}
	}
	m.slots[place] = slot{all, ev.ID, ev.ID}
	return true
}

// failed lets the next event be told, unless another was told since: nobody
// heard of this one, which failed or was superseded.
func (m memory) failed(ev hook.Event) {
	place := placeOf(ev)
	if s := m.slots[place]; s.by == ev.ID {
		s.said = ""
		m.slots[place] = s
	}
	if w := m.windows[string(ev.Data)]; w.by == ev.ID {
		m.windows[string(ev.Data)] = window{by: w.by}
	}
}

// TestModel lets random receivers, deaths, lost answers, and messages that come
// late, twice and in no order loose on deliver, and holds what is on record to
// the model. EVENTHOOKS_TRIALS sets how many sequences are tried,
// EVENTHOOKS_SEED where they begin.
func TestModel(t *testing.T) {
	trials, seed := modelTrials, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("EVENTHOOKS_TRIALS")); err == nil {
		trials, seed = n, uint64(time.Now().UnixNano())
	}
	if n, err := strconv.ParseUint(os.Getenv("EVENTHOOKS_SEED"), 10, 64); err == nil {
		seed = n
	}
	const shards = 4
	sum := make(map[string]int)
	var mu sync.Mutex
	t.Run("trials", func(t *testing.T) {
		for s := range shards {
			t.Run(strconv.Itoa(s), func(t *testing.T) {
				t.Parallel()
				for i := s; i < trials && !t.Failed(); i += shards {
					choices := make([]byte, 400)
					r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), byte(i), byte(i >> 8), byte(i >> 16)})
					_, _ = r.Read(choices)
					x := try(t, choices)
					if len(x.wrong) > 0 {
						x = shrink(t, choices, x)
						t.Errorf("seed %d, sequence %d:\n%s\nwhat happened:\n%s", seed, i, strings.Join(x.wrong, "\n"), strings.Join(x.story, "\n"))
					}
					mu.Lock()
					for k, n := range x.sum {
						sum[k] += n
					}
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("seed %d: %d sequences: %v", seed, trials, sum)
	if t.Failed() {
		return
	}
	for _, k := range []string{"attempt", "death", "lost answer", "late", "copy", "redeliver", "suppressed", "delivered", "failed", "superseded"} {
		if sum[k] == 0 {
			t.Errorf("there was no %s in all sequences: it is not tested", k)
		}
	}
}

// try runs one sequence.
func try(t *testing.T, choices []byte) (x *trial) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x = newTrial(t, choices)
		x.run()
	})
	return x
}

// shrink looks for a sequence with less in it that goes wrong too.
func shrink(t *testing.T, choices []byte, x *trial) *trial {
	t.Helper()
	for size := len(choices) / 2; size > 0; size /= 2 {
		for at := 0; at < len(choices); at += size {
			less := slices.Clone(choices)
			clear(less[at:min(at+size, len(less))])
			if slices.Equal(less, choices) {
				continue
			}
			if y := try(t, less); len(y.wrong) > 0 {
				choices, x = less, y
			}
		}
	}
	return x
}

// trial is one sequence: a world whose queues, receivers and accidents follow a
// tape of choices. A choice of 0 makes the least trouble, and so does what is
// beyond the tape's end.
type trial struct {
	*world
	queues [2]*bag // fresh events, wake-ups
	others [2]*deliver.Service
	hooks  []hook.Hook
	posted []hook.Event
	memory map[string]memory // by hook

	mu      sync.Mutex
	choices []byte
	attempt map[hook.DeliveryKey][]made
	claims  map[string]bool          // claims that were attempted
	told    map[string]string        // the newest event attempted, by hook and slot
	blind   map[string]bool          // events of this batch that may have been told without a row
	extra   map[hook.DeliveryKey]int // attempts that a copy of a message may have made
	streak  map[string]int           // failures one after the other, by hook
	last    map[string]time.Time     // the last of them
	crashes int                      // deaths, each of which may cost an attempt its record
	waking  bool                     // this batch is of wake-ups
	lost    int                      // answers lost
	copies  int                      // messages that came once more

	wrong, story []string
	sum          map[string]int
}

// accidents bounds the deaths and lost answers of a sequence. Each may cost a
// claim, and a row that is claimed in vain too often ends as crashed, which is
// another test's matter.
const accidents = deliver.MaxTries - 2

// made is an attempt that was made.
type made struct {
	at, end time.Time
	out     hook.Outcome
	blind   bool
}

func newTrial(t *testing.T, choices []byte) *trial {
	x := &trial{
		world: newWorld(t), choices: choices, memory: map[string]memory{},
		attempt: map[hook.DeliveryKey][]made{}, claims: map[string]bool{}, told: map[string]string{}, extra: map[hook.DeliveryKey]int{},
		streak: map[string]int{}, last: map[string]time.Time{}, sum: map[string]int{},
	}
	for i, name := range []string{"events", "retry"} {
		x.queues[i] = &bag{x: x, name: name}
	}
	x.o.Store = &noting{x.o.Store, x.fault}
	x.o.Events, x.o.Retry, x.o.Action = x.queues[0], x.queues[1], x
	x.o.FailuresOnly = x.pick(4) == 3
	x.o.Jitter = func() float64 { return []float64{0, 0, 1, 0.5}[x.pick(4)] }
	x.fault.trouble = x.trouble
	x.begin()
	return x
}

// pick takes a choice below n.
func (x *trial) pick(n int) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.take(n)
}

func (x *trial) take(n int) int {
	if len(x.choices) == 0 {
		return 0
	}
	c := int(x.choices[0]) % n
	x.choices = x.choices[1:]
	return c
}

// seldom is true once in n, and never beyond the tape's end.
func (x *trial) seldom(n int) bool { return x.pick(n) == n-1 }

func (x *trial) tell(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.story = append(x.story, x.clock().Format("02 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (x *trial) count(what string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sum[what]++
}

func (x *trial) complain(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wrong = append(x.wrong, x.clock().Format("02 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// begin starts two new processes.
func (x *trial) begin() {
	x.restart()
	other, err := deliver.New(x.o)
	if err != nil {
		x.t.Fatal(err)
	}
	x.others = [2]*deliver.Service{x.svc, other}
}

// trouble loses an effect, or the answer to it, now and then.
func (x *trial) trouble(_ int, name string) (done bool, err error) {
	if !x.may() || !x.seldom(24) {
		return false, nil
	}
	done = x.pick(2) == 1
	x.tell("%s: no answer, done: %v", name, done)
	x.count("lost answer")
	x.mu.Lock()
	x.lost++
	x.mu.Unlock()
	return done, errLost
}

func (x *trial) run() {
	x.setup()
	for range 3000 {
		if len(x.wrong) > 0 {
			return
		}
		next := x.visible()
		switch {
		case x.seldom(16):
			x.redeliver()
		case x.seldom(12):
			x.sweep()
		case len(next) > 0:
			x.deliver(next)
		case !x.tick():
			x.judge()
			return
		}
	}
	x.complain("it does not end")
}

func (x *trial) setup() {
	seconds, yes := int64(40), true
	for range 1 + x.pick(2) {
		kind := x.pick(4)
		h := x.hook(func(h *hook.Hook) {
			h.Source, h.Event = "balancer", "health" // has a slot for each target
			if kind&1 != 0 {
				h.Snooze = &seconds
			}
			if kind&2 != 0 {
				h.OnChange = &yes
			}
			h.Retry.MaxAttempts = []int64{0, 2, 4}[x.pick(3)]
			h.Retry.MaxAge = []int64{0, 0, 0, 300}[x.pick(4)]
		})
		x.hooks = append(x.hooks, h)
		x.memory[h.ID] = memory{map[string]slot{}, map[string]window{}}
		x.tell("hook %s: snooze %v, on_change %v, retry %+v", short(h.ID), kind&1 != 0, kind&2 != 0, h.Retry)
	}
	var pack []hook.Event
	for range 1 + x.pick(5) {
		ev := x.event(fmt.Sprintf(`{"ip":"%d","health":"%d"}`, x.pick(4)/3, x.pick(2)))
		ev.Source, ev.Event = "balancer", "health"
		x.posted = append(x.posted, ev)
		x.tell("event %s: %s", short(ev.ID), ev.Data)
		if pack = append(pack, ev); x.pick(3) < 2 {
			x.queues[0].put(message.Pack(pack)[0].Body, time.Duration([]int{0, 0, 1, 10, 60}[x.pick(5)])*time.Second)
			pack = nil
		}
	}
	if len(pack) > 0 {
		x.queues[0].put(message.Pack(pack)[0].Body, 0)
	}
}

// short is an id as the story tells it.
func short(id string) string { return strings.TrimLeft(id[len(id)-12:], "0") }

// visible returns messages of one queue.
func (x *trial) visible() []*bagged {
	first := x.pick(2)
	for i := range x.queues {
		if v := x.queues[(first+i)%2].visible(); len(v) > 0 {
			x.waking = (first+i)%2 == 1
			return v
		}
	}
	return nil
}

// deliver hands some of the messages to one of the processes, and judges what it
// told and what it did not.
func (x *trial) deliver(from []*bagged) {
	var batch []*bagged
	for range 1 + x.pick(3) {
		if len(from) > 0 {
			i := x.pick(len(from))
			batch = append(batch, from[i])
			from = slices.Delete(slices.Clone(from), i, i+1)
		}
	}
	var msgs []hook.Received
	var events []hook.Event
	x.blind = map[string]bool{}
	for _, m := range batch {
		m.Receives++
		if m.Receives > 10 {
			x.complain("a message was received for the eleventh time: %s", m.Body)
		}
		m.at = x.clock().Add(visibility)
		msgs = append(msgs, m.Received)
		body, err := message.Decode(m.Body)
		if err != nil {
			x.complain("decode: %v", err)
			return
		}
		if len(body.Events) > 1 && m.Receives > 1 {
			continue // it is sent on
		}
		for _, ev := range body.Events {
			events = append(events, ev)
			if m.Receives == 1 && !body.Again {
				x.blind[ev.ID] = true
			}
		}
	}
	before := x.rows()
	if x.may() && x.seldom(5) {
		x.fault.mu.Lock()
		x.fault.at, x.fault.after = len(x.fault.effects)+1+x.pick(4), x.pick(2) == 1
		x.fault.mu.Unlock()
	}
	x.fault.mu.Lock()
	from0 := len(x.fault.effects)
	x.fault.mu.Unlock()
	now := x.clock()
	failed := x.others[x.pick(2)].Deliver(x.ctx, msgs)
	x.fault.mu.Lock()
	effects := slices.Clone(x.fault.effects[from0:])
	x.fault.mu.Unlock()
	died := x.fault.dead()
	x.tell("delivered %s: effects %v, died %v, failed %v", names(msgs), effects, died, failed)
	if died {
		x.crash()
	} else {
		for _, m := range batch {
			if !slices.Contains(failed, m.ID) {
				m.done(x)
			}
		}
	}
	x.onward(before)
	x.suppress(now, before, events, died || len(failed) > 0)
}

// onward complains of rows that went back: to an earlier run, or from delivered.
func (x *trial) onward(before map[hook.DeliveryKey]hook.Delivery) {
	after := x.rows()
	for key, old := range before {
		d := after[key]
		if d.Run < old.Run || d.Seq < old.Seq || d.Run == old.Run && old.Status == hook.Delivered && d.Status != hook.Delivered {
			x.complain("%s of event %s went from %s of run %d, seq %d, to %s of run %d, seq %d",
				short(key.HookID), short(key.EventID), old.Status, old.Run, old.Seq, d.Status, d.Run, d.Seq)
		}
	}
}

func names(msgs []hook.Received) string {
	var out []string
	for _, m := range msgs {
		body, _ := message.Decode(m.Body)
		name := fmt.Sprintf("(receive %d)", m.Receives)
		for _, ev := range body.Events {
			name += " " + short(ev.ID)
		}
		if body.Wake != nil {
			name += fmt.Sprintf(" wake %s to %s seq %d", short(body.Wake.EventID), short(body.Wake.HookID), body.Wake.Seq)
		}
		if body.Record != nil {
			name += " record " + short(body.Record.Event.ID)
		}
		out = append(out, name)
	}
	return strings.Join(out, ", ")
}

// may says whether there may be another accident.
func (x *trial) may() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.crashes+x.lost < accidents
}

// crash begins anew after a death.
func (x *trial) crash() {
	x.count("death")
	x.mu.Lock()
	x.crashes++
	x.mu.Unlock()
	x.fault.revive()
	x.begin()
}

// rows returns all rows.
func (x *trial) rows() map[hook.DeliveryKey]hook.Delivery {
	var keys []hook.DeliveryKey
	for _, h := range x.hooks {
		for _, ev := range x.posted {
			keys = append(keys, hook.DeliveryKey{HookID: h.ID, EventID: ev.ID})
		}
	}
	found, err := x.store.Deliveries(x.t.Context(), keys, x.clock().UnixMilli())
	if err != nil {
		x.t.Fatal(err)
	}
	rows := map[hook.DeliveryKey]hook.Delivery{}
	for _, d := range found {
		rows[d.Key()] = d
	}
	return rows
}

// suppress compares what a batch admitted to the model of on_change and snooze.
func (x *trial) suppress(now time.Time, before map[hook.DeliveryKey]hook.Delivery, events []hook.Event, partly bool) {
	after := x.rows()
	slices.SortFunc(events, func(a, b hook.Event) int { return cmp.Compare(a.ID, b.ID) })
	events = slices.CompactFunc(events, func(a, b hook.Event) bool { return a.ID == b.ID })
	for _, h := range x.hooks {
		if !h.ComparesChanges() && h.Snoozed() == 0 {
			continue
		}
		m := x.memory[h.ID]
		for _, ev := range events {
			key := hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}
			_, had := before[key]
			_, has := after[key]
			if had || partly && !has {
				continue // it was not judged, or perhaps not
			}
			if told := m.tells(h, ev, now); told != has {
				x.complain("event %s has a row of hook %s: %v; the model says %v", short(ev.ID), short(h.ID), has, told)
			}
			if !has {
				x.count("suppressed")
			}
		}
		for key, d := range after {
			untold := d.Status == hook.Failed || d.Status == hook.Superseded
			if old := before[key]; key.HookID == h.ID && untold && (old.Status != d.Status || old.Run != d.Run) {
				m.failed(d.Event)
			}
		}
		if partly {
			x.resume(h, m)
		}
	}
}

// resume takes over from the store what an interrupted batch has seen: only
// what it wrote says how far it came.
func (x *trial) resume(h hook.Hook, m memory) {
	for _, d := range x.rows() {
		if d.HookID != h.ID || d.SlotKey == "" {
			continue
		}
		place := placeOf(d.Event)
		slots, err := x.store.Slots(x.t.Context(), h.ID, []string{d.SlotKey}, x.clock().UnixMilli())
		if err != nil {
			x.t.Fatal(err)
		}
		s := m.slots[place]
		if s.seen = slots[d.SlotKey].Seen; slots[d.SlotKey].Sig == "" {
			s.said = ""
		}
		m.slots[place] = s
	}
	for _, d := range x.rows() {
		if d.HookID != h.ID || d.SnoozeKey == "" {
			continue
		}
		w, err := x.store.Snoozes(x.t.Context(), h.ID, []string{d.SnoozeKey}, x.clock().UnixMilli())
		if err != nil {
			x.t.Fatal(err)
		}
		if w[d.SnoozeKey].UntilMS == 0 {
			m.windows[string(d.Event.Data)] = window{by: w[d.SnoozeKey].By}
		}
	}
}

// redeliver begins another run of some delivery, as admin does.
func (x *trial) redeliver() {
	rows := x.rows()
	var keys []hook.DeliveryKey
	for _, h := range x.hooks {
		for _, ev := range x.posted {
			if d, ok := rows[hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}]; ok && d.Run < 3 {
				keys = append(keys, d.Key())
			}
		}
	}
	if len(keys) == 0 {
		return
	}
	d := rows[keys[x.pick(len(keys))]]
	wake := x.again(d)
	x.tell("redelivered %s to %s, which was %s", short(d.Event.ID), short(d.HookID), d.Status)
	x.count("redeliver")
	if x.pick(4) < 3 { // else admin dies before it sends
		x.queues[1].put(message.Wake(wake), 0)
	}
}

// again stores another run of a row (W5).
func (w *world) again(d hook.Delivery) hook.Wake {
	w.t.Helper()
	now := w.clock()
	d.Run, d.Status, d.Reason = d.Run+1, hook.Pending, ""
	d.Attempt, d.Tries, d.Parks, d.Nudges, d.LeaseMS, d.ExpiresAt = 0, 0, 0, 0, 0, 0
	d.DueMS, d.WakeMS, d.DeadlineMS = now.UnixMilli(), now.Add(hook.WakeSlack).UnixMilli(), now.Add(5*24*time.Hour).UnixMilli()
	seq, err := w.store.RedeliverDelivery(w.t.Context(), d, now.UnixMilli())
	if err != nil {
		w.t.Fatal(err)
	}
	return hook.Wake{DeliveryKey: d.Key(), Seq: seq}
}

func (x *trial) sweep() {
	x.tell("sweep")
	_ = x.others[x.pick(2)].Sweep(x.ctx) // what it could not do, the next one does
	if x.fault.dead() {
		x.tell("died in the sweep")
		x.crash()
	}
}

// tick moves the clock to where something is to be done; false when there is
// nothing left.
func (x *trial) tick() bool {
	var next time.Time
	earlier := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	for _, q := range x.queues {
		for _, m := range q.all() {
			earlier(m.at)
		}
	}
	sweeps := false
	for _, d := range x.rows() {
		if d.Status == hook.Pending {
			at := time.UnixMilli(d.WakeMS).UTC()
			if whole := at.Truncate(time.Minute); whole.Before(at) {
				at = whole.Add(time.Minute)
			}
			if sweeps = sweeps || next.IsZero() || !at.After(next); sweeps {
				earlier(at)
			}
		}
	}
	if next.IsZero() {
		return false
	}
	if next.After(x.clock()) {
		x.setClock(next)
	}
	if len(x.queues[0].visible())+len(x.queues[1].visible()) == 0 {
		x.sweep()
	}
	return true
}

// Do makes an attempt: it checks that there may be one now, and ends as the
// tape says.
func (x *trial) Do(_ context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome {
	key := hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}
	if x.fault.dead() {
		return hook.Outcome{Error: "dead"}
	}
	x.count("attempt")
	blind := x.permitted(h, ev, at)
	out := x.answer(key)
	x.tell("attempt of %s to %s: %s", short(ev.ID), short(h.ID), cmp.Or(out.Error, "success"))
	x.mu.Lock()
	out.IP = fmt.Sprintf("192.0.2.%d", len(x.attempt[key])) // tells this attempt from all others of its delivery
	x.attempt[key] = append(x.attempt[key], made{at, x.clock(), out, blind})
	x.mu.Unlock()
	if x.may() && x.seldom(16) {
		x.tell("died in the attempt")
		x.fault.die()
	}
	return out
}

// permitted complains of an attempt that should not be, and says whether it was
// made without a look at the row.
func (x *trial) permitted(h hook.Hook, ev hook.Event, at time.Time) (blind bool) {
	key := hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}
	rows, err := x.store.Deliveries(x.t.Context(), []hook.DeliveryKey{key}, at.UnixMilli())
	if err != nil {
		x.complain("read row: %v", err)
		return false
	}
	judged := h.ComparesChanges() || h.Snoozed() > 0
	x.mu.Lock()
	// Without a record of successes, a message that comes again tells them again.
	blind = !x.waking && !judged && (x.blind[ev.ID] || x.o.FailuresOnly && len(rows) == 0)
	place := h.ID + placeOf(ev)
	newest := x.told[place]
	earlier := slices.Clone(x.attempt[key])
	if len(rows) == 0 || rows[0].Run == 1 {
		x.told[place] = max(newest, ev.ID)
	}
	if blind {
		x.extra[key]++
	}
	x.mu.Unlock()

	if h.ComparesChanges() && newest > ev.ID && rows[0].Run == 1 {
		x.complain("event %s is told to %s after %s, which is newer", short(ev.ID), short(h.ID), short(newest))
	}
	if blind {
		return true
	}
	if len(rows) == 0 {
		if judged || x.waking {
			x.complain("an attempt of %s to %s without a row", short(ev.ID), short(h.ID))
		}
		return false
	}
	d := rows[0]
	if d.Status != hook.Pending || d.LeaseMS <= at.UnixMilli() {
		x.complain("an attempt of %s to %s without a claim: %+v", short(ev.ID), short(h.ID), d)
		return false
	}
	x.mu.Lock()
	claim := fmt.Sprintf("%s %d", key, d.Seq)
	twice := x.claims[claim]
	x.claims[claim] = true
	x.mu.Unlock()
	if twice {
		x.complain("two attempts under one claim of %s to %s", short(ev.ID), short(h.ID))
	}
	if d.Attempt == 0 {
		return false
	}
	last := d.Attempts[len(d.Attempts)-1]
	i := slices.IndexFunc(earlier, func(m made) bool { return recorded(last, m) })
	if i < 0 {
		x.complain("an attempt of %s to %s is on record that was never made", short(ev.ID), short(h.ID))
		return false
	}
	wait := max(schedule[min(int(d.Attempt), len(schedule))-1], min(earlier[i].out.RetryAfter, retry.MaxRetryAfter))
	if due := earlier[i].end.Add(wait); at.Before(due) {
		x.complain("an attempt of %s to %s %v before its time", short(ev.ID), short(h.ID), due.Sub(at))
	}
	return false
}

func recorded(a hook.Attempt, m made) bool {
	return a.IP == m.out.IP && a.AtMS == m.at.UnixMilli() && a.Code == m.out.Code && a.Error == m.out.Error
}

// answer is what the receiver says this time. Nine failures in a row are the
// most: a tenth is more than one delivery's affair.
func (x *trial) answer(key hook.DeliveryKey) hook.Outcome {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out hook.Outcome
	switch x.take(12) {
	case 1, 2, 3:
		out = hook.Outcome{Code: 503, Error: "the receiver answered 503"}
	case 4:
		out = hook.Outcome{Code: 429, Error: "the receiver answered 429", RetryAfter: time.Duration(x.take(200)) * time.Second}
	case 5:
		out = hook.Outcome{Code: 503, Error: "the receiver answered 503, with a wish", RetryAfter: time.Duration(x.take(20)) * time.Hour}
	case 6, 7:
		out = hook.Outcome{Error: "connection refused"}
	case 8:
		x.advance(10 * time.Second)
		out = hook.Outcome{Error: "no answer within 10 s", Took: 10 * time.Second}
	case 9:
		// Not 410, which is more than one delivery's affair, too.
		out = hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonBlocked, Error: "the address is blocked"}
	case 10:
		out = hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonUnrendered, Error: "the body does not parse"}
	default:
		out = hook.Outcome{Verdict: hook.Success, Code: 200}
	}
	now := x.clock()
	if now.Sub(x.last[key.HookID]) > 10*time.Minute {
		x.streak[key.HookID] = 0
	}
	if x.last[key.HookID] = now; out.Verdict == hook.Success || x.streak[key.HookID] == 9 {
		x.streak[key.HookID] = 0
		return hook.Outcome{Verdict: hook.Success, Code: 200}
	}
	x.streak[key.HookID]++
	return out
}

// judge compares what is on record in the end to the model.
func (x *trial) judge() {
	rows := x.rows()
	for _, h := range x.hooks {
		for _, ev := range x.posted {
			key := hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}
			d, there := rows[key]
			if x.count(cmp.Or(string(d.Status), "no row")); there {
				x.judgeRow(h, d)
				continue
			}
			judged := h.ComparesChanges() || h.Snoozed() > 0
			success := slices.ContainsFunc(x.attempt[key], func(m made) bool { return m.out.Verdict == hook.Success })
			if !judged && (!x.o.FailuresOnly || !success) {
				x.complain("%s to %s was lost", short(ev.ID), short(h.ID))
			}
			if judged && len(x.attempt[key]) > 0 {
				x.complain("%s to %s was attempted and not admitted", short(ev.ID), short(h.ID))
			}
		}
	}
}

func (x *trial) judgeRow(h hook.Hook, d hook.Delivery) {
	key, calls := d.Key(), x.attempt[d.Key()]
	what := fmt.Sprintf("%s to %s (%s %q, run %d, attempt %d, %d on record)", short(d.Event.ID), short(d.HookID), d.Status, d.Reason, d.Run, d.Attempt, len(d.Attempts))
	var ends []hook.Outcome
	var last made
	replaced := false // a success that a copy of the message made stands in place of what failed before
	for at, a := range d.Attempts {
		i := slices.IndexFunc(calls, func(m made) bool { return recorded(a, m) })
		if i < 0 {
			x.complain("%s: attempt %d of the record was not made, or not in this order", what, at+1)
			return
		}
		last, calls = calls[i], calls[i+1:]
		replaced = replaced || last.blind && last.out.Verdict == hook.Success
		if int64(at) >= int64(len(d.Attempts))-d.Attempt {
			ends = append(ends, last.out)
		}
	}
	// What a death cost, and what a copy of a message told beside.
	missing := len(x.attempt[key]) - len(d.Attempts)
	if may := x.crashes + max(0, x.extra[key]-1); missing > may && !replaced {
		x.complain("%s: %d attempts were made; %d deaths and %d copies explain at most %d that are not on record", what, len(x.attempt[key]), x.crashes, x.extra[key]-1, may)
	}
	if int64(len(ends)) != d.Attempt {
		x.complain("%s: the numbers of attempts differ", what)
		return
	}
	retries := len(schedule)
	if h.Retry.MaxAttempts > 0 {
		retries = int(h.Retry.MaxAttempts) - 1
	}
	status, reason := model(ends, retries)
	switch {
	case d.Status == status && d.Reason == reason && status != hook.Pending:
	case status == hook.Pending && d.Status == hook.Superseded && d.Reason == hook.ReasonNewer:
		if by := x.memory[h.ID].slots[placeOf(d.Event)].by; !h.ComparesChanges() || d.Run != 1 || by <= d.Event.ID {
			x.complain("%s: nothing newer than it was told", what)
		}
	case status == hook.Pending && d.Status == hook.Failed && d.Reason == hook.ReasonExpired:
		wait := time.Duration(0)
		if d.Attempt > 0 {
			wait = max(schedule[min(int(d.Attempt), len(schedule))-1], min(last.out.RetryAfter, retry.MaxRetryAfter))
		}
		// Jitter adds a fifth at most.
		if ended := time.Unix(d.ExpiresAt, 0).Add(-deliver.Retention); ended.Add(wait*6/5+time.Second).UnixMilli() < d.DeadlineMS {
			x.complain("%s: it had time until %v", what, time.UnixMilli(d.DeadlineMS))
		}
	default:
		x.complain("%s: the model says %s %q", what, status, reason)
	}
}

// bag is a queue without order: what is visible comes as the tape says, late,
// and sometimes twice.
type bag struct {
	x    *trial
	name string
	mu   sync.Mutex
	msgs []*bagged
	n    int
}

type bagged struct {
	hook.Received
	q  *bag
	at time.Time // when it is visible
}

// Send is one effect of the process.
func (b *bag) Send(_ context.Context, msgs []hook.Message) (failed []int, err error) {
	err = b.x.fault.effect("send:"+b.name, func() error {
		for _, m := range msgs {
			if err := m.Check(); err != nil {
				b.x.complain("send: %v", err)
			}
			b.put(m.Body, m.Delay)
		}
		return nil
	})
	if err != nil {
		for i := range msgs {
			failed = append(failed, i)
		}
	}
	return failed, err
}

func (b *bag) put(body string, delay time.Duration) {
	if b.x.seldom(10) {
		late := []time.Duration{time.Minute, 20 * time.Minute, 5 * time.Hour}[b.x.pick(3)]
		b.x.tell("the next message comes %v late", late)
		b.x.count("late")
		delay += late
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n++
	b.msgs = append(b.msgs, &bagged{hook.Received{ID: fmt.Sprintf("%s-%d", b.name, b.n), Body: body}, b, b.x.clock().Add(delay)})
}

func (b *bag) all() []*bagged {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.msgs)
}

func (b *bag) visible() []*bagged {
	now := b.x.clock()
	return slices.DeleteFunc(b.all(), func(m *bagged) bool { return m.at.After(now) })
}

// done removes a message, or lets it come once more.
func (m *bagged) done(x *trial) {
	if x.copies < 4 && x.seldom(8) {
		x.copies++
		x.count("copy")
		wait := []time.Duration{0, time.Minute, visibility, 5 * time.Hour}[x.pick(4)]
		if x.pick(2) == 1 {
			m.Receives = 0 // delivered twice at once
		}
		m.at = x.clock().Add(wait)
		x.tell("it comes again in %v, as received %d times", wait, m.Receives)
		return
	}
	m.q.mu.Lock()
	defer m.q.mu.Unlock()
	m.q.msgs = slices.DeleteFunc(m.q.msgs, func(o *bagged) bool { return o == m })
}

// noting is a store whose counts of what was suppressed are effects too.
type noting struct {
	deliver.Store
	f *fault
}

func (s *noting) SeeSlot(ctx context.Context, hookID, key string, saw hook.SlotSight, now int64) (ok bool, err error) {
	err = s.f.effect("W7", func() error { ok, err = s.Store.SeeSlot(ctx, hookID, key, saw, now); return err })
	return ok, err
}

func (s *noting) AddSuppressed(ctx context.Context, hookID, key string, untilMS, n int64, lastEvent, reason string) (ok bool, err error) {
	err = s.f.effect("count", func() error {
		ok, err = s.Store.AddSuppressed(ctx, hookID, key, untilMS, n, lastEvent, reason)
		return err
	})
	return ok, err
}
