package deliver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"eventhooks/internal/boltqueue"
	"eventhooks/internal/boltstore"
	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/record"
	"eventhooks/internal/retry"
)

// world is a deliver service on the embedded store and queues, under a clock
// that only the test moves.
type world struct {
	t      *testing.T
	svc    *deliver.Service
	o      deliver.Options
	store  *boltstore.Store
	events *boltqueue.Queue
	retry  *boltqueue.Queue
	dead   *boltqueue.Queue
	action *script
	fault  *fault
	ids    int
	ctx    context.Context // of the process

	mu  sync.Mutex
	now time.Time
}

var schedule = retry.Schedule{5 * time.Second, 30 * time.Second, 2 * time.Minute, 20 * time.Minute, time.Hour}

const visibility = 6 * time.Minute

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC), action: &script{}, fault: &fault{}}
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	db.MaxBatchDelay = 100 * time.Microsecond
	t.Cleanup(func() { db.Close() })
	if w.store, err = boltstore.New(db, boltstore.Options{}); err != nil {
		t.Fatal(err)
	}
	open := func(name string) *boltqueue.Queue {
		q, err := boltqueue.Open(db, name, boltqueue.Options{DeadLetter: name + "-dead", MaxReceives: 10, Now: w.clock})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	w.dead = open("events-dead")
	w.events, w.retry = open("events"), open("retry")
	w.o = deliver.Options{
		Store:  &faultStore{w.store, w.fault},
		Events: &faultQueue{w.events, w.fault, "events"}, Retry: &faultQueue{w.retry, w.fault, "retry"},
		Action: w.action, Schedule: schedule, Now: w.clock, Jitter: func() float64 { return 0 },
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	w.action.w = w
	w.restart()
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// restart begins a new process on the same data.
func (w *world) restart() {
	w.t.Helper()
	svc, err := deliver.New(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.svc = svc
	// A process that dies takes its context along, so that it waits for nothing.
	w.ctx, w.fault.kill = context.WithCancel(w.t.Context())
	w.t.Cleanup(w.fault.kill)
}

// hook stores a webhook hook for source s, event e, after edit.
func (w *world) hook(edit func(*hook.Hook)) hook.Hook {
	w.t.Helper()
	w.ids++
	h := hook.Hook{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", w.ids), Source: "s", Event: "e", Handler: hook.HandlerWebhook, Enabled: true}
	h.Config.URL = "https://receiver.example.test/"
	if edit != nil {
		edit(&h)
	}
	return w.put(h, hook.ExpectAbsent)
}

func (w *world) put(h hook.Hook, expect int64) hook.Hook {
	w.t.Helper()
	r, err := record.Hook(h)
	if err != nil {
		w.t.Fatal(err)
	}
	epoch, err := w.store.Write(w.t.Context(), hook.FeedHooks, []hook.Change{{Record: r, Expect: expect}}, nil, w.clock().UnixMilli())
	if err != nil {
		w.t.Fatal(err)
	}
	h.Changed = epoch
	if h.Gen == 0 {
		h.Gen = epoch
	}
	return h
}

// event makes an event of source s, event e.
func (w *world) event(data string) hook.Event {
	w.ids++
	return hook.Event{ID: fmt.Sprintf("0197a000-0000-7000-8000-%012d", w.ids), Source: "s", Event: "e", Time: w.clock(), Data: []byte(data)}
}

// post queues events, packed in one message.
func (w *world) post(events ...hook.Event) {
	w.t.Helper()
	for _, p := range message.Pack(events) {
		if failed, err := w.events.Send(w.t.Context(), []hook.Message{{Body: p.Body}}); err != nil || len(failed) > 0 {
			w.t.Fatal(failed, err)
		}
	}
}

// counts begins a process whose metrics are counted, and returns how to read what
// there was so far.
func (w *world) counts() func() map[string]int64 {
	w.t.Helper()
	var mu sync.Mutex
	sum := map[string]int64{}
	w.o.Metrics = func(counts map[string]int64) {
		mu.Lock()
		defer mu.Unlock()
		for name, n := range counts {
			sum[name] += n
		}
	}
	w.restart()
	return func() map[string]int64 {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(sum)
	}
}

// step hands what is visible to the service, as Lambda would, and says whether
// there was anything.
func (w *world) step() bool {
	w.t.Helper()
	any := false
	for _, q := range []*boltqueue.Queue{w.events, w.retry} {
		msgs, err := q.Receive(w.t.Context(), 5, visibility, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(msgs) == 0 {
			continue
		}
		any = true
		failed := w.svc.Deliver(w.ctx, msgs)
		if w.fault.dead() {
			return true // a dead process answers nothing
		}
		for _, m := range msgs {
			if !slices.Contains(failed, m.ID) {
				if err := q.Delete(w.t.Context(), m.Receipt); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
	return any
}

// settle works until nothing is visible.
func (w *world) settle() {
	w.t.Helper()
	for w.step() {
		if w.fault.dead() {
			return
		}
	}
}

// run lets time pass with a sweep each minute: in steps of five seconds while
// waits are short, then of a minute.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	w.settle()
	begin := w.clock()
	for w.clock().Before(begin.Add(d)) && !w.fault.dead() {
		step := time.Minute
		if w.clock().Before(begin.Add(3 * time.Minute)) {
			step = 5 * time.Second
		}
		for range time.Minute / step {
			w.advance(step)
			w.settle()
		}
		if w.fault.dead() {
			return
		}
		if err := w.svc.Sweep(w.ctx); err != nil && !w.fault.dead() && w.fault.trouble == nil {
			w.t.Fatal(err)
		}
		w.settle()
	}
}

// row returns a delivery's row.
func (w *world) row(h hook.Hook, ev hook.Event) hook.Delivery {
	w.t.Helper()
	d, err := w.store.Delivery(w.t.Context(), hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}, w.clock().UnixMilli())
	if err != nil {
		w.t.Fatalf("delivery of %s to %s: %v", ev.ID, h.ID, err)
	}
	return d
}

func (w *world) noRow(h hook.Hook, ev hook.Event) {
	w.t.Helper()
	d, err := w.store.Delivery(w.t.Context(), hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}, w.clock().UnixMilli())
	if !errors.Is(err, hook.ErrNotFound) {
		w.t.Fatalf("delivery of %s is %+v, %v; want none", ev.ID, d, err)
	}
}

func (w *world) wantStatus(h hook.Hook, ev hook.Event, status hook.Status, reason string, attempts int) {
	w.t.Helper()
	d := w.row(h, ev)
	if d.Status != status || d.Reason != reason || len(d.Attempts) != attempts {
		w.t.Errorf("delivery is %s %q after %d attempts; want %s %q after %d", d.Status, d.Reason, len(d.Attempts), status, reason, attempts)
	}
}

// script is an Action that answers as told, and remembers who was called when.
type script struct {
	w  *world
	mu sync.Mutex
	// answers are taken one by one; then every attempt succeeds.
	answers []hook.Outcome
	calls   []call
	during  func(n int) // called inside attempt n, from 1
}

type call struct {
	key hook.DeliveryKey
	at  time.Time
}

func (s *script) Do(_ context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome {
	if s.w.fault.dead() {
		return hook.Outcome{Error: "dead"}
	}
	s.mu.Lock()
	s.calls = append(s.calls, call{hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}, at})
	n := len(s.calls)
	out := hook.Outcome{Verdict: hook.Success, Code: 200}
	if len(s.answers) > 0 {
		out, s.answers = s.answers[0], s.answers[1:]
	}
	during := s.during
	s.mu.Unlock()
	if during != nil {
		during(n)
	}
	return out
}

// inside sets what is called inside each attempt from now on.
func (s *script) inside(during func(n int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.during = during
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// fails are n retryable failures.
func fails(n int) []hook.Outcome {
	return slices.Repeat([]hook.Outcome{{Verdict: hook.Retryable, Code: 503, Error: "the receiver answered 503"}}, n)
}

// fault makes the process die at its n-th effect, before or after it takes
// effect.
type fault struct {
	mu      sync.Mutex
	at      int // 0: never
	after   bool
	effects []string
	died    bool
	kill    func()
	// trouble, when set, makes effects fail while the process goes on: with an
	// error the effect is lost, or, with done, only its answer.
	trouble func(n int, name string) (done bool, err error)
}

var (
	errDead = errors.New("the process is dead")
	errLost = errors.New("no answer")
)

// effect runs one write or send. Once dead, nothing takes effect any more.
func (f *fault) effect(name string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.died {
		return errDead
	}
	f.effects = append(f.effects, name)
	if f.trouble != nil {
		if done, err := f.trouble(len(f.effects), name); err != nil {
			if done {
				_ = do() // what came of it is what the caller does not hear
			}
			return err
		}
	}
	if len(f.effects) != f.at {
		return do()
	}
	f.died = true
	defer f.kill()
	if f.after {
		if err := do(); err != nil {
			return err
		}
	}
	return errDead
}

func (f *fault) dead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.died
}

// die is a process that ends between two effects.
func (f *fault) die() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.died = true
	f.kill()
}

// revive is a new process: nothing fails any more.
func (f *fault) revive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.died, f.at = false, 0
}

func (f *fault) names() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.effects, " ")
}

type faultStore struct {
	*boltstore.Store
	f *fault
}

func (s *faultStore) CreateDelivery(ctx context.Context, d hook.Delivery, now int64) (ok bool, err error) {
	err = s.f.effect("W1", func() error { ok, err = s.Store.CreateDelivery(ctx, d, now); return err })
	return ok, err
}

func (s *faultStore) ClaimDelivery(ctx context.Context, w hook.Wake, lease, now int64) (d hook.Delivery, err error) {
	err = s.f.effect("W2", func() error { d, err = s.Store.ClaimDelivery(ctx, w, lease, now); return err })
	return d, err
}

func (s *faultStore) UpdateDelivery(ctx context.Context, d hook.Delivery, now int64) (seq int64, err error) {
	err = s.f.effect("W3", func() error { seq, err = s.Store.UpdateDelivery(ctx, d, now); return err })
	return seq, err
}

func (s *faultStore) RecordDelivered(ctx context.Context, d hook.Delivery, now int64) (ok bool, err error) {
	err = s.f.effect("W4", func() error { ok, err = s.Store.RecordDelivered(ctx, d, now); return err })
	return ok, err
}

func (s *faultStore) NudgeDelivery(ctx context.Context, o hook.Overdue, later int64) (ok bool, err error) {
	err = s.f.effect("W6", func() error { ok, err = s.Store.NudgeDelivery(ctx, o, later); return err })
	return ok, err
}

func (s *faultStore) Admit(ctx context.Context, a hook.Admission) error {
	return s.f.effect("W7", func() error { return s.Store.Admit(ctx, a) })
}

func (s *faultStore) GiveBack(ctx context.Context, d hook.Delivery) error {
	return s.f.effect("W9", func() error { return s.Store.GiveBack(ctx, d) })
}

func (s *faultStore) CountFailures(ctx context.Context, hookID string, gen, n, now int64) (b hook.Breaker, err error) {
	err = s.f.effect("W11", func() error { b, err = s.Store.CountFailures(ctx, hookID, gen, n, now); return err })
	return b, err
}

func (s *faultStore) UpdateBreaker(ctx context.Context, b hook.Breaker, now int64) (updated hook.Breaker, err error) {
	err = s.f.effect("W12", func() error { updated, err = s.Store.UpdateBreaker(ctx, b, now); return err })
	return updated, err
}

func (s *faultStore) DeleteBreaker(ctx context.Context, b hook.Breaker) error {
	return s.f.effect("W12", func() error { return s.Store.DeleteBreaker(ctx, b) })
}

func (s *faultStore) Write(ctx context.Context, feed hook.Feed, changes []hook.Change, rows []hook.Delivery, now int64) (epoch int64, err error) {
	err = s.f.effect("W8", func() error { epoch, err = s.Store.Write(ctx, feed, changes, rows, now); return err })
	return epoch, err
}

type faultQueue struct {
	*boltqueue.Queue
	f    *fault
	name string
}

func (q *faultQueue) Send(ctx context.Context, msgs []hook.Message) (failed []int, err error) {
	err = q.f.effect("send:"+q.name, func() error { failed, err = q.Queue.Send(ctx, msgs); return err })
	if errors.Is(err, errDead) || errors.Is(err, errLost) {
		failed = nil
		for i := range msgs {
			failed = append(failed, i)
		}
	}
	return failed, err
}

func (w *world) deadLetters() int {
	w.t.Helper()
	msgs, err := w.dead.Receive(w.t.Context(), 10, 0, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(msgs)
}
