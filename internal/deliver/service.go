// Package deliver brings events to hooks: it takes batches of queue messages,
// finds the hooks that want each event, runs their actions, and keeps on record
// what became of every delivery until it has ended.
//
// The row in the store is the truth and the queue is the alarm clock
// (docs/delivery-protocol.md, whose writes W1 to W12 the comments name). At every
// line the question is: what if we die here?
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"eventhooks/internal/feed"
	"eventhooks/internal/hook"
	"eventhooks/internal/retry"
)

// Store is what deliver asks of a store; package storetest says what each
// method promises.
type Store interface {
	feed.Store
	Get(ctx context.Context, kind, id string, now int64) (hook.Record, error)
	CreateDelivery(ctx context.Context, d hook.Delivery, now int64) (created bool, err error)
	Deliveries(ctx context.Context, keys []hook.DeliveryKey, now int64) ([]hook.Delivery, error)
	ClaimDelivery(ctx context.Context, w hook.Wake, lease, now int64) (hook.Delivery, error)
	UpdateDelivery(ctx context.Context, d hook.Delivery, now int64) (seq int64, err error)
	RecordDelivered(ctx context.Context, d hook.Delivery, now int64) (recorded bool, err error)
	NudgeDelivery(ctx context.Context, o hook.Overdue, later int64) (nudged bool, err error)
	OverdueDeliveries(ctx context.Context, shard int, now int64, limit int) ([]hook.Overdue, error)
	Slots(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Slot, error)
	Snoozes(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Snooze, error)
	Admit(ctx context.Context, a hook.Admission) error
	SeeSlot(ctx context.Context, hookID, key string, saw hook.SlotSight, now int64) (seen bool, err error)
	AddSuppressed(ctx context.Context, hookID, key string, untilMS, n int64, lastEvent, reason string) (added bool, err error)
	GiveBack(ctx context.Context, d hook.Delivery) error
	CountFailures(ctx context.Context, hookID string, gen, n, now int64) (hook.Breaker, error)
	Breaker(ctx context.Context, hookID string, gen, now int64) (hook.Breaker, error)
	UpdateBreaker(ctx context.Context, b hook.Breaker, now int64) (hook.Breaker, error)
	DeleteBreaker(ctx context.Context, b hook.Breaker) error
	OverdueBreakers(ctx context.Context, now int64, limit int) ([]hook.Breaker, error)
	PendingDeliveries(ctx context.Context, hookID, after string, limit int) (page []hook.Waiting, more bool, err error)
	Write(ctx context.Context, feed hook.Feed, changes []hook.Change, rows []hook.Delivery, now int64) (epoch int64, err error)
}

// Queue sends messages; it returns the indexes of those that did not get there.
type Queue interface {
	Send(ctx context.Context, msgs []hook.Message) (failed []int, err error)
}

// Action makes one attempt. It honours ctx, never panics, and never takes
// longer than the hook's timeout.
type Action interface {
	Do(ctx context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome
}

// Limits of one invocation; the others stand beside what they bound, and
// docs/architecture.md has the table of all numbers.
const (
	// Margin is what is kept of the invocation's time to record outcomes.
	Margin = 5 * time.Second
	// MaxTries is how often a delivery is claimed without a recorded attempt
	// before it ends as crashed.
	MaxTries = 5
	// Retention is how long the record of an ended delivery is kept.
	Retention = 7 * 24 * time.Hour
	// lease is an attempt's claim when the invocation has no deadline.
	lease = 90 * time.Second
)

// Options of a Service.
type Options struct {
	Store  Store  // required
	Events Queue  // required: where fresh events come from, and go when they are split
	Retry  Queue  // required: the alarm clock
	Action Action // required

	Schedule retry.Schedule // waits between attempts; nil: retry.Default()
	// FailuresOnly leaves out the record of a delivery whose first attempt
	// succeeds.
	FailuresOnly bool
	// Metrics takes what was counted, by name, after each batch and each sweep in
	// which anything was; nil counts nothing.
	Metrics func(counts map[string]int64)

	Now    func() time.Time // default time.Now
	Jitter func() float64   // 0 to 1; default rand.Float64
	Log    *slog.Logger     // default slog.Default()
}

// Service is the deliver function. Its methods may be called concurrently.
type Service struct {
	o     Options
	hooks *hooks
	feed  *feed.Feed

	places    *places
	outbox    outbox
	open      windows
	breakers  breakers
	disabling versions
	tally     tally
}

// New checks the options and returns a Service that has not read anything yet.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Events == nil || o.Retry == nil || o.Action == nil {
		return nil, errors.New("deliver: Store, Events, Retry and Action are required")
	}
	if o.Schedule == nil {
		o.Schedule = retry.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	h := newHooks()
	return &Service{
		o:      o,
		hooks:  h,
		places: newPlaces(),
		outbox: outbox{lead: make(chan struct{}, 1)},
		feed:   feed.New(o.Store, hook.FeedHooks, []string{hook.KindHook, hook.KindSource}, h, o.Now),
	}, nil
}

// Warm brings the hooks up to date before the first batch: one signed call
// during a cold start, and the first load. An error is not fatal: the first
// batch tries again.
func (s *Service) Warm(ctx context.Context) error {
	if err := s.feed.Refresh(ctx); err != nil {
		return fmt.Errorf("load hooks: %w", err)
	}
	return nil
}

func (s *Service) nowMS() int64 { return s.o.Now().UnixMilli() }

// leaseMS returns the end of a claim made now: no attempt of an invocation
// outlives the invocation, so its deadline is the claim's end.
func (s *Service) leaseMS(ctx context.Context) int64 {
	if end, ok := ctx.Deadline(); ok {
		return end.UnixMilli()
	}
	return s.o.Now().Add(lease).UnixMilli()
}
