// Package healthprobe watches the targets of upstreams and emits
// balancer/health when one goes down or comes back.
//
// It decides as Kong's active health checks do, but
// from a schedule and with its state in a store: woken once a period, it
// probes what is due. While nothing changes it writes nothing; what is to be
// written is written under a lease, and judged once more by what is stored
// then. An event is part of the state's own write before it is
// sent, so that it is sent at least once whatever dies in between, and always
// under the same id.
package healthprobe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"eventhooks/internal/eventid"
	"eventhooks/internal/feed"
	"eventhooks/internal/hook"
)

// Store keeps what healthprobe reads and remembers. Reads are consistent; now
// is Unix milliseconds.
type Store interface {
	feed.Store
	// Probes returns all that is stored of an upstream's probes.
	Probes(ctx context.Context, upstreamID string, now int64) (hook.ProbeView, error)
	// AcquireProbe takes an upstream's lease until untilMS; false when another
	// run holds it.
	AcquireProbe(ctx context.Context, upstreamID string, now, untilMS int64) (hook.ProbeLease, bool, error)
	// ReleaseProbe stores the lease's Summary and ends it; hook.ErrStale when
	// another run has taken over.
	ReleaseProbe(ctx context.Context, l hook.ProbeLease, now int64) error
	// PutProbeState stores a state; hook.ErrStale when another run has taken
	// over.
	PutProbeState(ctx context.Context, l hook.ProbeLease, s hook.ProbeState, now int64) error
	// DeleteProbeState forgets one under the same condition.
	DeleteProbeState(ctx context.Context, l hook.ProbeLease, address string, now int64) error
	// DeleteHealthOrder forgets an order under the same condition.
	DeleteHealthOrder(ctx context.Context, l hook.ProbeLease, orderID string, now int64) error
	// ProbedUpstreams returns the ids of the upstreams that have states.
	ProbedUpstreams(ctx context.Context, now int64) ([]string, error)
}

// Queue takes events to deliver.
type Queue interface {
	// Send returns the indexes of the messages that are not on the queue, and
	// why; nil when all are.
	Send(ctx context.Context, msgs []hook.Message) (failed []int, err error)
}

// Prober checks one address, within the probe's Timeout. Its result is looked
// at only while ctx lives.
type Prober interface {
	Probe(ctx context.Context, p hook.Probe) hook.ProbeResult
}

// Resolver finds the addresses of a name; network is "ip4" or "ip6". *net.Resolver is
// one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Shards runs a part of a run in another process.
type Shards interface {
	// Invoke returns nil once that process will run: not when it has.
	Invoke(ctx context.Context, part hook.UpstreamRange) error
}

// Options of a Service.
type Options struct {
	Store  Store  // required
	Queue  Queue  // required: of events
	Prober Prober // required

	// Resolver finds addresses of targets' names; default net.DefaultResolver.
	// It is asked for each family by itself.
	Resolver Resolver
	// SelfCheck makes sure of the road from here when every probe of a run has
	// failed, of at least two addresses: if it fails too, the run judges
	// nothing. nil: failures are always believed.
	SelfCheck func(context.Context) error
	// Shards takes the parts of a run over more targets than one process is
	// meant for. nil: one process probes them all.
	Shards Shards
	// Period is how often Run is called; default a minute. Targets with a
	// shorter interval are probed several times within one run.
	Period time.Duration
	Now    func() time.Time   // default time.Now
	IDs    *eventid.Generator // of events; default one with Now
	Log    *slog.Logger       // default slog.Default()
	// Metrics is given the counts of each run once it is over; nil: nobody
	// counts.
	Metrics func(counts map[string]int64)
}

// Numbers of a run.
const (
	// leaseTime is how long after its beginning a run has an upstream to itself
	// once it has something to write. It is longer than a run may last; a run
	// that died holds up the next one that long.
	leaseTime = 70 * time.Second
	// leaseMargin is how long before the lease's end the last probe must have
	// ended.
	leaseMargin = 5 * time.Second
	// runMargin is how long before its deadline a run ends its last probe, to
	// write down what it saw.
	runMargin = 5 * time.Second
	// maxCalls is the number of store calls under way at once in a run.
	maxCalls = 16
	// maxSlack is how much earlier than its interval a target may be probed,
	// because schedules are not exact: without it every second run would come
	// a moment too early.
	maxSlack = 5 * time.Second
)

// Service probes. It is safe for concurrent use, also of several processes on
// one store: what they see at the same time counts once.
type Service struct {
	o      Options
	config *config
	feed   *feed.Feed
	memory memory
}

// New returns a service that has read nothing yet. The error names an option
// that is missing.
func New(o Options) (*Service, error) {
	switch {
	case o.Store == nil:
		return nil, errors.New("healthprobe: Store is missing")
	case o.Queue == nil:
		return nil, errors.New("healthprobe: Queue is missing")
	case o.Prober == nil:
		return nil, errors.New("healthprobe: Prober is missing")
	case o.Period < 0:
		return nil, errors.New("healthprobe: Period is negative")
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Period == 0 {
		o.Period = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.IDs == nil {
		o.IDs = eventid.NewGenerator(o.Now, nil)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Service{o: o, config: &config{}}
	s.config.Reset()
	s.feed = feed.New(o.Store, hook.FeedUpstreams, []string{hook.KindUpstream, hook.KindTarget}, s.config, o.Now)
	return s, nil
}

// run is one call of Run.
type run struct {
	*Service
	began time.Time // before the configuration was read
	// end is when the last probe of the run must have ended. roundsEnd is the
	// same for the further rounds, which must not reach into the next run.
	end, roundsEnd time.Time
	places         *places
	calls          chan struct{} // a place for each store call under way
	names          *names
	belief         *belief
	tally          tally
}

// Run probes what is due of the upstreams of a part, once or, for intervals
// below the period, again and again until the period or ctx's time is over.
// First it sends what an earlier run raised and did not live to send, even for
// an upstream that is gone, and carries out what operators ordered.
//
// The scheduled run is that of the zero range. When there are more targets than
// one process is meant for, it probes none itself and hands all upstreams in
// parts to Options.Shards.
//
// What goes wrong with one upstream does not keep the others from being
// probed; the error joins what went wrong. That another run is at work on an
// upstream is no error.
func (s *Service) Run(ctx context.Context, part hook.UpstreamRange) error {
	r := s.begin(ctx)
	defer r.report()

	// Who has states is asked first: an upstream that is made and probed
	// between the two questions must not look like one that is gone.
	left, errLeft := s.o.Store.ProbedUpstreams(ctx, s.o.Now().UnixMilli())
	if errLeft != nil {
		errLeft = fmt.Errorf("list probed upstreams: %w", errLeft)
	}
	if err := s.feed.Refresh(ctx); err != nil {
		return errors.Join(errLeft, fmt.Errorf("read upstreams: %w", err))
	}
	plans, unreadable, errConfig := s.config.plans(part)
	s.memory.keep(s.config.alive)
	if parts := cut(plans, maxTargets); s.o.Shards != nil && part == (hook.UpstreamRange{}) && len(parts) > 1 {
		return errors.Join(errLeft, errConfig, s.invoke(ctx, parts))
	}
	r.belief = newBelief(s.o.SelfCheck, s.o.Now, len(plans))

	all := faults{errs: []error{errLeft, errConfig}}
	var wg sync.WaitGroup
	do := func(id string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				all.fail(fmt.Errorf("upstream %s: %w", id, err))
			}
		})
	}
	alive := make(map[string]bool, len(plans))
	for _, p := range plans {
		alive[p.ID] = true
		do(p.ID, func() error { return r.visit(ctx, p) })
	}
	for _, id := range left {
		if !alive[id] && !unreadable[id] && contains(part, id) {
			do(id, func() error { return r.bury(ctx, id) })
		}
	}
	wg.Wait()
	return errors.Join(all.errs...)
}

func (s *Service) begin(ctx context.Context) *run {
	now := s.o.Now()
	r := &run{
		Service:   s,
		began:     now,
		end:       now.Add(leaseTime - leaseMargin),
		roundsEnd: now.Add(s.o.Period - slack(s.o.Period)),
		places:    newPlaces(),
		calls:     make(chan struct{}, maxCalls),
		names:     newNames(s.o.Resolver),
	}
	if end, ok := ctx.Deadline(); ok {
		// A context counts by the real clock.
		left := time.Until(end)
		r.end = earlier(r.end, now.Add(left-min(runMargin, left/4)))
	}
	r.roundsEnd = earlier(r.roundsEnd, r.end)
	return r
}

// faults collects errors that do not end what they happened in. It is safe for
// concurrent use.
type faults struct {
	mu   sync.Mutex
	errs []error
}

func (f *faults) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// take waits for a place and returns what gives it back.
func take(places chan struct{}) (free func()) {
	places <- struct{}{}
	return func() { <-places }
}
